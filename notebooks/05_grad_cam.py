# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5. Grad-CAM: student against teacher
#
# Where does a network see its evidence, and does a distilled student look where its teacher looks? Class activation
# maps answer with a picture. Pictures of this kind persuade easily, so each comes here with figures, and the data has
# a known answer: in `bands` the evidence lies inside a disc and nowhere else.

# %%
import os

import numpy as np
import torch

import famkd
import famviz
from famkd.data.bands import bands_truth
from famkd.groups import find_runs
from famkd.taps import default_taps
from famviz import cam, faithfulness, networks, style

# %%
RUNS = os.environ.get("FAMKD_RUNS", "runs")
RUN = ""  # a run of yours; left empty, `bands/student` by `fam`, which is trained where it is missing

# %%
recipe = famkd.load_recipe("bands/student", "--method", "fam")
run = famkd.Run.open(RUN) if RUN else famkd.train(recipe, runs=RUNS, resume=True)
nets = networks.cast(run)
print(", ".join(nets))

# %% [markdown]
# ## One grid
#
# A row per image, a column per network, for the true class. The white line is the truth. All maps share one colour
# range in units of the class score, so a dark map means little evidence, not a different scale; many tools stretch
# every map to its own maximum, and then a network with a thousandth of the evidence looks the same.

# %%
cam.grid_figure(run, 4)

# %% [markdown]
# `rank r` and `IoU` say how far a student's maps agree with the teacher's: rank correlation over pixels, and overlap
# of the strongest fifth. Stretched, the same maps show shape only:

# %%
cam.grid_figure(run, 2, scale="own")

# %% [markdown]
# ## Figures over many images
#
# Four images prove nothing. Over 200, with a row for what a map that says nothing would get:
#
# - *energy inside*: share of the map within the true disc; *pointing*: how often the maximum falls into it.
# - *insertion* and *deletion*: mean probability of the class while the map's best pixels are shown, or hidden. A map
#   that is true to its network has high insertion and low deletion.

# %%
shots = networks.run_images(run, 200)
masks = bands_truth().masks[:200] if run.recipe.data.name == "bands" else None
shown = cam.compare(nets, shots.images, shots.labels, masks=masks, steps=8)

famviz.Table(shown.rows())

# %% [markdown]
# Read it row by row. Agreement with the teacher is worth something only if the teacher is right, so look at its own
# `energy inside` first. A student may agree more and point worse. And insertion and deletion are on the scale of each
# network's own confidence: compare a row with chance, not with another network.
#
# How sure are these figures? The spread over images gives the standard error of each mean.

# %%
rows = []
for name, figures in shown.figures.items():
    for key in ("rank correlation", "insertion", *(("energy inside",) if masks is not None else ())):
        known = figures[key][~np.isnan(figures[key])]
        rows.append(
            {"network": name, "figure": key, "mean": known.mean(), "standard error": known.std() / len(known) ** 0.5}
        )
famviz.Table(rows)

# %% [markdown]
# ## Which method, which layer
#
# Five methods by name. EigenCAM knows no class: it shows the strongest pattern of the activations, whoever it speaks
# for. ScoreCAM needs no gradient and a forward pass per channel. Do they agree about the truth?

# %%
first, student = next(iter(nets)), list(nets)[-1]  # the teacher, where there is one, and the run's student
few, rows = slice(0, 32), []
over = {"masks": None if masks is None else masks[few], "steps": 0}
for method in cam.METHODS:
    pair = {name: nets[name] for name in (first, student)}
    found = cam.compare(pair, shots.images[few], shots.labels[few], method=method, **over)
    rows += [{"method": method} | row for row in found.rows() if row["network"] != "chance"]
famviz.Table(rows)

# %% [markdown]
# The layer matters as much. Deep layers know the class and are coarse; shallow ones are fine and know little of it.

# %%
pictures = style.figure(9, 2.5)
axes = pictures.subplots(1, 4)
axes[0].imshow(shots.pixels[0])
for ax, layer in zip(axes[1:], default_taps(nets[first], "stages", shots.images[:2])):
    result = cam.cam(nets[first], shots.images[:1], "true", layer=layer, labels=shots.labels[:1])
    ax.imshow(result.maps[0], cmap="inferno")
    ax.set_title(f"{layer}, {result.evidence.shape[1]} x {result.evidence.shape[2]}")
for ax in axes:
    ax.set(xticks=[], yticks=[])
pictures

# %% [markdown]
# ## Which class, and maps that are empty
#
# The question can be about any class. The one that the network rejects most has little positive evidence; where there
# is none at all, the map is zero and the result says why in words instead of showing a black square.

# %%
net, images = nets[first], shots.images[:8]
with torch.no_grad():
    rejected = net(images).argmin(1)
result = cam.cam(net, images, rejected)
for at in range(3):
    print(
        f"image {at}, class {rejected[at]}, p {result.confidence[at]:.4f}:",
        result.words[at] or "some positive evidence",
    )

# %% [markdown]
# ## Across methods
#
# Every finished run that lies beside this one joins the grid, as in notebook 4.

# %%
beside = [famkd.Run(path) for path in find_runs([run.path.parent]) if path != run.path]
everyone = networks.cast([run, *(each for each in beside if each.finished and each.recipe.method_names)])
few = slice(0, 64)
over = {"masks": None if masks is None else masks[few], "steps": 0}
famviz.Table(cam.compare(everyone, shots.images[few], shots.labels[few], **over).rows())

# %% [markdown]
# Does looking at the right place make a better student? Here is a cheap test: among the student's test images, is the
# evidence more often inside the disc where the class was right?

# %%
alike, rows = shown.results[student], []
right = alike.predicted == shots.labels.numpy()
for name, chosen in (("right", right), ("wrong", ~right)):
    if masks is not None:
        inside = faithfulness.mean(shown.figures[student]["energy inside"][chosen])
        rows.append({"the class was": name, "images": int(chosen.sum()), "energy inside": inside})
famviz.Table(rows, otherwise="Where the evidence is, is known on bands only.")

# %% [markdown]
# An association, not a cause: images with a strong grating are easier to get right and easier to locate.
#
# **Exercise.** Ask for the class that the *teacher* predicts, `target="reference"`, on images where it is wrong. Do
# the students look at the same wrong place?
