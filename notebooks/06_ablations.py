# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 6. Ablations: branches, high-pass, fusion
#
# **Question.** Does frequency attention help, and which part of it does the work?
#
# An ablation answers by training again without a part. Two rules make it meaningful: change one thing at a time, and
# repeat with other seeds, because the seed alone changes the accuracy. The notebook first reads the results of a study
# with three seeds, then shows how to make one.

# %%
import os
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
from IPython.display import HTML

import famkd
import famviz
from famkd.compare import compare
from famkd.compare.find import find_runs, read_scores
from famkd.compare.groups import group_scores
from famviz.analysis import studies
from famviz.figures import effect, style
from famviz.figures.study import cost_figure, difference_figure

# %% [markdown]
# ## What three seeds say
#
# The repository keeps the results of its studies as CSV files (`famkd compare RUNS --save FOLDER`). Two of them change
# one option of `fam_review` at a time: on `bands`, images of gratings whose frequency is the class, and on 20 classes
# of CIFAR-100. The third compares methods on all of CIFAR-100, with six epochs.

# %%
bands, cifar20, methods = (studies.study(name) for name in ("parts_bands", "parts_cifar20", "methods"))
difference_figure({"bands": bands, "20 classes of CIFAR-100": cifar20}, against="fam_review")

# %% [markdown]
# Each large dot is the mean over three seeds of the difference from `fam_review`, each small dot the difference of one
# seed, and each line a 95 % confidence interval. An interval that holds 0 means that three seeds do not tell the two
# apart. The table has the figures of the second study, against the student alone.

# %%
HTML(compare([studies.study_folder("parts_cifar20")], format="html"))

# %%
HTML(compare([studies.study_folder("methods")], format="html"))

# %% [markdown]
# Each row is paired by seed with the student alone. The more rows a table has, the more often an interval misses 0 by
# chance, so p is corrected for their number.

# %%
controls = ("none", "reviewkd", "fam_review branch=local", "fam_review branch=global", "fam_review highpass=none")
print("bands:", studies.study_words(bands, "fam_review", controls))
print("20 classes:", studies.study_words(cifar20, "fam_review", controls))
against = ("none", "kd", "reviewkd", "fam_review branch=local")
print("CIFAR-100:", studies.study_words(methods, "fam_review branch=both", against))

# %% [markdown]
# A method also costs time in every step. Each dot is a training, and each line the mean of a group.

# %%
cost_figure(methods, studies.study_costs("methods"))

# %% [markdown]
# ## Make a study of your own
#
# The rest of this notebook trains the networks of `quickstart` on digits, in nine variants with two seeds each. That
# took 66 seconds of computing on one core of an AMD EPYC (2 cores, torch 2.15). Expect a bit more than a minute on an
# idle machine, and several minutes on a busy one.
#
# Two seeds are the smallest number that has a spread. They are enough to learn how to read an ablation, and too few
# to decide anything.

# %%
RUNS = os.environ.get("FAMKD_RUNS", "runs")
RUN = ""  # a folder of your own runs to compare; empty: the variants below, which are trained if they are missing
SEEDS = (0, 1)

# %% [markdown]
# ## The variants
#
# Each variant is the recipe with additional flags, as you would write them after `famkd train quickstart`.

# %%
VARIANTS = {
    "student alone": "--method none",
    "fam_review": "",
    "global branch only": "--fam_review.branch global",
    "local branch only": "--fam_review.branch local",
    "no high-pass": "--fam_review.highpass none",
    "strong high-pass": "--fam_review.cutoff 0.6",
    "sigmoid fusion": "--fam_review.fuse sigmoid",
    "layer to layer": "--method fam",
    "reviewkd": "--method reviewkd",
}

# %% [markdown]
# We loop over variants and seeds. With `resume=True` finished runs are not repeated. The output of the trainings is
# hidden. In the terminal, `famkd sweep ablations` does the same with three seeds and more variants, each in a process
# of its own.

# %%
folder = Path(RUN or f"{RUNS}/ablations")
for label, flags in {} if RUN else VARIANTS.items():
    runs = []
    for seed in SEEDS:
        recipe = famkd.load_recipe("quickstart", *flags.split(), "--seed", str(seed), "--no_baseline")
        with redirect_stdout(StringIO()):
            runs.append(famkd.train(recipe, out=folder / f"{label}, seed {seed}", runs=RUNS, resume=True))
    print(f"{label:20}", *(f"{run.metrics()[-1]['top1']:6.2f}" for run in runs))

# %% [markdown]
# ## Results
#
# `compare` groups runs that differ only in their seed. The mean and the standard deviation are over seeds. The
# difference from the student alone is computed for each seed and shown with its confidence interval. With two seeds
# this interval has one degree of freedom and is very wide, as it should be.

# %%
HTML(compare([folder], against="none" if not RUN else "", format="html"))

# %% [markdown]
# ## Is a difference larger than that between seeds?
#
# Each dot in the figure is a run. Before you say "A is better than B", check whether their dots overlap. One test
# image is worth 0.28 points here, so two variants that are 0.5 points apart differ in about two images.

# %%
scores, _ = read_scores(find_runs([folder]))
groups, _ = group_scores(scores)
groups.sort(key=lambda group: np.mean(list(group.last().values())))
picture = style.figure(6.4, 0.3 * len(groups) + 0.8)
ax = picture.subplots()
for row, group in enumerate(groups):
    values = list(group.last().values())
    ax.plot(values, [row] * len(values), "o", color=style.LINES[0], alpha=0.8)
    ax.plot(np.mean(values), row, "|", color=style.LINES[5], markersize=14)
ax.set(yticks=range(len(groups)), yticklabels=[group.label for group in groups], xlabel="last epoch, top-1 %")
picture

# %% [markdown]
# The same as numbers: how large is the spread between groups, and how large the spread between the seeds of one
# group? If the second is as large as the first, the order of the variants is mostly chance.

# %%
values = [np.array(list(group.last().values())) for group in groups]
repeated = [v for v in values if len(v) > 1]
if len(values) > 1 and repeated:
    within = np.mean([v.var(ddof=1) for v in repeated]) ** 0.5
    between = np.std([v.mean() for v in values], ddof=1)
    print(f"standard deviation of the group means {between:.2f} points, within a group {within:.2f} points")
    seeds = min(map(len, repeated))
    print(f"standard error of a mean over {seeds} seeds: about {within / seeds**0.5:.2f} points")
else:
    print("This needs at least two groups, and at least one group with more than one seed.")

# %% [markdown]
# ## What the parts do, apart from accuracy
#
# Accuracy is a coarse measure. The loss of the method is more direct: it is the distance that remains between the
# student's output and the teacher's features. Does a part make this distance smaller? Compare only variants of one
# method: `layer to layer` has fewer levels to sum over, ReviewKD sums differently, and the student alone has no such
# loss.

# %%
rows = []
for score in scores:
    last = famkd.Run(score.path).metrics()[-1]
    distance = next((value for key, value in last.items() if key.startswith("fam")), None)
    rows.append({"run": score.path.name, "distance to the teacher, last epoch": distance, "top-1 %": last["top1"]})
famviz.Table(sorted(rows, key=lambda row: row["distance to the teacher, last epoch"] or np.inf))

# %% [markdown]
# **Local branch only** is FAM without frequencies: a 1x1 convolution at each level. If it comes as close to the
# teacher as both branches, the filter contributes nothing on these data. **Global branch only** cannot pass the mean
# of a map if the high-pass is on. The batch norm after it can add a mean, but the same one for every image.
#
# The feature maps of digits have sides of 8, 4 and 2 pixels. They contain few frequencies, so do not expect much. On
# `bands` (notebook 2) or CIFAR-100 the same variants may give different results. That is why they are flags.
#
# ## Does the network use the filter?
#
# The next table shows the share of the global branch in the energy of FAM's output on test images, for each variant.
# If the share is near 0, training decided not to use the filter. The share for white noise follows from the weights
# alone. It can be very different, because features are not white noise (notebook 3).

# %%
first = min(score.recipe.seed for score in scores)
rows = []
for run in [famkd.Run(score.path) for score in scores if score.recipe.seed == first]:
    try:
        levels = effect.effects(run, count=100)
    except famkd.UserError:  # the task is not classification, or the data are not on this machine
        levels = []
    for each in levels:
        if each.share is not None:
            row = {"run": run.path.name, "level": each.name, "share of global": each.share}
            rows.append(row | {"for white noise": each.white_share, "left to the teacher": each.left})
famviz.Table(rows, otherwise="No run here has both branches.")

# %% [markdown]
# **Question.** Two variants differ by one point over two seeds, and two others by one point over ten seeds. Which of
# the two results would you publish? What else would you have to report for the first?
#
# **Exercise.** Add `--fam_review.init official`, `--fam_review.filter separable` and a third seed. Does the order of
# the variants stay the same?
