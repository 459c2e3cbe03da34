# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 7. The cost of frequency attention against spatial attention
#
# Every attention pays for reach. This notebook counts what each kind costs, then measures it on the machine in front
# of you. Times are yours: another machine, or another program running beside, gives others.
#
# For a map of $C$ channels and $N = H \times W$ pixels, forward, per image (FAM with its 1x1 convolution):
#
# | module | sees | multiplications, about | parameters |
# | --- | --- | --- | --- |
# | AT's map | its own pixel | $CN$ | 0 |
# | sigmoid gate | its own pixel | $6CN$ | $4C$ |
# | cross attention, 3 x 3 | nine pixels | $3C^2N + 18CN$ | $3C^2$ |
# | full spatial attention | all pixels | $3C^2N + 2CN^2$ | $3C^2$ |
# | FAM, dense | all pixels | $3C^2N + 5CN\log_2 N$ | $C^2N + C^2$ |
# | FAM, separable | all pixels | $2C^2N + 5CN\log_2 N$ | $CN + 2C^2$ |
#
# Full spatial attention compares every pixel with every other, hence $N^2$. FAM reaches as far through the Fourier
# transform, whose cost is almost linear in $N$. The bill comes as parameters: a weight for every frequency.

# %%
import os
from functools import partial

import numpy as np
import torch
from torch import nn

import famkd
import famviz
from famkd.bench import modules as cost
from famkd.bench import step as bench
from famkd.layers.fourier import FAM
from famkd.layers.fusion import CrossAttention
from famviz import networks
from famviz.figures import style

# %%
RUNS = os.environ.get("FAMKD_RUNS", "runs")
RUN = ""  # a run of yours, for its own method's cost at the end; left empty, the quickstart, trained if missing
recipe = famkd.load_recipe("quickstart", "--engine", "eager")

# %% [markdown]
# ## Modules, at three sizes
#
# `famkd.bench.modules` times forward and backward of each module in turn: a slow moment of the machine hits all. The
# `naive` rows are the same functions written literally: a complex FFT of the full plane, and nine copies of the map.

# %%
rows = cost.costs(recipe, steps=3, batch=32, sizes=((16, 32), (32, 16), (64, 8)))
sizes = list(dict.fromkeys((row["channels"], row["side"]) for row in rows))
times = {(row["module"], row["channels"], row["side"]): row["ms"] for row in rows}
modules = list(dict.fromkeys(row["module"] for row in rows))
famviz.Table({"ms, batch 32": name} | {f"{c} ch {s} px": times[name, c, s] for c, s in sizes} for name in modules)

# %% [markdown]
# And their parameters. The same three sizes are the stages of a CIFAR ResNet.

# %%
counts = {(row["module"], row["channels"], row["side"]): row["parameters"] for row in rows}
famviz.Table(
    {"parameters": name} | {f"{c} ch {s} px": counts[name, c, s] for c, s in sizes}
    for name in modules
    if not name.startswith("naive")
)

# %% [markdown]
# ## How cost grows with the map
#
# The table above promises: full spatial attention grows with $N^2$, FAM nearly with $N$. We check with 16 channels,
# from 8 to 32 px, a batch of 8. Full attention is a few lines of PyTorch:


# %%
class FullAttention(nn.Module):
    """Every pixel attends to every pixel: softmax(Q K^T) V."""

    def __init__(self, channels):
        super().__init__()
        self.project = nn.Conv2d(channels, 3 * channels, 1, bias=False)

    def forward(self, x):
        q, k, v = self.project(x).flatten(2).transpose(1, 2).chunk(3, 2)
        weights = (q @ k.transpose(1, 2) / q.shape[2] ** 0.5).softmax(2)
        return (weights @ v).transpose(1, 2).view_as(x)


# %%
SIDES = (8, 12, 16, 24, 32)
build = {
    "full spatial attention": lambda side: FullAttention(16),
    "cross attention, 3 x 3": lambda side: CrossAttention(16),
    "FAM, dense": lambda side: FAM(16, 16, (side, side)),
    "FAM, separable": lambda side: FAM(16, 16, (side, side), filter="separable"),
}


def step(module, x):
    module(*([x, x] if isinstance(module, CrossAttention) else [x])).sum().backward()


# %%
clock, found = cost.Clock(torch.device("cpu")), {name: [] for name in build}
for side in SIDES:
    x = torch.randn(8, 16, side, side, requires_grad=True)
    calls = [partial(step, make(side), x) for make in build.values()]
    for call in calls:
        call()  # once before the clock starts
    for name, ms in zip(build, clock.in_turn(calls, 7)):
        found[name].append(ms)

# %%
picture = style.figure(7.5, 3)
ax = picture.subplots()
for name, ms in found.items():
    slope = np.polyfit(np.log(SIDES[2:]), np.log(ms[2:]), 1)[0]
    ax.loglog(SIDES, ms, "o-", label=f"{name}, slope {slope:.1f}")
ax.set(xlabel="side of the map, px", ylabel="ms, forward and backward", xticks=SIDES, xticklabels=SIDES)
ax.minorticks_off()
ax.legend(bbox_to_anchor=(1.02, 1), loc="upper left")
picture

# %% [markdown]
# $N$ is the side squared, so linear in $N$ is a slope of 2 and quadratic a slope of 4. Slopes are from 16 px on, from
# three points of a few milliseconds, hence rough; and small maps measure the overhead of calling PyTorch more than
# any arithmetic.
#
# ## Where FAM spends its time
#
# Three parts: transform, mix the channels at every frequency, transform back. With more channels the mix takes over,
# as it is quadratic in them; the transforms are not.

# %%
parts = []
for channels in (8, 32, 128):
    x, weight = torch.randn(16, channels, 16, 16), torch.randn(16 * 9, 2 * channels, 2 * channels)
    pairs = torch.randn(16 * 9, 16, 2 * channels)
    calls = [lambda: torch.fft.irfft2(torch.fft.rfft2(x)), lambda: torch.bmm(pairs, weight)]  # noqa: B023
    there_and_back, mix = clock.in_turn(calls, 7)
    parts.append({"channels": channels, "transforms, ms": there_and_back, "channel mix, ms": mix})
famviz.Table(parts)

# %% [markdown]
# ## A whole training step
#
# What counts in the end: how much longer a step takes with the method. `famkd bench RECIPE` times the step's parts.

# %%
famviz.Table(
    {"method": method, "step, ms": figures["ms_per_step"]}
    | {f"{part}, ms": figures[f"{part}_ms"] for part in bench.PIECES}
    for method in ("fam", "fam_review", "reviewkd", "at", "kd")
    for figures in [bench.bench(famkd.load_recipe("quickstart", "--method", method), steps=5)]
)

# %% [markdown]
# ## And when it is deployed?
#
# Nothing. Filters, fusion and connectors stay behind: the student that leaves has its own layers only.

# %%
path = RUN or famkd.train(famkd.load_recipe("quickstart"), runs=RUNS, resume=True).path
distiller = networks.trained_distiller(path)
for name, part in {"student": distiller.deployed, "method, in training": distiller.methods}.items():
    print(f"{name}: {sum(p.numel() for p in part.parameters()):,} parameters")

# %% [markdown]
# **Question.** Your maps have 56 x 56 pixels and 256 channels. Compute parameters and multiplications of the rows in
# the first table. Which would you train, and what would you have to give up? Notebook 9 goes on from here.
#
# **Exercise.** `famkd bench cifar100/resnet56-resnet20 --against naive --noise` compares a full step with its literal
# form, without the data set. Where is the gain: in FAM, or in the cross attention?
