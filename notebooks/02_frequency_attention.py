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
# A spatial attention map gives every *pixel* a weight. Frequency attention gives every *frequency* a weight. This
# notebook builds the second from its parts, on images where we know the answer, and ends inside a trained network.
#
# The module (Pham et al., WACV 2024) takes a feature map $X$ and answers
#
# $$F = \gamma_1\,\underbrace{\mathrm{Re}\,\mathcal F^{-1}(h \cdot K \cdot \mathcal F(X))}_{\text{global branch}}
# + \gamma_2\,\underbrace{\mathrm{Conv}_{1\times1}(X)}_{\text{local branch}}$$
#
# $\mathcal F$ is the two-dimensional Fourier transform, $K$ the learned filter, $h$ a high-pass.

# %%
import os
from itertools import product

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
from famviz.figures import style

# %%
RUNS = os.environ.get("FAMKD_RUNS", "runs")
RUN = ""  # a run of yours with frequency filters; left empty, `bands/student` by `fam`, trained where it is missing

# %% [markdown]
# ## Images with a known answer
#
# Each image of `bands` holds a disc with a grating in it. The class is the grating's frequency (5 or 9 cycles per
# image) and direction (four of them), eight classes in all. Noise and gratings of other frequencies are there to
# distract. The white line is the disc: *where* the evidence is. We also know *what* it is, a pair of points in the
# spectrum.

# %%
data, truth = bands(), bands_truth()
pictures = style.figure(10, 2.4)
axes = pictures.subplots(1, 5)
for ax, at in zip(axes, (0, 1, 2, 3, 4)):
    ax.imshow(data.x_test[at])
    ax.contour(truth.masks[at], [0.5], colors="white", linewidths=1)
    ax.set_title(data.classes[data.y_test[at]].replace(" at ", "\nat "))
    ax.axis("off")
pictures

# %% [markdown]
# ## One filter, by hand
#
# Let us not learn anything yet. We write a filter that passes frequencies near one class's wave vector and nothing
# else. `FourierFilter` is the global branch; its weight is half a spectrum, because a real image's other half is the
# mirror image of it.

# %%
ky, kx = np.fft.fftfreq(32, 1 / 32)[:, None], np.fft.rfftfreq(32, 1 / 32)[None]


def passing(vector, width=1.5):
    """A gain of 1 at +-vector that falls off as a Gaussian."""
    distances = [np.hypot(ky - sign * vector[0], kx - sign * vector[1]) for sign in (1, -1)]
    return np.exp(-(np.minimum(*distances) ** 2) / (2 * width**2))


bank = FourierFilter(1, 8, (32, 32), highpass="none").requires_grad_(False)
bank.weight.zero_()
for label, vector in enumerate(truth.wave_vectors()):
    bank.weight[:, :, 0, 0, label] = torch.from_numpy(passing(vector))  # input channel 0, real part, output channel

# %% [markdown]
# One input channel goes in, eight come out, one per class. We look at the first image through the filter of its own
# class and through that of another one: red above the mean, blue below, the ends of the colours in the titles. The
# answers are shown on a narrower range than the image, the same for both.

# %%
grey = torch.from_numpy(data.x_test.mean(-1)).float()
grey = (grey - grey.mean((1, 2), keepdim=True))[:, None]
out = bank(grey)

own = int(data.y_test[0])
other = (own + 2) % 8
shown = {"image": grey[0, 0], data.classes[own]: out[0, own], data.classes[other]: out[0, other]}
pictures = style.figure(9.5, 2.9)
axes = pictures.subplots(1, 3)
for ax, (name, values) in zip(axes, shown.items()):
    top = 90 if name == "image" else 25
    ax.imshow(values, cmap="RdBu_r", vmin=-top, vmax=top)
    ax.contour(truth.masks[0], [0.5], colors="black", linewidths=1)
    ax.set_title(f"{name}, \u00b1{top} grey levels")
    ax.axis("off")
pictures

# %% [markdown]
# The filter was told a frequency and nothing about the disc. It answers inside the disc because that is where its
# frequency lives. So weights on frequencies *do* select places: those with the right texture. Over the whole test
# set, how much of each filter's answer falls into the disc, and how often does the strongest answer name the class?

# %%
power = out.square()
inside = torch.from_numpy(truth.masks)[:, None]
answer = power[torch.arange(len(grey)), torch.from_numpy(data.y_test)]
share = (answer * inside[:, 0]).sum((1, 2)) / answer.sum((1, 2))
guess = power.sum((2, 3)).argmax(1).numpy()
print(f"energy of the own filter's answer inside the disc: {100 * share.mean():.0f} %")
print(f"the disc's share of the image: {100 * truth.masks.mean():.0f} %")
print(f"strongest filter names the class: {100 * (guess == data.y_test).mean():.0f} % (chance: 12.5 %)")

# %% [markdown]
# ## What a spatial map would have seen
#
# Attention transfer (AT) compares maps of energy per pixel. Give it the best it can get: the true disc. We draw two
# gratings of the same contrast into the same disc, of different classes, and compare what each view sees of them.

# %%
y, x = np.mgrid[:32, :32] / 32


def grating(label):
    v = truth.wave_vectors()[label]
    return np.sin(2 * np.pi * (v[0] * y + v[1] * x)) * truth.masks[0]


def spatial_map(image):
    """AT's map: energy at each pixel, here in cells of 4 x 4, as a deeper stage would have it."""
    return np.square(image).reshape(8, 4, 8, 4).mean((1, 3))


def alike(view):
    pairs = [
        np.corrcoef(view(grating(a)).ravel(), view(grating(b)).ravel())[0, 1]
        for a, b in product(range(8), repeat=2)
        if a < b
    ]
    return np.mean(pairs)


print(f"correlation between classes, spatial map:        {alike(spatial_map):.2f}")
print(f"correlation between classes, amplitude spectrum: {alike(lambda i: np.abs(np.fft.rfft2(i))):.2f}")

# %% [markdown]
# To the spatial map the classes are nearly the same picture: it says where something is and not what. The spectra
# differ. The reverse holds as well: move the disc and the amplitude spectrum hardly changes, the spatial map does.
# `bands` was built so that texture is everything, which makes this the best case for frequencies. In photographs both
# matter, and that is what the second branch is for.
#
# **Question.** Which data set would make spatial attention win? Describe one in a sentence.

# %% [markdown]
# ## Global: every output pixel sees every input pixel
#
# We ask autograd which input pixels can move the output pixel in the middle. For a 3 x 3 convolution that is nine. A
# product in frequency is a convolution with a kernel as large as the map.

# %%
torch.manual_seed(0)
pixel = torch.randn(1, 1, 32, 32, requires_grad=True)
modules = {"1x1 convolution": torch.nn.Conv2d(1, 1, 1), "3x3 convolution": torch.nn.Conv2d(1, 1, 3, padding=1),
           "Fourier filter": FourierFilter(1, 1, (32, 32))}  # fmt: skip
for name, module in modules.items():
    (slope,) = torch.autograd.grad(module(pixel)[0, 0, 16, 16], pixel)
    print(f"{name:16} sees {int((slope.abs() > 1e-8).sum()):4} of {slope.numel()} pixels")

# %% [markdown]
# ## What it cannot do: prefer a place
#
# The kernel is the same for all pixels. Shift the input and the output shifts along, so no filter can say "look at
# the upper left". Spatial attention can; frequency attention trades that for texture, all scales at once. The map
# also counts as periodic: what leaves on the right comes back on the left (notebook 9).

# %%
module = modules["Fourier filter"]
shift = {"shifts": (5, 11), "dims": (2, 3)}
with torch.no_grad():
    gap = module(pixel.roll(**shift)) - module(pixel).roll(**shift)
print(f"filter(shifted) - shifted(filter): at most {gap.abs().max():.1e}")

# %% [markdown]
# ## The high-pass
#
# `h` removes low frequencies from the global branch. The mean and the slow changes of a map carry most of its energy;
# left in, they would dominate the filter's gradient, and the 1x1 convolution beside it transports them anyway. Five
# kinds, on a 32 px map, as gain along one axis:

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
# `official` repeats the window of the authors' released code. Its width is rounded down, so with the released cutoff
# of 0.1 it removes nothing from small maps. The default here, `ideal`, always removes at least the mean.

# %%
for side in (4, 8, 16, 28, 32, 56):
    removed = {kind: int((highpass_gain(kind, (side, side), 0.1) < 1).sum()) for kind in ("official", "ideal")}
    print(f"{side:2} px: frequencies touched, official {removed['official']}, ideal {removed['ideal']}")

# %% [markdown]
# And what a high-pass does to an image of `bands`, as the cutoff rises; the line is the disc. Cutoff 0.4 of Nyquist
# removes everything below 6.4 cycles per image, so all classes of 5 cycles, and 0.7 also those of 9.

# %%
print("the image is of the class", data.classes[data.y_test[1]])
pictures = style.figure(9, 2.5)
axes = pictures.subplots(1, 4)
for ax, cutoff in zip(axes, (0.0, 0.2, 0.4, 0.7)):
    gain = highpass_gain("ideal", (32, 32), cutoff)
    ax.imshow(torch.fft.irfft2(torch.fft.rfft2(grey[1, 0]) * gain), cmap="RdBu_r", vmin=-90, vmax=90)
    ax.contour(truth.masks[1], [0.5], colors="black", linewidths=1)
    ax.set_title(f"cutoff {cutoff}: from {16 * cutoff:.1f} cycles")
    ax.axis("off")
pictures

# %% [markdown]
# ## In a network: layer to layer
#
# The method `fam` gives each student stage a FAM of its own and compares its output with the teacher's stage by mean
# squared error. Here is one for a student stage of 8 channels and a teacher stage of 16, at 32 px.

# %%
module = FAM(8, 16, (32, 32))
for name, parameter in module.named_parameters():
    print(f"{name:14} {tuple(parameter.shape)!s:20} {parameter.numel():>7,}")

# %% [markdown]
# Almost all parameters are the filter's. They are used in training only, but they do have to be learned; notebooks 7
# and 9 are about what that costs.
#
# Now a trained one. Teacher and student learn `bands`; the first time this takes about a minute.

# %%
run = famviz.open(RUN) if RUN else None
if run and not (run.run and run.filters):
    print(f"{run.name} is no run with frequency filters, so what follows shows bands/student by fam.")
if not (run and run.run and run.filters):
    recipe = famkd.load_recipe("bands/student", "--method", "fam")
    run = famviz.open(famkd.train(recipe, runs=RUNS, resume=True))
famviz.Table(run.run.metrics()[-1:])

# %% [markdown]
# What did the filters learn? The curve is the mean amplitude at each distance from the middle of the spectrum, for
# each stage. The gratings of the classes lie at 5 and 9 cycles per image, that is at 5/16 and 9/16 of the first
# stage's Nyquist frequency, dashed.

# %%
on_bands = run.run.recipe.data.name == "bands"
ax = plots.radial_curves(run.filters)
for cycles in (5, 9) if on_bands else ():
    ax.axvline(cycles / 16, color="grey", linestyle="--", linewidth=1)
ax

# %% [markdown]
# Deeper stages have smaller maps: 9 cycles do not fit into the 8 px of the last one, whose limit is 4. The class is
# not a grating any more there, it is a channel. So look for the known frequencies in the first stage, if anywhere,
# and compare with the distractors' ranges (1.5 to 2.5 and 13 to 15 cycles). Filters start from zero, so all of it was
# learned.

# %%
each = run.filters[0]
epochs, life = run.history(each)
rings = spectra.rings(each.size)
rows = []
parts = (("classes", 4, 10), ("slow distractors", 1.5, 2.5), ("fast distractors", 13, 15))
for name, low, high in parts if on_bands else ():
    ring = (rings >= low) & (rings <= high)
    first, last = (spectra.full_plane(life[at]["amplitude"], each.size[1])[ring].mean() for at in (0, -1))
    rows.append({"band": name, "mean |H| now": float(last), "dB since epoch 1": float(20 * np.log10(last / first))})
famviz.Table(rows, otherwise="Which frequencies carry the class is known on bands only.")

# %%
if rows:
    mean = {row["band"]: row["mean |H| now"] for row in rows}
    for name in ("slow distractors", "fast distractors"):
        gap = 20 * np.log10(mean["classes"] / mean[name])
        print(f"{each.title} passes the classes' frequencies {abs(gap):.1f} dB", "more" if gap > 0 else "less", end=" ")
        print(f"than those of the {name}")

# %% [markdown]
# ## Who carries what: switch a branch off
#
# Both branches are summed, each with a learned weight $\gamma$. First their weights and their shares of the energy on
# white noise, a property of the weights (notebook 3 measures it on features, where it comes out differently), then a
# test: how far from the teacher is the module's output with both branches, and with one of them
# silenced? In parts of the variance of the teacher's stage: 0 is perfect, 1 is what a constant would get.

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

# %%
distiller = networks.trained_distiller(run.run)
shots = networks.run_images(run.run, 200)
with torch.no_grad():
    (_, own), (_, others) = distiller.student(shots.images), distiller.teacher(shots.images)
rows, stages = [], distiller.methods["fam"].stages if "fam" in distiller.methods else ()
for stage, s, t, tap in zip(stages, own, others, distiller.student.taps):
    kept, row = stage[0].gamma.clone(), {"stage": tap}
    for name, mask in {"both": (1, 1), "global only": (1, 0), "local only": (0, 1)}.items():
        stage[0].gamma.data = kept * torch.tensor(mask)[: len(kept)]
        with torch.no_grad():
            row[name] = (F.mse_loss(stage(resize(s, t.shape[-2:])), t) / t.var()).item()
    stage[0].gamma.data = kept
    rows.append(row)
famviz.Table(rows, otherwise="This test is for fam: in a review, what a level is given depends on the deeper levels.")

# %% [markdown]
# Silencing shows what the trained sum relies on. It does not show what a student could learn without the branch: the
# two grew together. For that one has to train again, which notebook 6 does.
#
# ## In the review
#
# `fam_review` goes through the stages from deep to shallow. At each level the student's stage meets the deeper,
# already fused feature by cross attention in a 3 x 3 window, and a FAM carries the result to the teacher's shape. The
# pooled vector takes part as a map of one pixel, on which a frequency filter would be pointless: only the local
# branch runs.

# %%
review = famkd.load_recipe("bands/student", "--method", "fam_review")
levels = build_distiller(review, build_recipe_data(review), weights=False).methods["fam_review"].levels
for at, level in enumerate(levels):
    fam = level.leave[0]
    size = fam.filter.size if fam.filter else "no filter, 1x1 convolution only"
    print(f"level {at}: fuse by {type(level.fuse).__name__ if level.fuse else 'nothing'}, then FAM {size}")

# %% [markdown]
# ## Did it help?

# %%
alone, taught = networks.student_alone(run.run), run.run
famviz.Table(
    {"student": each.recipe.method, "last epoch top-1 %": each.metrics()[-1]["top1"]}
    for each in (alone, taught)
    if each
)  # the student alone has a row where such a run lies beside this one

# %% [markdown]
# One seed, 400 test images, eight epochs: a standard error of about two points on each figure, before any difference
# between seeds. On `bands` the teacher's advantage *is* frequency, so this is where frequency attention should help
# most. It tells little about photographs.
#
# **Exercise.** Train `bands/student` by `at` (spatial maps) with `--method at` and compare. Then give the global
# branch alone its chance: `--method fam --fam.branch global`.
