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
# **Question.** What does a training by distillation take and leave, and is the student better than one trained alone?
#
# Knowledge distillation trains a small network, the *student*, with the help of a large, trained network, the
# *teacher*. In this notebook you train such a pair with one command. Then you read every file that the training
# writes.
#
# The data are 1,797 scans of handwritten digits, 8 x 8 pixels each. They come with scikit-learn, so nothing is
# downloaded. Everything takes about a minute on two cores.
#
# `RUNS` is the folder in which runs are stored. `RUN` is the run that this notebook shows. To show one of your own
# runs, set `RUN` to its path.

# %%
import os
import sys
from pathlib import Path

import famkd
import famviz
from famkd import export
from famkd.config.load import differences, flatten
from famviz import plots
from famviz.analysis import answers

PYTHON = sys.executable
RUNS = os.environ.get("FAMKD_RUNS", "runs")
os.environ |= {"TERM": "dumb", "COLUMNS": "140"}  # a plain, wide terminal without a moving progress bar
RUN = ""  # path of a run, such as "runs/cifar100/resnet56-resnet20/fam_review-seed0"; empty: the run trained below

# %% [markdown]
# ## Train
#
# A line that starts with `!` runs in the terminal. In your own terminal you would type `famkd train quickstart`.
# `{PYTHON} -m famkd` is the same command; it uses the Python of this notebook.
#
# A *recipe* says which networks are trained, on which data, and by which method. The recipe `quickstart` trains three
# networks: first the teacher, then the student without a teacher (for comparison), then the student with the teacher.
#
# You can run the cell again. Runs that are finished are not repeated, so the second time only the table is printed.

# %%
# !{PYTHON} -m famkd train quickstart --resume --runs {RUNS}

# %% [markdown]
# Compare the last two rows. Both are the same network, with the same data, seed and number of epochs, without and with
# the teacher. The test set has 360 images, so one image is worth 0.28 points. What came out for this run:

# %%
path = Path(RUN or f"{RUNS}/quickstart/fam_review-seed0")
print(answers.accuracy_words(path))

# %% [markdown]
# Where the two are equal, or differ by a few images, this run says nothing about the teacher. Notebook 6 repeats the
# training with other seeds, and notebook 3 shows three seeds on images that are harder than these.
#
# ## The files of a run
#
# A run is a folder of plain files. You can read all of them without famkd, except `resume.pt` and its previous
# version. Those two are needed to continue an interrupted training; delete them when the training is finished if you
# need the space.

# %%
for file in sorted(path.rglob("[!.]*")):
    print(f"{file.stat().st_size:>9,}  {file.relative_to(path)}")

# %% [markdown]
# `recipe.yaml` contains every setting, including the defaults. `famkd train` accepts this file, so every run can be
# repeated. The file is long, so we print only the settings that differ from the defaults.

# %%
recipe = famkd.Run.open(path).recipe
defaults = type(recipe)(method=recipe.method)
settings = flatten(recipe.to_dict())
for key in differences(recipe, defaults):
    print(f"{key}: {settings.get(key)}")

# %% [markdown]
# `metrics.jsonl` contains one line per epoch. `task.ce` is the student's own cross-entropy. `fam_review.review` is
# the loss of the method: the distance between the student's filtered feature maps and the teacher's. Both are part of
# the total loss.

# %%
run = famkd.Run.open(path)
famviz.Table(run.metrics())

# %% [markdown]
# Here are the same numbers as curves. The loss of the method should fall. If it does not, the student is not able to
# imitate the teacher, or the weight of the method is too small.

# %%
opened = famviz.open(path)
losses, accuracy = plots.training_curves(opened)
losses

# %% [markdown]
# `timing.jsonl` says how long each epoch took, and `machine.json` on which machine. Times are stored in a file of
# their own, so that two runs with the same seed have identical `metrics.jsonl` files.

# %%
print(run.timing()[-1])
print({key: run.machine[key] for key in ("device", "torch", "command")})

# %% [markdown]
# ## Watch a training
#
# You can open a run while it trains. The dashboard reads the folder every two seconds and draws what is new. This run
# is finished, so it is drawn only once. The dashboard also shows the filters; notebook 3 explains them.

# %%
famviz.Dashboard(opened)

# %% [markdown]
# ## Evaluate and export
#
# `famkd eval` loads the student from its file and evaluates it again. The result must be equal to the last epoch's.

# %%
# !{PYTHON} -m famkd eval {path}
print(f"last epoch: {run.metrics()[-1]['top1']:.2f}")

# %% [markdown]
# For deployment you export the student alone. Like most distillation methods, frequency attention is used only during
# training: the exported network has exactly the parameters of a student trained without a teacher. Instead of
# `safetensors` you can also export to `onnx` or `pt2`.

# %%
print(export.export(path, "safetensors"))
method_state, _ = run.method_state()
count = sum(tensor.numel() for tensor in method_state.values())
print(f"parameters and buffers of the method, used in training only: {count:,}")

# %% [markdown]
# ## Answer

# %%
trained = sum(value.numel() for value in run.student_state().values())
seconds = sum(row["seconds"] for row in run.timing())
print(f"{run.path.name} took {seconds:.0f} s for {len(run.metrics())} epochs.", answers.accuracy_words(run))
print(f"The student keeps {trained:,} numbers. The {count:,} of the method are used in training only.")

# %% [markdown]
# ## Next steps and an exercise
#
# Notebook 2 explains frequency attention. Notebooks 3 to 5 look into this run or any other. Notebooks 6 and 7 measure
# what each part contributes and what it costs. Notebook 8 uses your own model and data, and notebook 9 shows the
# limits.
#
# **Exercise.** `!{PYTHON} -m famkd train quickstart --help` lists every setting. Train with `--method kd`, then with
# `--method kd+fam_review`, and compare all runs with `famkd compare RUNS/quickstart`. Which differences do you trust?
