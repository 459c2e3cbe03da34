# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4. Frequency amplitude differences
#
# Which frequencies does a student lack beside its teacher, and does distillation fill the gap? This notebook measures
# the amplitude spectrum of every stage, on the same images, for teacher, student alone and student distilled.

# %%
import os

import numpy as np
import torch

import famkd
import famviz
from famkd.compare.groups import find_runs
from famkd.data.bands import bands, bands_truth
from famviz import networks
from famviz.analysis import amplitude
from famviz.figures import amplitude as features

# %%
RUNS = os.environ.get("FAMKD_RUNS", "runs")
RUN = ""  # a run of yours; left empty, `bands/student` by `fam`, which is trained where it is missing

# %%
recipe = famkd.load_recipe("bands/student", "--method", "fam")
run = famkd.Run.open(RUN) if RUN else famkd.train(recipe, runs=RUNS, resume=True)
shots = networks.run_images(run, 200)
nets = networks.networks(run)
print(", ".join(nets), "on", len(shots.images), "test images")

# %% [markdown]
# ## The measure
#
# For each image: the amplitude at each frequency, root mean square over channels (so that networks of different
# widths compare), in dB less the mean of these dB over all frequencies but DC (so that gains compare: what is left is
# the shape of the spectrum). Then the mean over images. What was taken out is printed: the *level*, and DC beside it.
#
# Why not relative to DC, as is often done? DC is one frequency of many. Where a student's maps have a louder mean and
# nothing else differs, every frequency would seem to be missing. `relative="dc"` measures it that way, and
# `relative="none"` takes nothing out; below we compare all three.
#
# A measure wants a test with a known answer. We take a class of `bands` as images, not features: the spectrum must
# stand out at that class's frequency and nowhere else. (With another run the truth is unknown, and the cell still
# uses bands.)

# %%
data, truth = bands(), bands_truth()
grey = torch.from_numpy(data.x_test.mean(-1, keepdims=True)).permute(0, 3, 1, 2)
planes = amplitude.image_spectra(grey - grey.mean((2, 3), keepdim=True) + 1)
for label in (0, 5):
    mine, all_others = planes[data.y_test == label].mean(0), planes[data.y_test != label].mean(0)
    peak = np.unravel_index((mine - all_others).argmax(), mine.shape) - np.array([16, 16])
    print(f"{data.classes[label]}: stands out most at (ky, kx) = {peak}, truth ±{truth.wave_vectors()[label].round(1)}")

# %% [markdown]
# ## Stage by stage
#
# Now the features. Each pair of rows is a stage. Above: the spectra on one scale, and their mean over rings of equal
# frequency with a band for what other images would have given (a 95 % bootstrap over images). Below: each minus the
# teacher, red where it has more and blue where it has less; the RMS of the curve is smaller than that of the plane,
# where directions do not average out. `output` is what the method makes of the student's stage before the comparison,
# so that is what the loss sees.
#
# The bright cross on the axes is no feature: the transform takes a map as periodic, and the jump from its right edge
# to its left one (and from bottom to top) is spread over a whole axis.

# %%
stages = features.amplitude_difference(run)
features.differences_figure(stages)

# %% [markdown]
# How much of the picture is that cross? Hann's window fades each map out before it reaches its edges. On large maps
# most of the cross goes; on a map of 8 px the window leaves too little to judge by.

# %%
rows = []
for window in (False, True):
    for stage in features.amplitude_difference(run, window=window, count=100):
        plane = stage.planes[stage.reference]
        (y, x), row = (n // 2 for n in plane.shape), {"stage": stage.name, "window": window}
        row["cross, dB above its neighbours"] = plane[y, x + 2 :].mean() - plane[y - 2, x + 2 :].mean()
        rows.append(row | {f"{name}, dB": stage.rms_db(name) for name in stage.others})
famviz.Table(sorted(rows, key=lambda row: row["stage"]), otherwise="This run has no stages with frequencies.")

# %% [markdown]
# One number per stage that a table can hold: the root mean square, over the rings above DC, of the difference from
# the teacher's curve. Beside it the same of the planes, and how much louder than the teacher a network is.

# %%
rows = []
for stage in stages:
    for name in stage.others:
        level, dc = stage.offsets(name)
        row = {"stage": stage.name, "": name, "curve, dB": stage.rms_db(name), "plane, dB": stage.plane_rms_db(name)}
        rows.append(row | {"level, dB": level, "DC, dB": dc})
famviz.Table(rows)

# %% [markdown]
# ## Before and after distillation
#
# "Student alone" is the same network, seed and protocol without a teacher: the before. The ratio says how much of its
# distance from the teacher's spectrum was closed; above 1 the student moved away.

# %%
rows, three = (
    [],
    {kind: features.amplitude_difference(run, relative=kind, count=100) for kind in ("mean", "dc", "none")},
)
for kind, measured in three.items():
    for stage in measured:
        if {"student alone", "student"} <= set(stage.others):
            before, after = stage.rms_db("student alone"), stage.rms_db("student")
            row = {"relative to": kind, "stage": stage.name, "before, dB": before, "after, dB": after}
            rows.append(row | {"ratio": after / before})
famviz.Table(rows, otherwise="There is no run of the student alone, or no teacher, beside this run.")

# %% [markdown]
# Where a row by `mean` and the one by `dc` disagree, look at DC in the table above: a student whose mean alone grew
# louder moves away from the teacher by the second measure and not by the first. By `none` a student's features are
# also asked to be as strong as the teacher's, which no loss asks of them: FAM and its batch norm stand in between.

# %% [markdown]
# Mind what this does not say. The loss compares the *output* of FAM with the teacher, not the student's own features:
# the learned filter may do all the work and leave the student as it was. Compare `student` with `fam output` above;
# notebook 3 shows what the filter does in between.
# And equal amplitudes are not equal maps: the phase, which says where things are, is not in this picture at all. A
# permutation of pixels in frequency space would go unnoticed. So we also ask for the correlation of the maps.

# %%
distiller, rows = networks.trained_distiller(run), []
for name, method in distiller.methods.items():
    seen, modules = {}, features.leaving(method)
    for at, module in enumerate(modules):
        module.register_forward_hook(lambda _, args, out, at=at, seen=seen: seen.__setitem__(at, out))
    if modules:
        distiller(famkd.Batch(shots.images, shots.labels, torch.arange(len(shots.labels))))
        theirs = dict(zip(distiller.teacher.taps, distiller.teacher(shots.images)[1]))
    for tap, (_, out) in zip(distiller.taps(name)[1], sorted(seen.items())):
        r = np.corrcoef(out.detach().flatten().numpy(), theirs[tap].flatten().numpy())[0, 1]
        rows.append({"stage": tap, "method": name, "correlation of its output with the teacher's maps": r})
famviz.Table(rows, otherwise=f"{run.recipe.method} makes no maps of its own that are compared with the teacher's.")

# %% [markdown]
# ## Known frequencies
#
# On `bands` we know which frequencies carry the class: rings 5 and 9 of the 32 px stage. Is the gap smaller there
# than at the distractors' frequencies? In shape, so the level is taken out; a gap of either sign counts.

# %%
stage, rows = stages[0], []
if run.recipe.data.name == "bands":  # whose first stage has 32 px
    for who in stage.others:
        gap = np.abs(stage.difference_curve(who))
        row = {"": who, "classes, dB": gap[[5, 9]].mean(), "slow distractors, dB": gap[2]}
        rows.append(row | {"fast distractors, dB": gap[[13, 14, 15]].mean()})
famviz.Table(rows, otherwise="Known on bands only, for a run with a teacher.")

# %% [markdown]
# ## Across methods
#
# Is it frequency attention that brings the spectra closer, or any teaching? Here is the same student by `kd`, which
# compares class probabilities and sees no map at all (half a minute, the first time). The table takes every finished
# run of this student that lies beside this one, so runs of yours appear too.

# %%
if not RUN:
    famkd.train(famkd.load_recipe("bands/student", "--method", "kd", "--no_baseline"), runs=RUNS, resume=True)
beside = [path for path in find_runs([run.path.parent]) if famkd.Run(path).finished]
rows = [row for row in features.differences_table(beside, count=100) if row["of"] == "student"]
rows.sort(key=lambda row: (row["stage"], row["method"]))
rows = [{key: row[key] for key in ("stage", "method", "seed", "rms_db", "dc_db", "top1")} for row in rows]
famviz.Table(rows, otherwise="No finished run beside this one has a teacher.")

# %% [markdown]
# **Question.** Is a smaller difference in dB the reason for a better student? You have one run per method; think of
# what would convince you.
#
# **Exercise.** Spectra of any networks compare, with no run at all:
# `features.differences_figure({"teacher": a, "other": b}, images)`. Compare the trained teacher with an untrained
# one. Which stage gives it away?
