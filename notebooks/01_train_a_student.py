# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1. Train a student from the terminal and read the run
#
# Distillation trains a small network, the *student*, with the help of a large one that is trained already, the
# *teacher*. In this notebook you train such a pair with one command, then read everything that it left on disk. The
# data are 1,797 scans of handwritten digits that come with scikit-learn, 8 x 8 pixels each, so all of it takes about
# a minute on two cores and nothing is downloaded.
#
# `RUNS` is the folder that holds runs. `RUN` is the run that the notebook reads: put the path of one of yours there
# and it reads that one instead.

# %%
import os
import sys
from pathlib import Path

import famkd
import famviz
from famkd import export
from famkd.config.load import differences, flatten
from famviz import plots

# %%
PYTHON = sys.executable
RUNS = os.environ.get("FAMKD_RUNS", "runs")
os.environ |= {"TERM": "dumb", "COLUMNS": "110"}  # a plain terminal: no bar that moves
RUN = ""  # a run of yours, say "runs/cifar100/resnet56-resnet20/fam_review-seed0"; left empty, the one trained below

# %% [markdown]
# ## Train
#
# Lines that start with `!` go to the terminal. There you would type `famkd train quickstart`; `{PYTHON} -m famkd` is
# the same command, of the Python that this notebook runs in.
#
# A *recipe* says who teaches whom and how. `quickstart` names a teacher that does not exist yet, so that is trained
# first, then the student alone for comparison, then the student with its teacher. Run the cell twice: the second time
# everything is there and only the table comes.

# %%
# !{PYTHON} -m famkd train quickstart --resume --runs {RUNS}

# %% [markdown]
# Look at the two lower rows. Same network, same data, same number of epochs: the difference is what the teacher did,
# *with this seed*. The test set has 360 images, so one image is worth 0.28 points. Is the difference more than luck?
# One run cannot tell; notebook 6 repeats it with other seeds.
#
# ## What is on disk
#
# A run is a folder of plain files. No file needs famkd to be read but `resume.pt` and the copy before it, which let a
# broken training go on; when it is done you may delete them.

# %%
path = Path(RUN or f"{RUNS}/quickstart/fam_review-seed0")
for file in sorted(path.rglob("[!.]*")):
    print(f"{file.stat().st_size:>9,}  {file.relative_to(path)}")

# %% [markdown]
# `recipe.yaml` holds every setting, the defaults too. `famkd train` takes it back: a run can always be repeated. All of
# it is long, so here is only what differs from the defaults.

# %%
recipe = famkd.Run.open(path).recipe
defaults = type(recipe)(method=recipe.method)  # of the same method
for key in differences(recipe, defaults):
    print(f"{key}: {flatten(recipe.to_dict()).get(key)}")

# %% [markdown]
# `metrics.jsonl` holds a line per epoch. `task.ce` is the student's own cross-entropy, `fam_review.review` the
# distance between the student's filtered stages and the teacher's, which the loss adds to it.

# %%
run = famkd.Run.open(path)
famviz.Table(run.metrics())

# %% [markdown]
# The same as a picture. A loss of the method that does not fall would mean that the student cannot imitate its
# teacher, or that its weight is too small to matter.

# %%
opened = famviz.open(path)
losses, accuracy = plots.training_curves(opened)
losses

# %% [markdown]
# `timing.jsonl` and `machine.json` say how fast it went and where. Times are kept apart from metrics so that two runs
# of the same seed have the same metrics to the last byte.

# %%
print(run.timing()[-1])
print({key: run.machine[key] for key in ("device", "torch", "command")})

# %% [markdown]
# ## While it trains
#
# A run can be opened while it trains. The dashboard looks at the folder every two seconds and draws what is new; here
# the run is finished, so it draws once. Beside accuracy it shows the filters: more on those in notebook 3.

# %%
famviz.Dashboard(opened)

# %% [markdown]
# ## Measure and take away
#
# `famkd eval` measures the student again from its file; the figure must be that of the last epoch.

# %%
# !{PYTHON} -m famkd eval {path}
print(f"last epoch: {run.metrics()[-1]['top1']:.2f}")

# %% [markdown]
# What you deploy is the student alone. Frequency attention, like most of distillation, exists in training only: the
# exported network has exactly the parameters of a student that was never taught. `to` may also be `onnx` or `pt2`.

# %%
print(export.export(path, "safetensors"))
held, _ = run.method_state()
print(f"numbers that the method keeps, in training only: {sum(t.numel() for t in held.values()):,}")

# %% [markdown]
# ## Read on, and an exercise
#
# 2 explains frequency attention, 3 to 5 look into this run or any other, 6 and 7 ask what each part brings and costs,
# 8 brings your own model and data, 9 the limits.
#
# **Exercise.** `!{PYTHON} -m famkd train quickstart --help` lists every setting. Train with `--method kd`, then with
# `--method kd+fam_review`, and put all beside one another with `famkd compare RUNS/quickstart`. Which of the
# differences would you bet on?
