# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2. Frequency attention explained
#
# **Question.** What does frequency attention compute, and does a student that is trained with it become better?
#
# A spatial attention map gives each *pixel* a weight. Frequency attention gives each *frequency* a weight. This
# notebook builds frequency attention step by step, on images for which we know the correct result. At the end we look
# at it inside a trained network.
#
# The frequency attention module, FAM (Pham et al., WACV 2024), takes a feature map $X$ and returns
#
# $$F = \gamma_1\,\underbrace{\mathrm{Re}\,ℱ^{-1}(h \cdot K \cdot ℱ(X))}_{\text{global branch}}
# + \gamma_2\,\underbrace{\mathrm{Conv}_{1\times1}(X)}_{\text{local branch}}$$
#
# where $ℱ$ is the two-dimensional Fourier transform, $K$ the learned filter and $h$ a high-pass.

# %%
import os
from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F

import famkd
import famviz
from famkd.data.bands import bands, bands_truth
from famkd.layers.fourier import FAM, FourierFilter
from famkd.layers.fusion import resize
from famkd.layers.highpass import highpass_gain
from famkd.training.build import build_distiller, build_recipe_data
from famviz import networks, plots, spectra
from famviz.analysis import answers, studies
from famviz.figures import style

# %%
RUNS = os.environ.get("FAMKD_RUNS", "runs")
RUN = ""  # path of a run with frequency filters; empty: bands/student by fam, which is trained if it is missing

# %% [markdown]
# ## Images with a known answer
#
# Each image of the data set `bands` contains a disc filled with a grating. There are eight classes: the grating has 5
# or 9 cycles per image, and one of four directions. Noise and gratings of other frequencies are added as distractors.
#
# The white line is the edge of the disc, so we know *where* the evidence for the class is. We also know *what* it is:
# one pair of points in the spectrum.

# %%
data, truth = bands(), bands_truth()
pictures = style.figure(10, 2.4)
for at, ax in enumerate(pictures.subplots(1, 5)):
    ax.imshow(data.x_test[at])
    ax.contour(truth.masks[at], [0.5], colors="white", linewidths=1)
    ax.set_title(data.classes[data.y_test[at]].replace(" at ", "\nat "))
    ax.axis("off")
pictures

# %% [markdown]
# ## A filter designed by hand
#
# We start without learning. For each class we write a filter that passes only frequencies close to the wave vector of
# that class. `FourierFilter` is the global branch of FAM. Its weight covers half of the spectrum: for real images the
# other half is the mirror image of it.

# %%
ky, kx = np.fft.fftfreq(32, 1 / 32)[:, None], np.fft.rfftfreq(32, 1 / 32)[None]


def passing(vector, width=1.5):
    """A gain of 1 at the wave vector and at its mirror image, which falls off as a Gaussian."""
    distances = [np.hypot(ky - sign * vector[0], kx - sign * vector[1]) for sign in (1, -1)]
    return np.exp(-(np.minimum(*distances) ** 2) / (2 * width**2))


bank = FourierFilter(1, 8, (32, 32), highpass="none").requires_grad_(False)
bank.weight.zero_()
for label, vector in enumerate(truth.wave_vectors()):
    bank.weight[:, :, 0, 0, label] = torch.from_numpy(passing(vector))  # input channel 0, real part, output channel

# %% [markdown]
# The filter has one input channel and eight output channels, one per class. We apply it to the first image and look
# at two outputs: the one for the correct class, and the one for another class. Red is above the mean and blue is
# below. The title of each picture gives the range of its colours. Both outputs have the same range, which is narrower
# than that of the image.

# %%
grey = torch.from_numpy(data.x_test.mean(-1)).float()
grey = (grey - grey.mean((1, 2), keepdim=True))[:, None]
out = bank(grey)

own = int(data.y_test[0])
other = (own + 2) % 8
shown = {"image": grey[0, 0], data.classes[own]: out[0, own], data.classes[other]: out[0, other]}
pictures = style.figure(9.5, 2.9)
for ax, (name, values) in zip(pictures.subplots(1, 3), shown.items()):
    top = 90 if name == "image" else 25
    ax.imshow(values, cmap="RdBu_r", vmin=-top, vmax=top)
    ax.contour(truth.masks[0], [0.5], colors="black", linewidths=1)
    ax.set_title(f"{name}, \u00b1{top} grey levels")
    ax.axis("off")
pictures

# %% [markdown]
# The filter contains a frequency and nothing about the disc. Its output is still strongest inside the disc, because
# that is where the frequency occurs. So weights on frequencies *do* select places, namely those with the right
# texture.
#
# Now the whole test set: how much of the energy of the correct class's output is inside the disc? How often does the
# output with the most energy belong to the correct class?

# %%
power = out.square()
inside = torch.from_numpy(truth.masks)
correct = power[torch.arange(len(grey)), torch.from_numpy(data.y_test)]  # (images, 32, 32)
share = (correct * inside).sum((1, 2)) / correct.sum((1, 2))
guess = power.sum((2, 3)).argmax(1).numpy()
print(f"energy of the correct class's output inside the disc: {100 * share.mean():.0f} %")
print(f"share of the disc in the image: {100 * truth.masks.mean():.0f} %")
print(f"the strongest output is the correct class: {100 * (guess == data.y_test).mean():.0f} % (chance: 12.5 %)")

# %% [markdown]
# ## What a spatial map sees
#
# Attention transfer (AT) compares maps of the energy at each pixel. We make its task as easy as possible and give it
# the true disc. We draw gratings of two classes, with the same contrast, into the same disc. Then we compute how
# similar the two images are, once as spatial maps and once as amplitude spectra.

# %%
y, x = np.mgrid[:32, :32] / 32


def grating(label):
    v = truth.wave_vectors()[label]
    return np.sin(2 * np.pi * (v[0] * y + v[1] * x)) * truth.masks[0]


def spatial_map(image):
    """The energy at each pixel, here averaged over cells of 4 x 4 pixels, as in a deeper stage of a network."""
    return np.square(image).reshape(8, 4, 8, 4).mean((1, 3))


def amplitude_spectrum(image):
    return np.abs(np.fft.rfft2(image))


# %%
for name, view in (("spatial map", spatial_map), ("amplitude spectrum", amplitude_spectrum)):
    views = [view(grating(label)).ravel() for label in range(8)]
    correlations = [np.corrcoef(a, b)[0, 1] for a, b in combinations(views, 2)]
    print(f"mean correlation between two classes, {name}: {np.mean(correlations):.2f}")

# %% [markdown]
# For the spatial map, all classes look nearly the same: it shows where something is, but not what it is. The spectra
# are different. The opposite is also true: if the disc moves, the spatial map changes and the amplitude spectrum
# hardly does.
#
# In `bands` the texture decides everything, so this data set is the best case for frequencies. In photographs both
# matter, and that is why FAM has a second branch.
#
# **Question.** On which data set would spatial attention be better? Describe one in a sentence.

# %% [markdown]
# ## Global: every output pixel depends on every input pixel
#
# Autograd can tell us which input pixels influence the output pixel in the middle. For a 3 x 3 convolution there are
# nine. A product in the frequency domain is a convolution with a kernel as large as the map, so it depends on all.

# %%
torch.manual_seed(0)
pixel = torch.randn(1, 1, 32, 32, requires_grad=True)
modules = {
    "1x1 convolution": torch.nn.Conv2d(1, 1, 1),
    "3x3 convolution": torch.nn.Conv2d(1, 1, 3, padding=1),
    "Fourier filter": FourierFilter(1, 1, (32, 32)),
}
for name, module in modules.items():
    (slope,) = torch.autograd.grad(module(pixel)[0, 0, 16, 16], pixel)
    print(f"{name:16} depends on {int((slope.abs() > 1e-8).sum()):4} of {slope.numel()} pixels")

# %% [markdown]
# ## A filter cannot prefer a position
#
# The kernel is the same for all pixels. If the input is shifted, the output is shifted by the same amount, so no
# filter can express "look at the upper left corner". Spatial attention can. In exchange, frequency attention
# recognises textures and sees the whole map at once. The map is also treated as periodic: what leaves it on the right
# comes back on the left (notebook 9).

# %%
module = modules["Fourier filter"]
shift = {"shifts": (5, 11), "dims": (2, 3)}
with torch.no_grad():
    difference = module(pixel.roll(**shift)) - module(pixel).roll(**shift)
print(f"filter(shifted) - shifted(filter): at most {difference.abs().max():.1e}")

# %% [markdown]
# ## The high-pass
#
# The high-pass `h` removes low frequencies from the global branch. The mean and the slow changes of a map have most
# of its energy. Without the high-pass they would dominate the gradient of the filter, and the 1x1 convolution of the
# local branch transmits them anyway. There are five kinds. The plot shows their gain along one axis of a 32 px map.

# %%
kinds = ("ideal", "butterworth", "gaussian", "official", "none")
picture = style.figure(5, 2.6)
ax = picture.subplots()
for kind in kinds:
    ax.plot(np.arange(17), highpass_gain(kind, (32, 32), cutoff=0.2)[0], marker="o", label=kind)
ax.set(xlabel="kx, cycles per map", ylabel="gain", title="high-pass, cutoff 0.2 of Nyquist")
ax.legend(bbox_to_anchor=(1.02, 1))
picture

# %% [markdown]
# `official` is the window of the authors' released code. Its width is rounded down, so with the released cutoff of
# 0.1 it removes nothing from small maps. The default in famkd is `ideal`, which always removes at least the mean.

# %%
for side in (4, 8, 16, 28, 32, 56):
    removed = {kind: int((highpass_gain(kind, (side, side), 0.1) < 1).sum()) for kind in ("official", "ideal")}
    print(f"{side:2} px: frequencies removed by official {removed['official']}, by ideal {removed['ideal']}")

# %% [markdown]
# The next pictures show an image of `bands` after the high-pass, for increasing cutoffs. The line is the edge of the
# disc. A cutoff of 0.4 of Nyquist removes everything below 6.4 cycles per image, and therefore the gratings of all
# classes with 5 cycles. A cutoff of 0.7 also removes those with 9 cycles.

# %%
print("class of the image:", data.classes[data.y_test[1]])
spectrum = torch.fft.rfft2(grey[1, 0])
pictures = style.figure(9, 2.5)
for ax, cutoff in zip(pictures.subplots(1, 4), (0.0, 0.2, 0.4, 0.7)):
    gain = highpass_gain("ideal", (32, 32), cutoff)
    ax.imshow(torch.fft.irfft2(spectrum * gain), cmap="RdBu_r", vmin=-90, vmax=90)
    ax.contour(truth.masks[1], [0.5], colors="black", linewidths=1)
    ax.set_title(f"cutoff {cutoff}: from {16 * cutoff:.1f} cycles")
    ax.axis("off")
pictures

# %% [markdown]
# ## In a network: layer to layer
#
# The method `fam` adds a FAM to each stage of the student and compares its output with the teacher's stage by mean
# squared error. Here is one such module, for a student stage with 8 channels and a teacher stage with 16 channels, at
# 32 px.

# %%
module = FAM(8, 16, (32, 32))
for name, parameter in module.named_parameters():
    print(f"{name:14} {tuple(parameter.shape)!s:20} {parameter.numel():>7,}")

# %% [markdown]
# Almost all parameters belong to the filter. They are used only during training, but they have to be learned.
# Notebooks 7 and 9 measure what that costs.
#
# Now we look at a trained module. Teacher and student learn `bands`; the first time this takes about a minute.

# %%
run = famviz.open(RUN) if RUN else None
usable = bool(run and run.run and run.filters)
if run and not usable:
    print(f"{run.name} is no run with frequency filters. The rest of this notebook shows bands/student by fam.")
if not usable:
    recipe = famkd.load_recipe("bands/student", "--method", "fam")
    run = famviz.open(famkd.train(recipe, runs=RUNS, resume=True))
famviz.Table(run.run.metrics()[-1:])

# %% [markdown]
# What did the filters learn? The curves show, for each stage, the mean amplitude of the filters as a function of
# frequency. The gratings of the classes have 5 and 9 cycles per image, which is 5/16 and 9/16 of the Nyquist
# frequency of the first stage (dashed lines).

# %%
on_bands = run.run.recipe.data.name == "bands"
ax = plots.radial_curves(run.filters)
for cycles in (5, 9) if on_bands else ():
    ax.axvline(cycles / 16, color="grey", linestyle="--", linewidth=1)
ax

# %% [markdown]
# Deeper stages have smaller maps. The last one has 8 px, so its highest frequency is 4 cycles, and 9 cycles do not
# fit. At that depth the class is no longer a grating but a channel. If the filters prefer the frequencies of the
# classes, we should see it in the first stage. We compare them with the frequencies of the distractors (1.5 to 2.5
# and 13 to 15 cycles). All filters start from zero, so everything in them was learned.

# %%
first_stage = run.filters[0]
epochs, life = run.history(first_stage)
rings, width = spectra.rings(first_stage.size), first_stage.size[1]
rows = []
parts = (("classes", 4, 10), ("slow distractors", 1.5, 2.5), ("fast distractors", 13, 15))
for name, low, high in parts if on_bands else ():
    ring = (rings >= low) & (rings <= high)
    begin, now = (float(spectra.full_plane(life[at]["amplitude"], width)[ring].mean()) for at in (0, -1))
    rows.append({"band": name, "mean |H| now": now, "dB since epoch 1": float(20 * np.log10(now / begin))})
famviz.Table(rows, otherwise="Which frequencies matter for the class is known on bands only.")

# %%
mean = {row["band"]: row["mean |H| now"] for row in rows}
for name in ("slow distractors", "fast distractors") if rows else ():
    gap = 20 * np.log10(mean["classes"] / mean[name])
    word = "more" if gap > 0 else "less"
    print(f"{first_stage.title} passes the frequencies of the classes {abs(gap):.1f} dB {word} than the {name}")

# %% [markdown]
# ## What each branch contributes
#
# FAM adds two branches, each with a learned weight $\gamma$. The first table shows these weights, and the share of
# the global branch in the energy of the output for white noise. That share is a property of the weights. On real
# features it is different, as notebook 3 shows.

# %%
famviz.Table(
    {
        "": each.title,
        "gamma global": each.gamma[0],
        "gamma local": each.gamma[1] if len(each.gamma) > 1 else None,
        "share of global, white noise": each.total_share(),
    }
    for each in run.filters
)

# %% [markdown]
# The second table is a test: how far is the output of FAM from the teacher's features with both branches, and how far
# if one branch is switched off? The unit is the variance of the teacher's features: 0 is a perfect match, and a
# constant output would get 1.

# %%
distiller = networks.trained_distiller(run.run)
shots = networks.run_images(run.run, 200)
with torch.no_grad():
    student_maps, teacher_maps = distiller.student(shots.images)[1], distiller.teacher(shots.images)[1]
stages = distiller.methods["fam"].stages if "fam" in distiller.methods else ()
switches = {"both": (1, 1), "global only": (1, 0), "local only": (0, 1)}

# %%
rows = []
for stage, s, t, tap in zip(stages, student_maps, teacher_maps, distiller.student.taps):
    gamma, row = stage[0].gamma.clone(), {"stage": tap}
    for name, switch in switches.items():
        stage[0].gamma.data = gamma * torch.tensor(switch)[: len(gamma)]
        with torch.no_grad():
            row[name] = (F.mse_loss(stage(resize(s, t.shape[-2:])), t) / t.var()).item()
    stage[0].gamma.data = gamma
    rows.append(row)
famviz.Table(rows, otherwise="This test is for fam. In a review, the input of a level depends on the deeper levels.")

# %% [markdown]
# Switching off a branch shows how much the trained sum depends on it. It does not show what a student would learn
# without that branch, because the branches were trained together. To know that you have to train again, which
# notebook 6 does.
#
# ## In knowledge review
#
# The method `fam_review` goes through the stages from deep to shallow. At each level, cross attention in a 3 x 3
# window fuses the student's stage with the result of the deeper level. A FAM then brings the result to the teacher's
# shape.
#
# The pooled vector before the classifier takes part as a map of one pixel. A frequency filter has no effect on a
# single pixel, so at this level only the local branch is used.

# %%
review = famkd.load_recipe("bands/student", "--method", "fam_review")
levels = build_distiller(review, build_recipe_data(review), weights=False).methods["fam_review"].levels
for at, level in enumerate(levels):
    fam = level.leave[0]
    size = fam.filter.size if fam.filter else "without a filter, 1x1 convolution only"
    fusion = type(level.fuse).__name__ if level.fuse else "nothing to fuse"
    print(f"level {at}: {fusion}, then FAM {size}")

# %% [markdown]
# ## Did it help?
#
# The table compares the student with and without distillation. (If there is no run of the student alone, only one row
# is shown.) The lines below it are the answer: first for the run of this notebook, which is one seed, then for three
# seeds of `fam_review`, beside the student alone and beside the same method with its local branch only, which has no
# frequency filter.

# %%
runs = [networks.student_alone(run.run), run.run]
famviz.Table({"method": each.recipe.method, "last epoch top-1 %": each.metrics()[-1]["top1"]} for each in runs if each)

# %%
print(answers.accuracy_words(run))
print(studies.study_words(studies.study(), "fam_review", ("none", "fam_review branch=local")))

# %% [markdown]
# The run of this notebook is one seed with 400 test images and eight epochs. The standard error of each figure is
# about two points, before any difference between seeds. On `bands`, what the teacher knows *is* frequency, so
# frequency attention should help most here. The result says little about photographs.
#
# **Exercise.** Train `bands/student` with spatial maps (`--method at`) and compare. Then train with the global branch
# alone: `--method fam --fam.branch global`.
