# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 9. Limits and extensions
#
# **Question.** Where does frequency attention stop to work, and what can be done about it?
#
# A dense frequency filter has a weight for each frequency and each pair of channels. This has three consequences: the
# filter is bound to one size of the map, it is large, and it treats the map as periodic. This notebook shows each
# limit in numbers, and what can be done about it: separable filters, low-rank filters, and a grid.

# %%
import os
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import torch
import torch.nn.functional as F

import famkd
import famviz
from famkd.layers.fourier import FAM, FourierFilter
from famviz import plots
from famviz.figures import style

# %%
RUNS = os.environ.get("FAMKD_RUNS", "runs")
RUN = ""  # path of a run whose filters are shown; empty: the quickstart run, which is trained if it is missing

# %% [markdown]
# ## Limit 1: size
#
# A dense filter has $C_{in} C_{out} \cdot H (W / 2 + 1) \cdot 2$ real numbers. Training stores the weight, its
# gradient and the momentum, with four bytes for each number. On the `meta` device modules have shapes but use no
# memory, so we can build modules there that would not fit into memory.

# %%
PLACES = {
    "CIFAR, 64 ch, 8 px": (64, 64, 8),
    "CIFAR, 256 ch, 8 px": (256, 256, 8),
    "ImageNet, 256 ch, 28 px": (256, 256, 28),
    "ImageNet, 256 ch, 56 px": (256, 256, 56),
    "detection, 256 ch, 200 px": (256, 256, 200),
}
OPTIONS = {
    "dense": {},
    "lowrank, 16": {"filter": "lowrank"},
    "separable": {"filter": "separable"},
    "dense, grid 8": {"grid": 8},
}

# %%
sizes = []
for place, (c_in, c_out, side) in PLACES.items():
    row = {"stage": place}
    for name, options in OPTIONS.items():
        with torch.device("meta"):
            module = FAM(c_in, c_out, (side, side), **options)
        count = sum(p.numel() for p in module.parameters())
        row[f"{name}, MB to train"] = 12 * count / 1e6
    sizes.append(row)
famviz.Table(sizes)

# %% [markdown]
# The dense filter grows with the area of the map. It is suited to small images; for larger ones there are
# `separable`, `lowrank` and `grid`.
#
# ## Extension 1: separable and low-rank filters
#
# `separable` applies one filter to each input channel, then mixes the channels with a 1x1 convolution. `lowrank`
# first mixes the input down to `rank` channels. What is lost is that in a dense filter each *pair* of channels can
# have a spectrum of its own.
#
# How much of a trained dense filter would a low-rank filter keep? We write the filter as a matrix of channel pairs by
# frequencies. Its singular values tell how many different spectra there are.

# %%
run = famviz.open(RUN) if RUN else None
if run and not run.filters:
    print(f"{run.name} holds no frequency filter. This notebook shows the quickstart run instead.")
if not (run and run.filters):
    with redirect_stdout(StringIO()):  # the output of a training
        run = famviz.open(famkd.train(famkd.load_recipe("quickstart"), runs=RUNS, resume=True))

# %%
picture = style.figure(5, 2.8)
ax = picture.subplots()
for each, colour in zip(run.filters, style.LINES):
    noise = FourierFilter(*each.channels[::-1], each.size).response().numpy()
    for name, response, line in (("trained", each.response, "-"), ("noise", noise, ":")):
        s = np.linalg.svd(response.reshape(np.prod(each.channels), -1), compute_uv=False)
        energy = np.cumsum(s**2) / np.sum(s**2)
        ax.plot(np.arange(1, len(s) + 1), energy, line, color=colour, label=f"{each.title}, {name}")
ax.set(xlabel="number of shared spectra", ylabel="share of the energy", ylim=(0, 1))
ax.legend(bbox_to_anchor=(1.02, 1))
picture

# %% [markdown]
# Compare each solid line with the dotted line of the same level, which is noise of the same size. If the solid line
# is higher, training has made the spectra of different pairs similar, and a cheaper filter loses less.
#
# Does the kind of filter matter to the student? We train the same recipe with each kind. There is one seed, so look
# for large differences only.

# %%
rows = []
for kind in ("dense", "separable", "lowrank"):
    flags = ["--fam_review.filter", kind, "--name", f"limits/{kind}", "--no_baseline"]
    with redirect_stdout(StringIO()):
        trained = famkd.train(famkd.load_recipe("quickstart", *flags), runs=RUNS, resume=True)
    state, last = trained.method_state()[0], trained.metrics()[-1]
    count = sum(value.numel() for key, value in state.items() if ".filter." in key)
    row = {"filter": kind, "numbers in filters": count}
    rows.append(row | {"distance": last["fam_review.review"], "top-1 %": last["top1"]})
famviz.Table(rows)

# %% [markdown]
# ## Limit 2: one size
#
# A filter of 8 x 8 contains frequencies up to 4 cycles per map. On a larger map of the same scene these are the same
# cycles *per map*. So this implementation applies the filter to these frequencies and passes no higher ones. We test
# it on smooth maps: filtering at 8 px and enlarging the result should be equal to filtering the enlarged map at 16
# px.


# %%
def enlarge(maps, side):
    """The same smooth map with more pixels: its spectrum padded with zeros."""
    spectrum = torch.fft.rfft2(maps)
    padded = torch.zeros(*maps.shape[:2], side, side // 2 + 1, dtype=spectrum.dtype)
    padded[..., [0, 1, 2, 3, -3, -2, -1], :4] = spectrum[..., [0, 1, 2, 3, -3, -2, -1], :4]
    return torch.fft.irfft2(padded, s=(side, side)) * (side / maps.shape[-1]) ** 2


torch.manual_seed(0)
module = FourierFilter(4, 4, (8, 8), highpass="none").requires_grad_(False)
smooth = enlarge(torch.randn(1, 4, 8, 8), 8)
difference = module(enlarge(smooth, 16)) - enlarge(module(smooth), 16)
print(f"largest difference {difference.abs().max():.1e}, largest value {module(smooth).abs().max():.2f}")

# %% [markdown]
# So for smooth maps the size may change. For maps with fine details it may not: frequencies above those of the filter
# are lost, and only the local branch passes them. The worst case is random noise. How much of it passes at each size?

# %%
passed = {side: float(module(torch.randn(8, 4, side, side)).var()) for side in (8, 12, 16, 32)}
passing = {side: variance / passed[8] for side, variance in passed.items()}
for side, share in passing.items():
    print(f"{side:2} px: {100 * share:3.0f} % of the variance that passes at 8 px")

# %% [markdown]
# ## Extension 2: a grid
#
# `grid: g` builds the filter for the lowest g x g frequencies from the start, whatever the size of the map. The
# number of parameters no longer depends on the resolution, and a method can be used at several resolutions. In
# exchange, the global branch becomes a low-pass. Here is a small example:

# %%
for grid in (0, 16, 8, 4):
    module = FAM(8, 16, (32, 32), grid=grid)
    count = sum(p.numel() for p in module.parameters())
    out = [tuple(module(torch.randn(2, 8, side, side)).shape[2:]) for side in (32, 48)]
    print(f"grid {grid:2}: {count:7,} parameters; output for 32 and 48 px: {out}")

# %% [markdown]
# ## Limit 3: the map is treated as periodic
#
# For the Fourier transform a map has no border: what leaves it on the right comes back on the left. We send a bright
# dot near the right border through a smoothing filter. Then we do the same on a map with a border of zeros, and cut
# the border off again.


# %%
def smoothing_filter(side):
    """A Gaussian low-pass, with the frequencies of a 32 px map."""
    ky, kx = np.fft.fftfreq(side, 1 / 32)[:, None], np.fft.rfftfreq(side, 1 / 32)[None]
    smoother = FourierFilter(1, 1, (side, side), highpass="none").requires_grad_(False)
    smoother.weight.zero_()
    smoother.weight[:, :, 0, 0, 0] = torch.from_numpy(np.exp(-(ky**2 + kx**2) / 40))
    return smoother


dot = torch.zeros(1, 1, 32, 32)
dot[..., 16, 30] = 1
padded = F.pad(dot, (8, 8, 8, 8))
cut = smoothing_filter(48)(padded)[..., 8:-8, 8:-8]

# %%
views = {"dot": dot, "filtered": smoothing_filter(32)(dot), "padded, filtered, cut": cut}
pictures = style.figure(7.5, 2.6)
for ax, (name, view) in zip(pictures.subplots(1, 3), views.items()):
    ax.imshow(view[0, 0], cmap="viridis")
    ax.set_title(name)
    ax.axis("off")
    share = view[..., :8].square().sum() / view.square().sum()
    print(f"{name}: {100 * share:.1f} % of the energy in the left quarter")
pictures

# %% [markdown]
# Padding solves the problem but costs time and memory: a map padded by half its side on each side has four times as
# many pixels, and so has the filter. For distillation it is rarely worth that, because both networks pad their
# convolutions with zeros anyway. But the output near the border of a map is wrong, and here you see why.
#
# ## Limit 4: a filter cannot choose a position
#
# Notebook 2 has shown it: if the input is shifted, the output is shifted. A filter finds textures wherever they are.
# If the *position* is important for the class, the 1x1 convolution and the fusion have to use it.
#
# ## Limit 5: half precision
#
# The transform adds up all pixels of a map. In float16, whose largest number is 65,504, the sum of a large map is
# infinite. In bfloat16 it is finite, but every frequency keeps only two or three significant digits. So the filter
# computes in float32, inside autocast too. The rest of the network may use half precision. We look at what maps would
# lose if their spectrum were stored in half precision between the two transforms.


# %%
def stored_in_half(maps, kind):
    """The maps after a transform and back, with the spectrum rounded to half precision in between."""
    parts = torch.view_as_real(torch.fft.rfft2(maps)).to(kind).float()
    return torch.fft.irfft2(torch.view_as_complex(parts), s=maps.shape[-2:])


errors = []
for side in (8, 32, 128, 512):
    maps = 1 + 0.05 * torch.randn(1, 4, side, side)  # a bright map with a weak texture, as after a ReLU
    row = {"side, px": side, "largest sum": float(torch.fft.rfft2(maps).abs().max())}
    for kind in (torch.float32, torch.bfloat16, torch.float16):
        error = (stored_in_half(maps, kind) - maps).std() / maps.std()
        row[f"error of the texture, {str(kind).removeprefix('torch.')}"] = float(error)
    errors.append(row)
famviz.Table(errors)

# %% [markdown]
# A dash means that the sum was infinite and nothing is left. The filter of famkd computes in float32, also inside
# autocast, and rounds only its output:

# %%
module, maps = FourierFilter(8, 16, (12, 12)), torch.randn(2, 8, 12, 12).bfloat16()
with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
    output, exact = module(maps), module(maps.float())
rounded_once = torch.equal(output, exact.to(output.dtype))
print(f"output {output.dtype}, equal to the result of float32 after one rounding: {rounded_once}")

# %% [markdown]
# ## Possible extensions
#
# - **Filters that depend on the image**: a small network computes $K$ from the pooled features. Then frequency
#   attention is attention in the usual sense, and no longer the same for all images.
# - **Windows or wavelets** instead of one transform of the whole map: position and frequency at the same time, at two
#   scales.
# - **Weights for rings** of equal frequency instead of single frequencies: about a hundred times fewer numbers, but
#   no direction. Would that be enough for `bands`?
#
# The last one can be tried quickly on a trained filter: replace the amplitudes in each ring by their mean, and
# compute how much of the energy remains. For noise the share is known, because amplitudes vary around their mean. If
# more remains than for noise, the amplitude depends mostly on the ring. If less remains, some frequencies stand out
# from their rings.

# %%
each = run.filters[0]
plane = np.abs(each.plane())
rings = np.rint(famviz.spectra.rings(each.size)).astype(int)
flat = np.zeros_like(plane)
for ring in range(rings.max() + 1):
    flat[..., rings == ring] = plane[..., rings == ring].mean(-1, keepdims=True)
noise = np.sqrt(np.random.default_rng(0).exponential(size=plane.shape))
print(f"energy that remains with rings alone: {100 * (flat**2).sum() / (plane**2).sum():.0f} %")
print(f"the same for noise:                   {100 * noise.mean() ** 2 / (noise**2).mean():.0f} %")

# %%
plots.radial_curves(run.filters)

# %% [markdown]
# ## Answer

# %%
largest, overflown = sizes[-1], [row["side, px"] for row in errors if np.isnan(row["error of the texture, float16"])]
dense, grid = largest["dense, MB to train"], largest["dense, grid 8, MB to train"]
print(f"Size: for {largest['stage']} a dense filter takes {dense:,.0f} MB to train, with a grid of 8 {grid:,.0f} MB.")
print(f"Details: {100 * passing[32]:.0f} % of the variance of noise that passes at 8 px passes at 32 px.")
print(f"Half precision: float16 overflows from {min(overflown)} px on." if overflown else "float16 did not overflow.")

# %% [markdown]
# **Exercise.** Use a run on `bands` (`RUN = "runs/bands/student/fam-seed0"` after notebook 2) and go through this
# notebook again. Which results change when the data *do* depend on frequency?
