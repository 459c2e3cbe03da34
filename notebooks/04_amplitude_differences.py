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
# **Question.** Which frequencies are weaker or stronger in the student's features than in the teacher's? Does
# distillation by frequency attention bring them nearer, and more than other distillation does?
#
# This notebook measures the amplitude spectrum of each stage, on the same test images, for the teacher, the student
# alone and distilled students. The student by `fam_review` has two controls: the same method with its local branch
# alone, which is a 1x1 convolution and has no frequency filter, and `kd`, which compares class probabilities and no
# feature maps.

# %%
import os

import numpy as np
import torch

import famkd
import famviz
from famkd.data.bands import bands, bands_truth
from famviz.analysis import amplitude, answers, before_after, studies
from famviz.figures import amplitude as features

RUNS = os.environ.get("FAMKD_RUNS", "runs")
RUN = ""  # path of a run; empty: bands/student and its two controls, which are trained if they are missing

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
    runs.append(famkd.train(recipe, out=out, runs=RUNS, resume=True))
run = runs[0]
[each.path.name for each in runs]

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
# Then average over images. The subtracted mean is called the *level*. Spectra are often normalised by DC instead, but
# DC is only one frequency of many: if the student's maps differ from the teacher's only in a larger mean, every other
# frequency seems to be missing.
#
# We test the measure on a case with a known answer: images of `bands` instead of features. The spectrum of a class
# must exceed that of the other classes at the frequency of its grating, and nowhere else.

# %%
data, truth = bands(), bands_truth()
grey = torch.from_numpy(data.x_test.mean(-1, keepdims=True)).permute(0, 3, 1, 2)
planes = amplitude.image_spectra(grey - grey.mean((2, 3), keepdim=True) + 1)
for label in (0, 5):
    own, others = planes[data.y_test == label].mean(0), planes[data.y_test != label].mean(0)
    peak = np.unravel_index((own - others).argmax(), own.shape) - np.array([16, 16])
    print(f"{data.classes[label]}: largest excess at (ky, kx) = {peak}, truth ±{truth.wave_vectors()[label].round(1)}")

# %% [markdown]
# ## The explorer
#
# Choose a stage. The upper pictures are the spectra of all networks on one scale, the lower ones their differences
# from the reference: red has more, blue has less. The curves are means over rings of equal frequency; their pale bands
# show what other images would have given (95 % bootstrap over images).
#
# - With the student alone as the reference, a difference is what distillation changed.
# - `output` is what a method computes from the student's stage before it is compared with the teacher. It is what the
#   loss sees.
# - Drag over a spectrum to choose frequencies. You see their share in each network, and images and maps that hold
#   nothing else.
# - The bright cross on the axes is not a property of the features. The Fourier transform treats a map as periodic, and
#   the jump from one border to the opposite one spreads over a whole axis. "window" fades each map out towards its
#   borders and removes most of the cross. On a map of 8 px too little of the map is left to judge.

# %%
explorer = famviz.AmplitudeExplorer(runs)
explorer

# %% [markdown]
# The next table has one number for each stage and network: the root mean square of the difference from the teacher's
# curve, over all rings except DC. Next to it are the same for the plane, and how much higher the level and DC are than
# the teacher's. The RMS of the curve is smaller than that of the plane, because the curve averages over all directions.

# %%
stages = features.amplitude_difference(runs)
famviz.Table(before_after.distances(stages))

# %% [markdown]
# ## Before and after distillation
#
# "Before" is the student alone: the same network, seed and training settings without a teacher. Below a ratio of 1
# distillation brought the student closer, above 1 it moved away. The rows compare three ways to look at a spectrum. If
# those for `mean` and `dc` disagree, look at DC in the table above. With `none`, the student's features must also have
# the same strength as the teacher's. No loss demands that, because FAM and its batch norm lie in between.

# %%
rows = before_after.before_after(run)
famviz.Table(rows, otherwise="There is no run of the student alone, or this run has no teacher.")

# %% [markdown]
# This comparison has two limits.
#
# - The loss compares the *output* of the method with the teacher, not the student's own features. The learned filter
#   may do all the work and leave the student unchanged. Compare the student with the output above; notebook 3 shows
#   what the filter does in between.
# - Equal amplitudes do not mean equal maps. The phase, which says where things are, is not part of the spectra. So the
#   next table has the correlation between the maps themselves.

# %%
rows = [row for each in runs for row in before_after.output_correlations(each)]
famviz.Table(rows, otherwise=f"{run.recipe.method} makes no maps of its own that are compared with the teacher's.")

# %% [markdown]
# ## Known frequencies
#
# On `bands` we know which frequencies matter for the class: the rings 5 and 9 of the stage with 32 px. Is the
# difference from the teacher smaller there than at the frequencies of the distractors? These are absolute differences
# of the curves, so the level is removed and both signs count.

# %%
rings = {"classes": (5, 9), "slow distractors": (2,), "fast distractors": (13, 14, 15)}
rows = before_after.ring_gaps(stages[0], rings) if run.recipe.data.name == "bands" else []
famviz.Table(rows, otherwise="Known on bands only, for a run with a teacher.")

# %% [markdown]
# ## Answer
#
# The spectra are those of one seed. Whether the accuracy differs is a question for several seeds: the last line is from
# three seeds of each variant of `bands/student`.

# %%
print(answers.accuracy_words(run))
print(answers.spectra_words(stages, 200))
print(studies.study_words(studies.study(), "fam_review", ("none", "fam_review branch=local")))

# %% [markdown]
# Read for and against. If the student by `fam_review` is nearer to the teacher, that is for the method. If its local
# branch alone or `kd` brings the student as near, the frequency filters are not the reason. And if a student is better
# without being nearer, then spectra are not what makes a student better.
#
# **Exercise.** You can compare any networks, without a run: `famviz.AmplitudeExplorer({"teacher": a, "other": b},
# images)`. Compare the trained teacher with an untrained one. In which stage do they differ most?
