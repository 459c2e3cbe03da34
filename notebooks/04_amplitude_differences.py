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
# Which frequencies are weaker or stronger in the student's features than in the teacher's? Does distillation reduce
# the difference? This notebook measures the amplitude spectrum of each stage, on the same images, for the teacher,
# the student alone and the distilled student.

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
RUN = ""  # path of a run; empty: bands/student by fam, which is trained if it is missing

# %%
recipe = famkd.load_recipe("bands/student", "--method", "fam")
run = famkd.Run.open(RUN) if RUN else famkd.train(recipe, runs=RUNS, resume=True)
shots = networks.run_images(run, 200)
nets = networks.networks(run)
print(", ".join(nets), "on", len(shots.images), "test images")

# %% [markdown]
# ## What is measured
#
# For each image and each frequency:
#
# 1. Take the amplitude, as the root mean square over channels. So networks of different widths can be compared.
# 2. Convert it to dB.
# 3. Subtract the mean of these dB values over all frequencies except DC. So networks of different gain can be
#    compared: what remains is the shape of the spectrum.
#
# Then average over images. The subtracted mean is called the *level*. It is printed, and so is DC.
#
# Spectra are often normalised by DC instead. But DC is only one frequency of many. If the student's maps differ from
# the teacher's only in a larger mean, every other frequency seems to be missing. `relative="dc"` normalises by DC,
# and `relative="none"` subtracts nothing. Below we compare all three.
#
# We test the measure on a case with a known answer: images of `bands` instead of features. The spectrum of a class
# must exceed that of the other classes at the frequency of its grating, and nowhere else. (This cell always uses
# `bands`, also if you look at another run.)

# %%
data, truth = bands(), bands_truth()
grey = torch.from_numpy(data.x_test.mean(-1, keepdims=True)).permute(0, 3, 1, 2)
planes = amplitude.image_spectra(grey - grey.mean((2, 3), keepdim=True) + 1)
for label in (0, 5):
    own, others = planes[data.y_test == label].mean(0), planes[data.y_test != label].mean(0)
    peak = np.unravel_index((own - others).argmax(), own.shape) - np.array([16, 16])
    print(f"{data.classes[label]}: largest excess at (ky, kx) = {peak}, truth ±{truth.wave_vectors()[label].round(1)}")

# %% [markdown]
# ## Stage by stage
#
# Now we measure features. Each stage has two rows of pictures.
#
# - Upper row: the spectra, all on one scale, and their means over rings of equal frequency. The pale bands show what
#   other images would have given (95 % bootstrap over images).
# - Lower row: the difference from the teacher. Red: more than the teacher. Blue: less. The RMS of the curve is
#   smaller than that of the plane, because the curve averages over all directions.
#
# `output` is what the method computes from the student's stage before it is compared with the teacher. It is what the
# loss sees.
#
# The bright cross on the axes is not a property of the features. The Fourier transform treats a map as periodic, and
# the jump from the right border to the left one, or from the bottom to the top, spreads over a whole axis.

# %%
stages = features.amplitude_difference(run)
features.differences_figure(stages)

# %% [markdown]
# How much of the spectrum is this cross? Hann's window fades each map out towards its borders. On large maps this
# removes most of the cross. On a map of 8 px too little of the map is left to judge.

# %%
rows = []
for window in (False, True):
    for stage in features.amplitude_difference(run, window=window, count=100):
        plane = stage.planes[stage.reference]
        y, x = plane.shape[0] // 2, plane.shape[1] // 2
        cross = plane[y, x + 2 :].mean() - plane[y - 2, x + 2 :].mean()
        row = {"stage": stage.name, "window": window, "cross, dB above its neighbours": cross}
        rows.append(row | {f"{name}, dB": stage.rms_db(name) for name in stage.others})
rows.sort(key=lambda row: row["stage"])
famviz.Table(rows, otherwise="This run has no stages with frequencies.")

# %% [markdown]
# The next table has one number for each stage and network: the root mean square of the difference from the teacher's
# curve, over all rings except DC. Next to it are the same for the planes, and how much higher the level and DC are
# than the teacher's.

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
# "Before" is the student alone: the same network, seed and training settings without a teacher. The ratio compares
# the distances from the teacher's spectrum after and before. Below 1 distillation brought the student closer, above 1
# it moved away.

# %%
rows = []
measured = {kind: features.amplitude_difference(run, relative=kind, count=100) for kind in ("mean", "dc", "none")}
for kind, found in measured.items():
    for stage in found:
        if {"student alone", "student"} <= set(stage.others):
            before, after = stage.rms_db("student alone"), stage.rms_db("student")
            row = {"relative to": kind, "stage": stage.name, "before, dB": before, "after, dB": after}
            rows.append(row | {"ratio": after / before})
famviz.Table(rows, otherwise="There is no run of the student alone, or this run has no teacher.")

# %% [markdown]
# If the rows for `mean` and `dc` disagree, look at DC in the table above. A student of which only the mean became
# larger moves away from the teacher by the second measure and not by the first. With `none`, the student's features
# must also have the same strength as the teacher's. No loss demands that, because FAM and its batch norm lie in
# between.
#
# This comparison has two limits.
#
# - The loss compares the *output* of FAM with the teacher, not the student's own features. The learned filter may do
#   all the work and leave the student unchanged. Compare `student` with `fam output` above; notebook 3 shows what the
#   filter does in between.
# - Equal amplitudes do not mean equal maps. The phase, which says where things are, is not part of the spectra. A
#   shift of the whole map would not be noticed. So we also compute the correlation between the maps.

# %%
distiller = networks.trained_distiller(run)
batch = famkd.Batch(shots.images, shots.labels, torch.arange(len(shots.labels)))
outputs = {}  # of each module that is compared with the teacher, by method and position


def keep_output(name, at):
    def hook(module, inputs, output):
        outputs[name, at] = output.detach()

    return hook


for name, method in distiller.methods.items():
    for at, module in enumerate(method.compared()):
        module.register_forward_hook(keep_output(name, at))

# %%
rows = []
if distiller.teacher:
    distiller(batch)
    teacher_maps = dict(zip(distiller.teacher.taps, distiller.teacher(shots.images)[1]))
for (name, at), output in sorted(outputs.items()):
    tap = distiller.taps(name)[1][at]
    r = np.corrcoef(output.flatten().numpy(), teacher_maps[tap].flatten().numpy())[0, 1]
    rows.append({"stage": tap, "method": name, "correlation of its output with the teacher's maps": r})
famviz.Table(rows, otherwise=f"{run.recipe.method} makes no maps of its own that are compared with the teacher's.")

# %% [markdown]
# ## Known frequencies
#
# On `bands` we know which frequencies matter for the class: the rings 5 and 9 of the stage with 32 px. Is the
# difference from the teacher smaller there than at the frequencies of the distractors? We use absolute differences of
# the curves, so the level is removed and both signs count.

# %%
rows = []
first_stage = stages[0]
for name in first_stage.others if run.recipe.data.name == "bands" else ():  # its first stage has 32 px
    gap = np.abs(first_stage.difference_curve(name))
    row = {"": name, "classes, dB": gap[[5, 9]].mean(), "slow distractors, dB": gap[2]}
    rows.append(row | {"fast distractors, dB": gap[[13, 14, 15]].mean()})
famviz.Table(rows, otherwise="Known on bands only, for a run with a teacher.")

# %% [markdown]
# ## Comparison with other methods
#
# Is it frequency attention that makes the spectra more similar, or would any distillation do so? We train the same
# student with `kd`, which compares class probabilities and uses no feature maps (half a minute, the first time). The
# table shows all finished runs of this student in the same folder, so your own runs appear too.

# %%
if not RUN:
    famkd.train(famkd.load_recipe("bands/student", "--method", "kd", "--no_baseline"), runs=RUNS, resume=True)
finished = [path for path in find_runs([run.path.parent]) if famkd.Run(path).finished]
rows = [row for row in features.differences_table(finished, count=100) if row["of"] == "student"]
rows.sort(key=lambda row: (row["stage"], row["method"]))
columns = ("stage", "method", "seed", "rms_db", "dc_db", "top1")
rows = [{key: row[key] for key in columns} for row in rows]
famviz.Table(rows, otherwise="No finished run in this folder has a teacher.")

# %% [markdown]
# **Question.** Is a smaller difference in dB the reason why a student is better? There is one run for each method.
# What would convince you?
#
# **Exercise.** You can compare any networks, without a run: `features.differences_figure({"teacher": a, "other": b},
# images)`. Compare the trained teacher with an untrained one. In which stage do they differ most?
