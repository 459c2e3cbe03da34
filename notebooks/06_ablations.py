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
# Which part of frequency attention earns its place? An ablation trains again without the part. Two rules make it
# worth its time: change one thing, and repeat with other seeds, because a seed alone moves accuracy. This notebook
# trains the quickstart's pair on digits in nine variants with two seeds each. That took 66 seconds of computing on one
# core of an AMD EPYC (2 cores, torch 2.15), so expect a bit more than a minute where nothing else computes, and several
# where something does.
#
# Two seeds are the least that has a spread at all. They show how to read an ablation; they decide nothing.

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
from famkd.compare.groups import find_runs, group_scores, read_scores
from famviz.figures import effect, style

# %%
RUNS = os.environ.get("FAMKD_RUNS", "runs")
RUN = ""  # a folder of runs of yours to compare; left empty, the variants below, trained where they are missing
SEEDS = (0, 1)

# %% [markdown]
# ## The variants
#
# Each is the recipe with some flags, as they would stand behind `famkd train quickstart`.

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
# A loop over variants and seeds; `resume=True` skips what is finished, and what training says is kept quiet. In the
# terminal `famkd sweep ablations` does the same with three seeds and more variants, each in a process of its own.

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
# ## Side by side
#
# `compare` groups runs that differ in their seed alone. Mean and standard deviation are over seeds; the difference
# from the student alone is paired by seed, with its confidence interval. With two seeds that interval comes from one
# degree of freedom and is huge, as it should be.

# %%
HTML(compare([folder], against="none" if not RUN else "", format="html"))

# %% [markdown]
# ## Is a difference more than a seed?
#
# The picture shows every run as a dot. Before you say "A is better than B", look whether their dots overlap; and one
# test image is worth 0.28 points here, so two variants 0.5 apart differ in the answer to two images.

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
# A number for the same: how much of all the spread between runs lies between groups, and how much within them? Where
# the second is as large as the first, the order of the dots above is mostly luck.

# %%
values = [np.array(list(group.last().values())) for group in groups]
repeated = [v for v in values if len(v) > 1]
if len(values) > 1 and repeated:
    within = np.mean([v.var(ddof=1) for v in repeated]) ** 0.5
    between = np.std([v.mean() for v in values], ddof=1)
    print(f"standard deviation between groups' means {between:.2f} points, within a group {within:.2f} points")
    seeds = min(map(len, repeated))
    print(f"a mean over {seeds} seeds is itself uncertain by about {within / seeds**0.5:.2f} points")
else:
    print("This takes two groups, and one of them with more than one seed.")

# %% [markdown]
# ## What the parts do, apart from accuracy
#
# Accuracy is a coarse witness. The distance that is left between what the student is made to show and what the
# teacher shows says more directly what a part is good for: how much lower does it get with the part? Variants of one
# method compare; `layer to layer` has fewer levels to sum over, ReviewKD sums differently, and the student alone has
# no such loss.

# %%
rows = []
for score in scores:
    last = famkd.Run(score.path).metrics()[-1]
    gap = next((value for key, value in last.items() if key.startswith("fam")), None)
    rows.append({"run": score.path.name, "distance to the teacher, last epoch": gap, "top-1 %": last["top1"]})
famviz.Table(sorted(rows, key=lambda row: row["distance to the teacher, last epoch"] or np.inf))

# %% [markdown]
# **Local only** is FAM without frequency: a 1x1 convolution per level. If it came as close to the teacher as both
# branches do, the filter would bring nothing on these data. **Global only** cannot pass the mean of a map when the
# high-pass is on; batch norm after it can put the mean back, the same one for every image.
#
# Maps of digits have 8, 4 and 2 pixels a side. There is little frequency to speak of, so do not expect much: on
# `bands` (notebook 2) or CIFAR-100 the same variants can come out differently. That is the point of having them as
# flags.
#
# ## Did the filter even use what it has?
#
# The share of the global branch in the energy that FAM puts out, per variant, on test images. A share near 0 means
# that training chose not to use it. Beside it the share on white noise, which the weights alone give and which may be
# far off, because features are not white (notebook 3).

# %%
first = min(score.recipe.seed for score in scores)
runs, rows = [famkd.Run(score.path) for score in scores if score.recipe.seed == first], []
for run in runs:
    try:
        known = effect.effects(run, count=100)
    except famkd.UserError:  # no classification, or its data are elsewhere
        known = []
    for each in known:
        if each.share is not None:
            row = {"run": run.path.name, "level": each.name, "share of global": each.share}
            rows.append(row | {"on white noise": each.white_share, "left to the teacher": each.left})
famviz.Table(rows, otherwise="No run here has both branches.")

# %% [markdown]
# **Question.** Two variants differ by one point over two seeds, and by one point over ten. In which case would you
# write it into a paper? What else would you have to report in the first?
#
# **Exercise.** Add `--fam_review.init official` and `--fam_review.filter separable`, and a third seed. Does the order
# of the variants stay?
