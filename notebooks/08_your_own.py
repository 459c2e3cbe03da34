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
# famkd learns everything about a network by looking: it runs one batch through, notes where the maps change size, and
# builds the frequency filters to fit. So any PyTorch module can be student or teacher. This notebook brings a network
# and images of its own, then goes one layer deeper and writes the training loop by hand.

# %%
import os
from pathlib import Path

import numpy as np
import torch
from torch import nn

import famkd
import famviz
from famkd.data.small import npz
from famkd.distill.distiller import Distiller
from famkd.features.taps import default_taps
from famkd.tasks import Classification
from famviz import networks, plots
from famviz.figures import cam

# %%
RUNS = os.environ.get("FAMKD_RUNS", "runs")
RUN = ""  # a run of yours, to look at in the end; left empty, the one trained below

# %% [markdown]
# ## Your data
#
# The simplest way in is an `.npz` with `x_train`, `y_train`, `x_test`, `y_test` and, if you like, `class_names`:
# bytes (N, H, W) or (N, H, W, 3), and whole numbers from 0. Folders of images work too (`--data folder --root
# PATH@64`).
#
# Ours are 16 x 16 pictures of a cross, a ring and a square in noise, at random places.


# %%
def draw(kind, rng):
    y, x = np.mgrid[:16, :16] - rng.uniform(5, 10, 2)[:, None, None]
    far = np.maximum(abs(x), abs(y))
    shape = [(np.minimum(abs(x), abs(y)) < 1) & (far < 4), abs(np.hypot(x, y) - 3.5) < 0.8, abs(far - 3) < 0.8][kind]
    return np.clip(90 + 70 * shape + 35 * rng.standard_normal((16, 16)), 0, 255).astype(np.uint8)


rng = np.random.default_rng(0)
y = rng.integers(0, 3, 800)
x = np.stack([draw(kind, rng) for kind in y])

# %%
place = Path(RUNS) / "own" / "shapes.npz"
place.parent.mkdir(parents=True, exist_ok=True)
names = np.array(["cross", "ring", "square"])
np.savez(place, x_train=x[:600], y_train=y[:600], x_test=x[600:], y_test=y[600:], class_names=names)

# %% [markdown]
# ## Your model
#
# An ordinary module: its argument is the number of classes. Putting it into the table `famkd.MODELS` gives it a name
# that recipes can use. (From timm and torchvision any model is there already, as `timm:NAME` and `torchvision:NAME`.)


# %%
class Small(nn.Module):
    def __init__(self, classes, width=8):
        super().__init__()
        sizes = [(3, width), (width, 2 * width), (2 * width, 4 * width)]
        self.body = nn.Sequential(*(self.block(*size, stride=1 + (n > 0)) for n, size in enumerate(sizes)))
        self.classifier = nn.Linear(4 * width, classes)

    def block(self, c_in, c_out, stride):
        return nn.Sequential(nn.Conv2d(c_in, c_out, 3, stride, 1), nn.BatchNorm2d(c_out), nn.ReLU())

    def forward(self, x):
        return self.classifier(self.body(x).mean((2, 3)))


famkd.MODELS["small"] = Small
famkd.MODELS["wide"] = lambda classes: Small(classes, width=32)

# %% [markdown]
# Where would famkd look at it? These are the *taps*, found by a probe. If you want others, name any module paths by
# `--student.taps` and `--teacher.taps`.

# %%
print(default_taps(Small(3), "stages", torch.zeros(2, 3, 16, 16)))

# %% [markdown]
# ## A recipe of your own
#
# A recipe is a small YAML file with what differs from the defaults. Two files: one for the teacher, one for the pair,
# which points at the run of the first. `baseline: true` trains the student alone as well, to compare with.

# %%
DATA = f"data: {{name: npz, root: '{place}', batch_size: 50}}\n"
OPTIM = "optim: {epochs: 12, lr: 0.1, schedule: cosine, lr_warmup: 2}\n"
teacher = place.with_name("teacher.yaml")
teacher.write_text("name: own/teacher\nstudent: {model: wide}\n" + DATA + OPTIM)
taught = famkd.train(famkd.load_recipe(teacher), runs=RUNS, resume=True)
print(f"teacher: {taught.metrics()[-1]['top1']:.1f} %")

# %%
pair = place.with_name("pair.yaml")
text = f"name: own/pair\nstudent: {{model: small}}\nteacher: {{model: wide, weights: '{taught.path}'}}\n"
method = "method: fam_review\nbaseline: true\nfam_review: {warmup: 2, weight: 0.1}\nfam: {warmup: 2, weight: 0.1}\n"
pair.write_text(text + method + DATA + OPTIM)
run = famkd.train(famkd.load_recipe(pair), runs=RUNS, resume=True)

# %%
alone = networks.student_alone(run)
scores = {"teacher": taught, "student alone": alone, "student by fam_review": run}
famviz.Table({"": name, "last epoch top-1 %": each.metrics()[-1]["top1"]} for name, each in scores.items())

# %% [markdown]
# Did it help? Not measurably. The student alone is as good as its teacher here, so there is little left to teach: over
# the seeds 0, 1 and 2 we got 93.0, 96.0, 95.0 % alone, 95.5, 93.0, 96.0 % by `fam_review` and 96.0, 95.0, 94.0 % by
# `fam`, the same within the noise of 200 test images. It can also hurt: with the default `weight: 1` the distance to
# the teacher's maps outweighs the student's own loss for most of twelve short epochs, and seed 0 ended at 81.0 %. With
# a pair of your own, look at both losses (below) before you blame the method: the weight is the first thing to tune.
#
# No line so far says how many channels anything has. In the terminal the same would be `famkd train pair.yaml`; there
# the model has to be found by name too, so put the two `MODELS` lines into a script that then calls `famkd.train`.
#
# All of famviz works on the result.

# %%
run = famkd.Run.open(RUN) if RUN else run
pair_of = [each for each in (networks.student_alone(run), run) if each]
losses, accuracy = plots.training_curves(famviz.open(pair_of))
losses

# %%
held = famviz.open(run).filters
strongest = [tuple(map(int, np.unravel_index(each.energy().argmax(), each.channels))) for each in held[:1]]
plots.overview(held[0], *strongest) if held else print(f"{run.recipe.method} has no frequency filters.")

# %%
cam.grid_figure(run, 3)

# %% [markdown]
# ## Your own loop
#
# If you have a training loop already, take only the `Distiller`: called with a batch it answers every loss by name.
# Its parameters are the student's and the method's, so one optimiser holds both. Here in full, for a plain PyTorch
# loop.

# %%
data = npz(str(place))
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
# A method is a class with a `forward` that answers losses; its keyword-only arguments become settings of the recipe
# and show up in `--help`. This one compares amplitude spectra and leaves phases alone: a frequency loss with no
# filter. It stands beside `fam` here.


# %%
class Amplitudes(famkd.Method):
    """Match the mean amplitude spectrum of the last stages, relative to their size.

    Args:
        power: exponent of the amplitude.
    """

    wants = "stages"

    def __init__(self, probe: famkd.Probe, *, power: float = 1.0):
        super().__init__()
        self.power = power

    def forward(self, student, teacher, batch):
        spectra = [torch.fft.rfft2(view.feats[-1]).abs().pow(self.power).mean(1) for view in (student, teacher)]
        own, other = (s / s.mean((1, 2), keepdim=True) for s in spectra)
        return {"amplitudes": (own - other).square().mean()}


# %%
famkd.METHODS["amplitudes"] = Amplitudes
flags = ["--method", "fam+amplitudes", "--amplitudes.power", "0.5", "--name", "own/both", "--no_baseline"]
both = famkd.train(famkd.load_recipe(pair, *flags), runs=RUNS, resume=True)
famviz.Table(both.metrics()[-1:])

# %% [markdown]
# Does it help? On one seed and 200 test images this notebook cannot say; notebook 6 shows how to ask.
#
# **Exercise.** Take `torchvision:resnet18` as the teacher's model, without training it. What does a student learn
# from a teacher that knows nothing? The losses tell before the accuracy does.
