# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 7. The cost of frequency attention and of spatial attention
#
# **Question.** What does it cost to see all pixels of a map, in operations, parameters and time, and who pays for it?
#
# An attention module that sees more pixels costs more. This notebook counts the operations and parameters of each
# kind of attention, then measures times on your machine. The times depend on the machine and on other programs that
# run at the same time.
#
# The table is for a map of $C$ channels and $N = H \times W$ pixels, for the forward pass of one image. FAM includes
# its 1x1 convolution.
#
# | module | sees | multiplications, about | parameters |
# | --- | --- | --- | --- |
# | map of AT | its own pixel | $CN$ | 0 |
# | sigmoid gate | its own pixel | $6CN$ | $4C$ |
# | cross attention, 3 x 3 | nine pixels | $3C^2N + 18CN$ | $3C^2$ |
# | full spatial attention | all pixels | $3C^2N + 2CN^2$ | $3C^2$ |
# | FAM, dense | all pixels | $3C^2N + 5CN\log_2 N$ | $C^2N + C^2$ |
# | FAM, separable | all pixels | $2C^2N + 5CN\log_2 N$ | $CN + 2C^2$ |
#
# Full spatial attention compares every pixel with every other pixel, therefore $N^2$. FAM also sees all pixels, by
# means of the Fourier transform, whose cost is almost linear in $N$. The price is the number of parameters: a weight
# for every frequency.

# %%
import os
from contextlib import redirect_stdout
from functools import partial
from io import StringIO

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
RUN = ""  # path of a run, to count the parameters of its method at the end; empty: quickstart, trained if it is missing
recipe = famkd.load_recipe("quickstart", "--engine", "eager")

# %% [markdown]
# ## Time of each module, at three sizes
#
# `famkd.bench.modules` measures the forward and backward pass of all modules in turn, so that a moment in which the
# machine is slow affects all of them. The rows called `naive` are literal implementations of the same functions: a
# complex FFT of the full plane, and nine copies of the map.

# %%
rows = cost.costs(recipe, steps=3, batch=32, sizes=((16, 32), (32, 16), (64, 8)))
sizes = list(dict.fromkeys((row["channels"], row["side"]) for row in rows))
modules = list(dict.fromkeys(row["module"] for row in rows))
times = {(row["module"], row["channels"], row["side"]): row["ms"] for row in rows}
famviz.Table({"ms, batch 32": name} | {f"{c} ch {s} px": times[name, c, s] for c, s in sizes} for name in modules)

# %% [markdown]
# The next table shows the number of parameters. These three sizes are those of the stages of a CIFAR ResNet.

# %%
counts = {(row["module"], row["channels"], row["side"]): row["parameters"] for row in rows}
famviz.Table(
    {"parameters": name} | {f"{c} ch {s} px": counts[name, c, s] for c, s in sizes}
    for name in modules
    if not name.startswith("naive")
)

# %% [markdown]
# ## How the cost grows with the map
#
# According to the table at the beginning, the cost of full spatial attention grows with $N^2$ and that of FAM nearly
# with $N$. We check this with 16 channels, a batch of 8, and maps from 8 to 32 px. Full attention is a few lines of
# PyTorch:


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
    inputs = [x, x] if isinstance(module, CrossAttention) else [x]
    module(*inputs).sum().backward()


# %%
timer, found = cost.Timer(torch.device("cpu")), {name: [] for name in build}
for side in SIDES:
    x = torch.randn(8, 16, side, side, requires_grad=True)
    calls = [partial(step, make(side), x) for make in build.values()]
    for call in calls:
        call()  # once before times are measured
    for name, ms in zip(build, timer.medians(calls, 7)):
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
# $N$ is the square of the side. So a cost that is linear in $N$ has a slope of 2, and a quadratic cost has a slope of
# 4. The slopes are computed from the three sizes of 16 px and more. They are rough, since each time is only a few
# milliseconds. For small maps, calling PyTorch takes longer than the arithmetic.
#
# ## Where FAM spends its time
#
# FAM has three parts: the Fourier transform, the mixing of channels at every frequency, and the inverse transform.
# With more channels the mixing takes most of the time, because its cost is quadratic in the number of channels. That
# of the transforms is linear.

# %%
parts = []
for channels in (8, 32, 128):
    x, weight = torch.randn(16, channels, 16, 16), torch.randn(16 * 9, 2 * channels, 2 * channels)
    pairs = torch.randn(16 * 9, 16, 2 * channels)
    calls = [lambda: torch.fft.irfft2(torch.fft.rfft2(x)), lambda: torch.bmm(pairs, weight)]  # noqa: B023
    transforms, mix = timer.medians(calls, 7)
    parts.append({"channels": channels, "transforms, ms": transforms, "channel mix, ms": mix})
famviz.Table(parts)

# %% [markdown]
# ## A whole training step
#
# In the end the question is how much longer a training step takes with the method. `famkd bench RECIPE` measures the
# parts of a step.

# %%
rows = []
for method in ("fam", "fam_review", "reviewkd", "at", "kd"):
    figures = bench.bench(famkd.load_recipe("quickstart", "--method", method), steps=5)
    row = {"method": method, "step, ms": figures["ms_per_step"]}
    rows.append(row | {f"{part}, ms": figures[f"{part}_ms"] for part in bench.PARTS})
famviz.Table(rows)

# %% [markdown]
# ## After deployment
#
# After training the method costs nothing. Filters, fusion and connectors are not part of the exported student, which
# has only its own layers.

# %%
with redirect_stdout(StringIO()):  # the output of a training
    path = RUN or famkd.train(famkd.load_recipe("quickstart"), runs=RUNS, resume=True).path
distiller = networks.trained_distiller(path)
for name, part in {"student": distiller.deployed, "method, in training": distiller.methods}.items():
    print(f"{name}: {sum(p.numel() for p in part.parameters()):,} parameters")

# %% [markdown]
# ## Answer

# %%
steps = {row["method"]: row["step, ms"] for row in rows}
print(
    f"A step by fam takes {steps['fam'] / steps['kd']:.1f} times as long as one by kd, by fam_review "
    f"{steps['fam_review'] / steps['kd']:.1f} times. The exported student costs the same by every method."
)

# %% [markdown]
# **Exercise.** Your maps have 56 x 56 pixels and 256 channels. Compute the parameters and multiplications of the rows
# of the first table. Which module would you train, and what would you have to give up? Notebook 9 continues here.
#
# **Exercise.** `famkd bench cifar100/resnet56-resnet20 --against naive --noise` compares a full training step with a
# literal implementation, without the data set. Which part becomes faster, FAM or cross attention?
