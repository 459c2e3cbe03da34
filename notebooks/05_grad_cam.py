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
from famkd.compare.groups import find_runs
from famkd.data.bands import bands_truth
from famkd.features.taps import default_taps
from famviz import networks
from famviz.analysis import cam_scores as faithfulness
from famviz.figures import cam, style

# %%
RUNS = os.environ.get("FAMKD_RUNS", "runs")
RUN = ""  # a run of yours; left empty, `bands/student` by `fam`, which is trained where it is missing

# %%
recipe = famkd.load_recipe("bands/student", "--method", "fam")
run = famkd.Run.open(RUN) if RUN else famkd.train(recipe, runs=RUNS, resume=True)
nets = networks.networks_of_runs(run)
print(", ".join(nets))

# %% [markdown]
# ## One grid
#
# A row per image, a column per network, for the true class, laid over the image. The white line is the truth. Each
# network has a colour range of its own, printed above its column in units of the class score: within a column a pale
# map means little evidence, and between columns the printed ends compare. Where a network errs, what it says instead
# stands below in red.

# %%
cam.grid_figure(run, 4)

# %% [markdown]
# `rank r` and `IoU` say how far a student's maps agree with the teacher's: rank correlation over pixels, and overlap
# of the strongest fifth. In brackets is what two maps agree by chance: the student's against the teacher's of *another*
# image. That is well above 0, since discs, and with them all maps, keep to the middle.
#
# One range for all shows who has how much evidence. A network that is less sure of its class is dark here; many tools
# stretch every map to its own maximum, and then a thousandth of the evidence looks the same (`scale="own"`).

# %%
cam.grid_figure(run, 2, scale="shared", overlay=False)

# %% [markdown]
# ## Figures over many images
#
# Four images prove nothing. Over 200, and below each network's row what it would get by chance:
#
# - *energy inside*: share of the map within the true disc; *pointing*: how often the maximum falls into it.
# - *insertion* and *deletion*: mean probability of the class while the map's best pixels are shown, or hidden. A map
#   that is true to its network has high insertion and low deletion. By chance, pixels come in random order; that too
#   depends on the network, so look at *minus chance*.

# %%
shots = networks.run_images(run, 200)
masks = bands_truth().masks[:200] if run.recipe.data.name == "bands" else None
shown = cam.compare(nets, shots.images, shots.labels, masks=masks, steps=8)

famviz.Table(shown.rows())

# %% [markdown]
# Read it row by row. Agreement with the teacher is worth something only if the teacher is right, so look at its own
# `energy inside` first. A student may agree more and point worse. And insertion and deletion are on the scale of each
# network's own confidence: compare a row with its own chance, not with another network.
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
    rows += [{"method": method} | row for row in found.rows() if "chance" not in row["network"]]
famviz.Table(rows)

# %% [markdown]
# The layer matters as much. Deep layers know the class and are coarse; shallow ones are fine and know little of it.
# Each picture has its own range, as strength differs from layer to layer. A shallow layer may light hardly a pixel of
# an image: Grad-CAM weighs a channel by its mean gradient over the whole map, and where a channel answers to many
# classes these means nearly cancel, or turn against the class. The table below is over 64 images.

# %%
few, found = slice(0, 64), {}
for layer in default_taps(nets[first], "stages", shots.images[:2]):
    found[layer] = cam.cam(nets[first], shots.images[few], "true", layer=layer, labels=shots.labels[few])

pictures = style.figure(9.5, 2.6)
axes = pictures.subplots(1, 1 + len(found))
axes[0].imshow(shots.pixels[0])
axes[0].set_title(shots.classes[shots.labels[0]], fontsize=8)
for ax, (layer, result) in zip(axes[1:], found.items()):
    drawn = ax.imshow(result.maps[0], cmap="inferno")
    pictures.colorbar(drawn, ax=ax, shrink=0.7)
    ax.set_title(f"{layer}, {result.evidence.shape[1]} x {result.evidence.shape[2]}")
for ax in axes:
    ax.axis("off")
    ax.contour(masks[0], [0.5], colors="white", linewidths=1) if masks is not None else None
pictures

# %%
rows = []
for layer, result in found.items():
    lit, largest = 100 * (result.maps > 0).mean(), np.median(result.maps.max((1, 2)))
    rows.append({"layer": layer, "pixels with evidence, %": lit, "largest, median": largest})
    if masks is not None:
        rows[-1]["energy inside"] = faithfulness.mean(faithfulness.energy_inside(result.maps, masks[few]))
famviz.Table(rows)

# %% [markdown]
# ## Which class, and maps that are empty
#
# The question can be about any class. The one that the network rejects most has little positive evidence; where there
# is none at all, the map is zero and the result says why in words instead of showing a black square. We ask for the
# most rejected class of 200 images and look at the emptiest maps.

# %%
net, images = nets[first], shots.images
with torch.no_grad():
    rejected = torch.cat([net(part) for part in images.split(100)]).argmin(1)
result = cam.cam(net, images, rejected, names=shots.classes)
strongest = result.maps.max((1, 2))
for at in strongest.argsort()[:3]:
    print(f"image {at}, p {result.confidence[at]:.4f}:", result.words[at] or f"evidence of {strongest[at]:.2g} at most")
print(f"empty: {np.mean([bool(words) for words in result.words]):.0%}, median of the maxima {np.median(strongest):.2g}")

# %% [markdown]
# ## Across methods
#
# Does a student that was taught maps look more like its teacher than one that was taught class probabilities? Here is
# the same student by `kd` (half a minute, the first time), and every other finished run that lies beside this one.

# %%
if not RUN:
    famkd.train(famkd.load_recipe("bands/student", "--method", "kd", "--no_baseline"), runs=RUNS, resume=True)
beside = [famkd.Run(path) for path in find_runs([run.path.parent]) if path != run.path]
everyone = networks.networks_of_runs([run, *(each for each in beside if each.finished and each.recipe.method_names)])
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
