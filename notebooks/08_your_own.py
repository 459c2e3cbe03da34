# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 8. Your own model and data
#
# **Question.** How do you distil a network of your own, on images of your own, by a method of your own?
#
# famkd learns what it has to know about a network by running it: it sends one batch through the network, records
# where the feature maps change their size, and builds frequency filters of the right shapes. So any PyTorch module
# can be a student or a teacher.
#
# This notebook uses a network and images of its own. Then it writes the training loop by hand, and a new method.

# %%
import os
from pathlib import Path

import numpy as np
import torch
from torch import nn

import famkd
import famviz
from famkd.data.archives import npz
from famkd.distill.distiller import Distiller
from famkd.features.taps import default_taps
from famkd.tasks import Classification
from famviz import networks, plots
from famviz.analysis import answers
from famviz.figures import cam

# %%
RUNS = os.environ.get("FAMKD_RUNS", "runs")
RUN = ""  # path of a run to look at in the end; empty: the run trained below

# %% [markdown]
# ## Your data
#
# The simplest format is an `.npz` file with `x_train`, `y_train`, `x_test`, `y_test` and, optionally, `class_names`.
# Images are bytes of shape (N, H, W) or (N, H, W, 3), and labels are integers from 0. You can also use folders of
# images (`--data folder --root PATH@64`).
#
# Our images are 16 x 16 pictures of a cross, a ring or a square, in noise and at random positions.


# %%
def draw(kind, rng):
    y, x = np.mgrid[:16, :16] - rng.uniform(5, 10, 2)[:, None, None]
    distance = np.maximum(abs(x), abs(y))
    cross = (np.minimum(abs(x), abs(y)) < 1) & (distance < 4)
    ring = abs(np.hypot(x, y) - 3.5) < 0.8
    square = abs(distance - 3) < 0.8
    shape = (cross, ring, square)[kind]
    return np.clip(90 + 70 * shape + 35 * rng.standard_normal((16, 16)), 0, 255).astype(np.uint8)


rng = np.random.default_rng(0)
y = rng.integers(0, 3, 800)
x = np.stack([draw(kind, rng) for kind in y])

# %%
file = Path(RUNS) / "own" / "shapes.npz"
file.parent.mkdir(parents=True, exist_ok=True)
names = np.array(["cross", "ring", "square"])
np.savez(file, x_train=x[:600], y_train=y[:600], x_test=x[600:], y_test=y[600:], class_names=names)

# %% [markdown]
# ## Your model
#
# The model is an ordinary module that is built from the number of classes. If you add it to the table `famkd.MODELS`,
# recipes can use it by name. All models of timm and torchvision are available already, as `timm:NAME` and
# `torchvision:NAME`.


# %%
class Small(nn.Module):
    def __init__(self, classes, width=8):
        super().__init__()
        self.body = nn.Sequential(
            self.block(3, width, stride=1),
            self.block(width, 2 * width, stride=2),
            self.block(2 * width, 4 * width, stride=2),
        )
        self.classifier = nn.Linear(4 * width, classes)

    def block(self, c_in, c_out, stride):
        return nn.Sequential(nn.Conv2d(c_in, c_out, 3, stride, 1), nn.BatchNorm2d(c_out), nn.ReLU())

    def forward(self, x):
        return self.classifier(self.body(x).mean((2, 3)))


# %%
famkd.MODELS["small"] = Small
famkd.MODELS["wide"] = lambda classes: Small(classes, width=32)

# %% [markdown]
# Which layers would famkd compare? These layers are called *taps*. They are found by running the model. To use
# others, pass their module paths with `--student.taps` and `--teacher.taps`.

# %%
print(default_taps(Small(3), "stages", torch.zeros(2, 3, 16, 16)))

# %% [markdown]
# ## Your recipe
#
# A recipe is a YAML file with the settings that differ from the defaults. We write two of them: one for the teacher,
# and one for the pair, which names the teacher's run. With `baseline: true` the student is also trained alone, for
# comparison.

# %%
DATA = f"data: {{name: npz, root: '{file}', batch_size: 50}}\n"
OPTIM = "optim: {epochs: 12, lr: 0.1, schedule: cosine, lr_warmup: 2}\n"
teacher = file.with_name("teacher.yaml")
teacher.write_text("name: own/teacher\nstudent: {model: wide}\n" + DATA + OPTIM)
taught = famkd.train(famkd.load_recipe(teacher), runs=RUNS, resume=True)
print(f"teacher: {taught.metrics()[-1]['top1']:.1f} %")

# %%
pair = file.with_name("pair.yaml")
text = f"name: own/pair\nstudent: {{model: small}}\nteacher: {{model: wide, weights: '{taught.path}'}}\n"
method = "method: fam_review\nbaseline: true\nfam_review: {warmup: 2, weight: 0.1}\nfam: {warmup: 2, weight: 0.1}\n"
pair.write_text(text + method + DATA + OPTIM)
run = famkd.train(famkd.load_recipe(pair), runs=RUNS, resume=True)

# %%
alone = networks.student_alone(run)
runs = {"teacher": taught, "student alone": alone, "student by fam_review": run}
famviz.Table({"": name, "last epoch top-1 %": each.metrics()[-1]["top1"]} for name, each in runs.items())

# %% [markdown]
# Did distillation help? Not measurably. Here the student alone is nearly as good as its teacher, so there is little
# to learn from it. With the seeds 0, 1 and 2 we got 93.0, 96.0, 95.0 % alone, 95.5, 93.0, 96.0 % by `fam_review` and
# 96.0, 95.0, 94.0 % by `fam`. With 200 test images these do not differ.
#
# Distillation can also hurt. With the default `weight: 1`, the distance to the teacher's maps is larger than the
# student's own loss for most of the twelve short epochs, and seed 0 ended at 81.0 %. With your own pair, look at both
# losses (below) first. The weight is the first setting to tune.
#
# Nowhere did we have to write how many channels a layer has. In the terminal the same training is `famkd train
# pair.yaml --plugins models.py`, where `models.py` is a file with the model and the two `MODELS` lines.
#
# All views of famviz can show the result.

# %%
run = famkd.Run.open(RUN) if RUN else run
both = [each for each in (networks.student_alone(run), run) if each]
losses, accuracy = plots.training_curves(famviz.open(both))
losses

# %%
filters = famviz.open(run).filters
if filters:
    strongest = np.unravel_index(filters[0].energy().argmax(), filters[0].channels)
    display(plots.overview(filters[0], tuple(map(int, strongest))))
else:
    print(f"{run.recipe.method} has no frequency filters.")

# %%
cam.grid_figure(run, 3)

# %% [markdown]
# ## Your own training loop
#
# If you already have a training loop, use only the `Distiller`. Called with a batch, it returns all losses by name.
# Its parameters are those of the student and of the method, so one optimizer trains both. Here is a complete loop in
# plain PyTorch.

# %%
data = npz(str(file))
pixels = torch.from_numpy(data.x_train).permute(0, 3, 1, 2) / 255
pixels = (pixels - torch.tensor(data.mean)[:, None, None]) / torch.tensor(data.std)[:, None, None]
labels = torch.from_numpy(data.y_train)
batches = [famkd.Batch(pixels[at], labels[at], at) for at in torch.arange(len(labels)).split(50)]

# %%
big = Small(3, width=32)
big.load_state_dict(taught.student_state())
distiller = Distiller(Classification(), Small(3), big, {"fam": famkd.METHODS["fam"]}, probe=batches[0])
optimizer = torch.optim.SGD(distiller.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
for epoch in range(3):
    for batch in batches:
        losses = distiller.train()(batch)[0]
        loss = losses["task"]["ce"] + losses["fam"]["mse"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch + 1}: ce {losses['task']['ce']:.3f}, mse {losses['fam']['mse']:.3f}")

# %% [markdown]
# ## Your own method
#
# A method is a class whose `forward` returns losses by name. The keyword-only arguments of its `__init__` become
# settings of the recipe and appear in `--help`. The method below compares amplitude spectra and ignores phases. It is
# a frequency loss without a filter, and we use it together with `fam`.


# %%
class Amplitudes(famkd.Method):
    """Match the mean amplitude spectrum of the last stage, relative to its mean.

    Args:
        power: exponent of the amplitude.
    """

    wants = "stages"

    def __init__(self, probe: famkd.Probe, *, power: float = 1.0):
        super().__init__()
        self.power = power

    def spectrum(self, view: famkd.View) -> torch.Tensor:
        amplitude = torch.fft.rfft2(view.feats[-1]).abs().pow(self.power).mean(1)
        return amplitude / amplitude.mean((1, 2), keepdim=True)

    def forward(self, student, teacher, batch):
        return {"amplitudes": (self.spectrum(student) - self.spectrum(teacher)).square().mean()}


# %%
famkd.METHODS["amplitudes"] = Amplitudes
flags = ["--method", "fam+amplitudes", "--amplitudes.power", "0.5", "--name", "own/both", "--no_baseline"]
both = famkd.train(famkd.load_recipe(pair, *flags), runs=RUNS, resume=True)
famviz.Table(both.metrics()[-1:])

# %% [markdown]
# ## Answer

# %%
print(answers.accuracy_words([run, both]))

# %% [markdown]
# Does it help? With one seed and 200 test images this notebook cannot answer that; notebook 6 shows how to find out.
#
# **Exercise.** Use `torchvision:resnet18` as the teacher, without training it. What does a student learn from a
# teacher that knows nothing? You see it in the losses before you see it in the accuracy.
