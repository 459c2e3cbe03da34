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
# A dense frequency filter has a weight for every frequency and every pair of channels. From that follow its limits:
# it is bound to a map size, it is large, and it treats the map as periodic. This notebook shows each limit in
# numbers, then what can be done: separable and low-rank filters, and a grid.

# %%
import os

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
RUN = ""  # a run of yours, for the filters that are looked at; left empty, the quickstart, trained where it is missing

# %% [markdown]
# ## Limit 1: size
#
# The count is $C_{in} C_{out} \cdot H (W / 2 + 1) \cdot 2$ real numbers. On the `meta` device modules have shapes but
# no memory, so we can build what would not fit. Training needs the weight, its gradient and the momentum: three times
# four bytes each.

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
rows = []
for place, (c_in, c_out, side) in PLACES.items():
    row = {"stage": place}
    for name, options in OPTIONS.items():
        with torch.device("meta"):
            count = sum(p.numel() for p in FAM(c_in, c_out, (side, side), **options).parameters())
        row[f"{name}, MB to train"] = 12 * count / 1e6
    rows.append(row)
famviz.Table(rows)

# %% [markdown]
# The dense filter grows with the area of the map. That is why it is at home on small images, and why `separable`,
# `lowrank` and `grid` exist.
#
# ## Extension 1: separable and low-rank
#
# `separable` gives each input channel one filter and then mixes channels by a 1x1 convolution; `lowrank` mixes down
# to `rank` channels first. What is given up: with a dense filter each *pair* of channels may have a spectrum of its
# own. How much of a trained dense filter would a low-rank one have kept? An SVD over the channel pairs against the
# frequencies tells how many spectra there really are.

# %%
run = famviz.open(RUN) if RUN else None
if run and not run.filters:
    print(f"{run.name} holds no frequency filter, so what follows shows the quickstart's.")
if not (run and run.filters):
    run = famviz.open(famkd.train(famkd.load_recipe("quickstart"), runs=RUNS, resume=True))

# %%
picture = style.figure(5, 2.8)
ax = picture.subplots()
for each, colour in zip(run.filters, style.LINES):
    fresh = FourierFilter(*each.channels[::-1], each.size).response().numpy()
    for response, line in ((each.response, "-"), (fresh, ":")):
        s = np.linalg.svd(response.reshape(np.prod(each.channels), -1), compute_uv=False)
        label = f"{each.title}, {'trained' if line == '-' else 'noise'}"
        ax.plot(np.arange(1, len(s) + 1), np.cumsum(s**2) / np.sum(s**2), line, color=colour, label=label)
ax.set(xlabel="number of shared spectra", ylabel="energy that they hold", ylim=(0, 1))
ax.legend(bbox_to_anchor=(1.02, 1))
picture

# %% [markdown]
# Compare each solid line with the dotted one of its level, noise of the same size: where the solid line is higher,
# training has made the spectra of different pairs alike, and a cheaper filter loses less.
#
# Does it matter to the student? The same recipe with each kind, one seed, so look for large differences only.

# %%
rows = []
for kind in ("dense", "separable", "lowrank"):
    flags = ["--fam_review.filter", kind, "--name", f"limits/{kind}", "--no_baseline"]
    trained = famkd.train(famkd.load_recipe("quickstart", *flags), runs=RUNS, resume=True)
    count = sum(value.numel() for key, value in trained.method_state()[0].items() if ".filter." in key)
    last = trained.metrics()[-1]
    rows.append(
        {"filter": kind, "numbers in filters": count, "distance": last["fam_review.review"], "top-1 %": last["top1"]}
    )
famviz.Table(rows)

# %% [markdown]
# ## Limit 2: one size
#
# A filter of 8 x 8 knows frequencies up to 4 cycles per map. On a larger map of the same scene those are still the
# same cycles *per map*, so this implementation applies them there and passes nothing above. We test that on smooth
# maps: a filter applied at 8 px and enlarged should equal the filter applied at 16 px.


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
gap = module(enlarge(smooth, 16)) - enlarge(module(smooth), 16)
print(f"largest difference {gap.abs().max():.1e}, largest value {module(smooth).abs().max():.2f}")

# %% [markdown]
# So for smooth maps the size may change. For maps with detail it may not: whatever lies above the filter's
# frequencies is lost, and only the local branch carries it. How much of random noise (the worst case) passes at each
# size?

# %%
usual = module(torch.randn(8, 4, 8, 8)).var()
for side in (8, 12, 16, 32):
    share = module(torch.randn(8, 4, side, side)).var() / usual
    print(f"{side:2} px: {100 * share:3.0f} % of the variance that passes at 8 px")

# %% [markdown]
# ## Extension 2: a grid
#
# `grid: g` builds the filter for the lowest g x g frequencies from the start, whatever the map's size. Parameters no
# longer depend on the resolution, and a method can be moved between resolutions. It is also a low-pass for the global
# branch. Here is a filter of 200 px in miniature:

# %%
for grid in (0, 16, 8, 4):
    module = FAM(8, 16, (32, 32), grid=grid)
    out = [tuple(module(torch.randn(2, 8, side, side)).shape[2:]) for side in (32, 48)]
    print(f"grid {grid:2}: {sum(p.numel() for p in module.parameters()):7,} parameters, 32 and 48 px in, out {out}")

# %% [markdown]
# ## Limit 3: the map is taken as periodic
#
# The Fourier transform knows no border. What leaves on the right returns on the left. A bright dot near the right
# edge, through a smoothing filter:

# %%
ky, kx = np.fft.fftfreq(32, 1 / 32)[:, None], np.fft.rfftfreq(32, 1 / 32)[None]
smoother = FourierFilter(1, 1, (32, 32), highpass="none").requires_grad_(False)
smoother.weight.zero_()
smoother.weight[:, :, 0, 0, 0] = torch.from_numpy(np.exp(-(ky**2 + kx**2) / 40))
dot = torch.zeros(1, 1, 32, 32)
dot[..., 16, 30] = 1
padded = F.pad(dot, (8, 8, 8, 8))  # zeros around, then a filter of the larger size, then cut

# %%
wide = FourierFilter(1, 1, (48, 48), highpass="none").requires_grad_(False)
wide.weight.zero_()
ky, kx = np.fft.fftfreq(48, 1 / 32)[:, None], np.fft.rfftfreq(48, 1 / 32)[None]
wide.weight[:, :, 0, 0, 0] = torch.from_numpy(np.exp(-(ky**2 + kx**2) / 40))
views = {"dot": dot, "filtered": smoother(dot), "padded, filtered, cut": wide(padded)[..., 8:-8, 8:-8]}
pictures = style.figure(7.5, 2.6)
axes = pictures.subplots(1, 3)
for ax, (name, view) in zip(axes, views.items()):
    ax.imshow(view[0, 0], cmap="viridis")
    ax.set_title(name)
    ax.axis("off")
left = {name: view[..., :8].square().sum() / view.square().sum() for name, view in views.items()}
print({name: f"{100 * share:.1f} % in the left quarter" for name, share in left.items()})
pictures

# %% [markdown]
# Padding cures it and costs: a map padded by half its side has four times the pixels, and so has the filter. For
# distillation it is rarely worth it, since both networks pad their convolutions with zeros anyway, but at object
# borders the wrapped signal is wrong, and you can see why.
#
# ## Limit 4: it cannot choose a place
#
# Notebook 2 showed it: shift in, shift out. A filter finds textures, wherever they are. Where the *position* carries
# the class, the 1x1 convolution and the fusion must do the work.
#
# ## Limit 5: half precision
#
# FFTs in half precision exist for powers of two on a GPU and not at all on a CPU, so the filter computes in float32
# inside autocast. The rest of the network may run in bfloat16.

# %%
module = FAM(8, 16, (12, 12))
with torch.autocast("cpu", torch.bfloat16):
    wanted = module.filter(torch.randn(2, 8, 12, 12).bfloat16())
print("goes in as bfloat16, comes out as", wanted.dtype)
try:
    torch.fft.rfft2(torch.randn(12, 12).bfloat16())
except RuntimeError as error:
    print("plain FFT:", str(error).splitlines()[0])

# %% [markdown]
# ## Where one could go
#
# - **Filters made for the image**: a small network that writes $K$ from the pooled features. Then frequency attention
#   is attention in the usual sense, and no longer one picture for all images.
# - **Windows or wavelets** in place of one transform over the map: place and frequency at once, at two scales.
# - **Weights by ring** instead of by frequency: a hundred times fewer numbers, no direction. Would `bands` forgive
#   it?
#
# The last is quickly tried on a trained filter: keep only each ring's mean amplitude and see how much of the energy
# that explains. Of noise it is a known part, since amplitudes scatter about their mean. More than that means that the
# radius says it all, less that some frequencies stand out of their rings.

# %%
each = run.filters[0]
plane = np.abs(each.plane())
rings = np.rint(famviz.spectra.rings(each.size)).astype(int)
flat = np.zeros_like(plane)
for ring in range(rings.max() + 1):
    flat[..., rings == ring] = plane[..., rings == ring].mean(-1, keepdims=True)
print(f"amplitude explained by rings alone: {100 * (flat**2).sum() / (plane**2).sum():.0f} % of the energy")
random = np.sqrt(np.random.default_rng(0).exponential(size=plane.shape))
print(f"the mean of noise would explain:    {100 * random.mean() ** 2 / (random**2).mean():.0f} %")

# %%
plots.radial_curves(run.filters)

# %% [markdown]
# **Exercise.** Take a run on `bands` (`RUN = "runs/bands/student/fam-seed0"` after notebook 2) and go through this
# notebook again. Which of the answers change when there *is* something to learn about frequency?
