# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5. Grad-CAM: student and teacher
#
# In which parts of an image does a network find its evidence? Does a distilled student look at the same parts as its
# teacher? Class activation maps answer with a picture. Such pictures are persuasive, so in this notebook each comes
# with numbers. The data set has a known answer: in `bands` the evidence is inside a disc and nowhere else.

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
from famviz.analysis import cam_scores
from famviz.figures import cam, style

# %%
RUNS = os.environ.get("FAMKD_RUNS", "runs")
RUN = ""  # path of a run; empty: bands/student by fam, which is trained if it is missing

# %%
recipe = famkd.load_recipe("bands/student", "--method", "fam")
run = famkd.Run.open(RUN) if RUN else famkd.train(recipe, runs=RUNS, resume=True)
nets = networks.networks_of_runs(run)
print(", ".join(nets))

# %% [markdown]
# ## Maps of several images
#
# A row is an image and a column is a network. Each picture shows the map for the correct class on top of the image.
# The white line is the edge of the disc.
#
# Each network has its own range of colours, printed above its column in units of the class score. Within a column, a
# pale map means little evidence. Between columns, compare the printed ranges. If a network predicts another class,
# that class is printed in red below the picture.

# %%
cam.grid_figure(run, 4)

# %% [markdown]
# `rank r` and `IoU` say how similar a student's map is to the teacher's: the rank correlation over pixels, and the
# overlap of the strongest fifth of the pixels. The values in brackets are what two maps have in common by chance: the
# student's map is compared with the teacher's map of *another* image. They are well above 0, because all discs, and
# so all maps, are close to the centre.
#
# With the same range for all networks you see which network has how much evidence. A network that is less sure of its
# class is darker. Many tools stretch every map to its own maximum, so that even a thousandth of the evidence looks
# the same; here that is `scale="own"`.

# %%
cam.grid_figure(run, 2, scale="shared", overlay=False)

# %% [markdown]
# ## Numbers over many images
#
# Four images prove nothing, so we use 200. Below the row of each network is a row with the values that it would get
# by chance.
#
# - *energy inside*: the share of the map inside the true disc. *pointing*: how often the maximum of the map is
#   inside.
# - *insertion* and *deletion*: the mean probability of the class while the pixels with the highest values are shown,
#   or hidden. If the map shows what the network uses, insertion is high and deletion is low. By chance means that the
#   pixels come in random order. That value also depends on the network, so look at *minus chance*.

# %%
shots = networks.run_images(run, 200)
masks = bands_truth().masks[:200] if run.recipe.data.name == "bands" else None
shown = cam.compare(nets, shots.images, shots.labels, masks=masks, steps=8)

famviz.Table(shown.rows())

# %% [markdown]
# Read the table row by row. To agree with the teacher is good only if the teacher is right, so look at the teacher's
# `energy inside` first. A student may agree more and still point to the wrong place more often. Insertion and
# deletion depend on the confidence of each network: compare a row with its own chance values, not with another
# network.
#
# How precise are these numbers? The spread over images gives the standard error of each mean.

# %%
keys = ["rank correlation", "insertion"]
if masks is not None:
    keys.append("energy inside")
rows = []
for name, figures in shown.figures.items():
    for key in keys:
        values = figures[key][~np.isnan(figures[key])]
        error = values.std() / len(values) ** 0.5
        rows.append({"network": name, "figure": key, "mean": values.mean(), "standard error": error})
famviz.Table(rows)

# %% [markdown]
# ## Which method, which layer
#
# There are five methods to compute the maps. EigenCAM does not depend on the class: it shows the strongest pattern of
# the activations, for whichever class. ScoreCAM needs no gradient, but a forward pass for each channel. Do they agree
# with the known truth?

# %%
first, student = next(iter(nets)), list(nets)[-1]  # the teacher, if there is one, and the student of the run
pair = {name: nets[name] for name in (first, student)}
few = slice(0, 32)
options = {"masks": None if masks is None else masks[few], "steps": 0}
rows = []
for method in cam.METHODS:
    found = cam.compare(pair, shots.images[few], shots.labels[few], method=method, **options)
    rows += [{"method": method} | row for row in found.rows() if "chance" not in row["network"]]
famviz.Table(rows)

# %% [markdown]
# The layer matters as much as the method. Deep layers contain the class but are coarse. Shallow layers are fine but
# contain little about the class. In the next figure each picture has its own range, because the strength differs
# between layers.
#
# For a shallow layer hardly a pixel may be lit. Grad-CAM weighs a channel by its mean gradient over the whole map. If
# a channel responds to many classes, this mean is nearly zero, or even negative for the class. The table below uses
# 64 images.

# %%
few, found = slice(0, 64), {}
for layer in default_taps(nets[first], "stages", shots.images[:2]):
    found[layer] = cam.cam(nets[first], shots.images[few], "true", layer=layer, labels=shots.labels[few])

pictures = style.figure(9.5, 2.6)
axes = pictures.subplots(1, 1 + len(found))
axes[0].imshow(shots.pixels[0])
axes[0].set_title(shots.classes[shots.labels[0]], fontsize=8)
for ax, (layer, result) in zip(axes[1:], found.items()):
    pictures.colorbar(ax.imshow(result.maps[0], cmap="inferno"), ax=ax, shrink=0.7)
    ax.set_title(f"{layer}, {result.evidence.shape[1]} x {result.evidence.shape[2]}")
for ax in axes:
    ax.axis("off")
    if masks is not None:
        ax.contour(masks[0], [0.5], colors="white", linewidths=1)
pictures

# %%
rows = []
for layer, result in found.items():
    lit, largest = 100 * (result.maps > 0).mean(), np.median(result.maps.max((1, 2)))
    rows.append({"layer": layer, "pixels with evidence, %": lit, "largest, median": largest})
    if masks is not None:
        rows[-1]["energy inside"] = cam_scores.mean(cam_scores.energy_inside(result.maps, masks[few]))
famviz.Table(rows)

# %% [markdown]
# ## Other classes, and empty maps
#
# You can ask for the evidence of any class. For the class that the network considers least likely, there is little
# positive evidence. If there is none at all, the map is zero, and the result says why in words, so that you do not
# see just a black square. We ask for the least likely class of 200 images and look at the emptiest maps.

# %%
net, images = nets[first], shots.images
with torch.no_grad():
    least_likely = torch.cat([net(part) for part in images.split(100)]).argmin(1)
result = cam.cam(net, images, least_likely, names=shots.classes)
strongest = result.maps.max((1, 2))
for at in strongest.argsort()[:3]:
    found = result.why_empty[at] or f"evidence of at most {strongest[at]:.2g}"
    print(f"image {at}, p {result.confidence[at]:.4f}:", found)
empty = np.mean([bool(words) for words in result.why_empty])
print(f"empty maps: {empty:.0%}, median of the maxima: {np.median(strongest):.2g}")

# %% [markdown]
# ## Comparison with other methods
#
# Is a student that learned from feature maps more similar to its teacher than one that learned from class
# probabilities? We train the same student with `kd` (half a minute, the first time) and compare it with all other
# finished runs in the same folder.

# %%
if not RUN:
    famkd.train(famkd.load_recipe("bands/student", "--method", "kd", "--no_baseline"), runs=RUNS, resume=True)
others = [famkd.Run(path) for path in find_runs([run.path.parent]) if path != run.path]
distilled = [each for each in others if each.finished and each.recipe.method_names]
all_nets = networks.networks_of_runs([run, *distilled])
few = slice(0, 64)
options = {"masks": None if masks is None else masks[few], "steps": 0}
famviz.Table(cam.compare(all_nets, shots.images[few], shots.labels[few], **options).rows())

# %% [markdown]
# Is a student that looks at the right place more often right? A simple test: is more of the student's evidence inside
# the disc for the test images that it classifies correctly?

# %%
rows = []
right = shown.results[student].predicted == shots.labels.numpy()
for name, chosen in (("right", right), ("wrong", ~right)) if masks is not None else ():
    inside = cam_scores.mean(shown.figures[student]["energy inside"][chosen])
    rows.append({"the prediction was": name, "images": int(chosen.sum()), "energy inside": inside})
famviz.Table(rows, otherwise="Where the evidence is, is known on bands only.")

# %% [markdown]
# This is a correlation and not a cause: images with a strong grating are easier to classify and easier to localise.
#
# **Exercise.** Ask for the class that the *teacher* predicts (`target="reference"`), on images for which it is wrong.
# Do the students look at the same wrong place?
