# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3. Inspecting learned global filters
#
# A trained run holds one filter for every pair of an input and an output channel, at every stage. That is thousands
# of complex pictures. This notebook shows how to move among them, what to read off, and what not to.
#
# Nearly everything here needs the run directory only: no data, no networks. One section near the end asks what the
# filters do to real features, and for that it opens both.

# %%
import os

import numpy as np

import famkd
import famviz
from famviz import plots, spectra
from famviz.figures import effect, style

# %%
RUNS = os.environ.get("FAMKD_RUNS", "runs")
RUN = ""  # a run of yours, or a .pth of the released code; left empty, `bands/student` by `fam`, trained if missing
# RUN = "runs/cifar100/resnet56-resnet20/fam_review-seed0" comes with these notebooks: 20 epochs of CIFAR-100

# %%
recipe = famkd.load_recipe("bands/student", "--method", "fam")
run = famviz.open(RUN) if RUN else None
if run and not run.filters:
    print(f"{run.name} holds no frequency filter, so what follows shows bands/student by fam.")
if not (run and run.filters):
    RUN, run = "", famviz.open(famkd.train(recipe, runs=RUNS, resume=True))
for each in run.filters:
    print(f"{each.title}: {each.channels[0]} x {each.channels[1]} filters of {each.size[0]} x {each.size[1]}")

# %% [markdown]
# ## The explorer
#
# The map on the left is the energy of each pair, output channels down, input channels across. Click on it, or focus
# it and use the arrow keys: every view follows. The menus choose level, view and another run; the slider replays
# epochs.

# %%
explorer = famviz.FilterExplorer(run)
explorer

# %% [markdown]
# How to read the views:
#
# - **amplitude** $|H|$: which frequencies this pair lets through, in dB of the level's largest. The middle is the
#   mean of the map (DC), the edge the finest stripes. The red outline is the high-pass: nothing passes inside it.
# - **phase**: by how much each frequency is shifted in place. Random phase means that the filter scrambles positions.
# - **complex**: both at once, hue for phase, brightness for amplitude.
# - **kernel**: the same filter as a convolution kernel. A single dot is a 1x1 convolution; a spread-out texture is
#   what only the global branch can do.
# - **radial profile**: amplitude against distance from the middle. Level curves mean that frequency does not matter.
#
# All views show the filter that *acts*. The output is real, so only the Hermitian half of a filter has any effect;
# the rest of what a file of the released code stores is inert (`raw` shows it, with its share).
#
# The explorer's traits are its interface, both ways. What did you choose?

# %%
print(explorer.level, explorer.c_out, explorer.c_in, explorer.view, explorer.to_numpy().shape)

# %% [markdown]
# And from here to there: the strongest filter of the first level. Scroll up and see.

# %%
strongest = np.unravel_index(run.filters[0].energy().argmax(), run.filters[0].channels)
explorer.level, explorer.c_out, explorer.c_in = 0, *map(int, strongest)

# %% [markdown]
# ## Did training make this?
#
# Filters start from zero, so all you see was learned (unless the run says `init: balanced`, which starts from noise,
# and noise makes pretty pictures too). When was it learned? The run below is the same, from the same seed, stopped
# after one epoch. It is chosen as the second run, so the difference shows what the other epochs did, red for more.

# %%
if not RUN:
    flags = "--method fam --epochs 1 --name bands/early --no_baseline"
    early = famkd.load_recipe("bands/student", *flags.split())
    early = famviz.open(famkd.train(early, runs=RUNS, resume=True))
    display(famviz.FilterExplorer([run, early], other=early.name, level=0))
else:
    print("Only the run that is trained here has a twin that was stopped after one epoch.")

# %% [markdown]
# One number for that: how much of the final filter's energy was there in the beginning, and in which direction it
# moved.

# %%
if not RUN:
    for then, now in zip(early.filters, run.filters):
        kept = np.vdot(then.response, now.response).real / np.vdot(then.response, then.response).real
        new = np.linalg.norm(now.response - kept * then.response) / np.linalg.norm(now.response)
        print(f"{now.title}: {kept:.2f} x the early filter, and {100 * new**2:.0f} % of its energy is new")

# %% [markdown]
# ## The life of a filter
#
# Every epoch leaves a small summary, so the whole life is there. Rows are rings of equal frequency, columns are
# epochs. Weight decay shrinks what the loss does not hold up: compare colours within a column as well as along the
# row.

# %%
pictures = style.figure(8, 2.6)
for ax, at in zip(pictures.subplots(1, len(run.filters)), range(len(run.filters))):
    plots.filter_life(run, at, ax)
pictures

# %% [markdown]
# ## A table of filters
#
# Pictures of thousands of filters mislead by the choice of which to show. Figures do not. Energy is the output's
# variance on white noise; centroid and bandwidth are fractions of Nyquist; orientation is the direction of the waves
# with a coherence from 0 (every direction) to 1 (one).

# %%
each = run.filters[0]
energy, width = each.energy(), each.size[1]
centroid, spread = spectra.centroid_frequency(each.response, width), spectra.bandwidth(each.response, width)
degrees, coherence = spectra.orientation(each.response, width)
names = ("energy", "centroid", "bandwidth", "orientation", "coherence")
figures = dict(zip(names, (energy, centroid, spread, degrees, coherence)))
pairs = [np.unravel_index(at, energy.shape) for at in energy.argsort(axis=None)[::-1][:8]]
famviz.Table({"out": int(o), "in": int(i)} | {name: float(f[o, i]) for name, f in figures.items()} for o, i in pairs)

# %% [markdown]
# What would filters look like that have no preference? Noise over the whole plane has a centroid of about 0.77, and
# next to no coherence. Here is the distribution over all filters of each level, beside noise of the same size. A
# centroid below says that the filters prefer low frequencies, a coherence above that they prefer directions.

# %%
from famkd.layers.fourier import FourierFilter

rows = []
for each in run.filters:
    fresh = FourierFilter(*each.channels[::-1], each.size).response().numpy()
    for name, response in (("trained", each.response), ("noise", fresh)):
        middle = spectra.centroid_frequency(response, each.size[1])
        turned = spectra.orientation(response, each.size[1])[1]
        row = {"level": each.title, "filters": name, "centroid, mean": middle.mean(), "centroid, spread": middle.std()}
        rows.append(row | {"coherence, mean": turned.mean(), "coherence, spread": turned.std()})
famviz.Table(rows)

# %% [markdown]
# ## Global against local
#
# Beside each filter a 1x1 convolution does the local part. The weights alone give a first comparison: the share of
# each branch in the energy on *white input*, noise that is equally strong at every frequency.

# %%
plots.share_bars(run)

# %% [markdown]
# That is a property of the weights and no answer to "which branch carries the level": features are not white. A filter
# that is strong where the features are strong carries more than its bar says, one that is strong where they hold
# nothing carries less. To know, one has to look.
#
# ## What the filter does to these very features
#
# So we send the test images through the student and watch each level: what enters it, what each branch puts out, what
# leaves it, and what is still left to the teacher. All planes of a level share one scale, in dB of the teacher's
# feature. Of the two curves, the lower compares gains: dashed what $|H|$ promises for channels that have nothing to do
# with one another, solid what was measured. The measured one is higher where the filter adds up channels that move
# together, lower where it lets them cancel. Beside them stands the share of the global branch, on white input and on
# these features.

# %%
known, why = [], "A bare checkpoint names no data that could be sent through."
try:
    known = effect.effects(run.run) if run.run else []
except famkd.UserError as error:  # the data or the teacher are elsewhere, or it is no classification
    why = str(error)
effect.effect_figure(known) if known else print(why)

# %%
famviz.Table(effect.effect_table(known), otherwise=why)

# %% [markdown]
# Which branch carries the level? Read `global on these features`, the share of the global branch in the energy of
# FAM's output, gamma included and means apart, as the high-pass takes those from the global branch anyway. A cosine
# near 0 says that the branches do different work; towards 1 they say the same, below 0 they cancel. `left to the
# teacher` is the energy of the difference in parts of the teacher's: 1 is what a constant would get. A large share is
# no merit by itself: where much is left, it is a large share of little.

# %%
for each in known:
    if each.share is not None:
        word = "global" if each.share > 0.5 else "local"
        print(f"{each.name}: the {word} branch carries it, global {100 * each.share:.2g} %", end=" ")
        print(f"(on white input {100 * each.white_share:.2g} %), {100 * each.left:.0f} % left to the teacher")

# %% [markdown]
# How does that differ from a spatial attention map? A spatial map multiplies pixels and is made anew for every image.
# A frequency filter multiplies frequencies and is the same for all images: it is *learned*, so it can be looked at
# once, without any data. What depends on the image is the output, as we just saw; the next two notebooks go on there.
#
# ## Figures for a paper
#
# Every view is a function that takes `ax=` and returns it. `style.save` writes PNG, SVG and PDF.

# %%
sheet = plots.contact_sheet(run.filters[0], 16)
sheet

# %%
import tempfile

print([path.name for path in style.save(sheet, f"{tempfile.mkdtemp()}/filters.png", ("png", "pdf"))])

# %% [markdown]
# For people without Python, `explorer.to_html("filters.html")` writes the explorer as one page that opens offline,
# and `famviz report RUN` a page with everything.
#
# **Exercise.** Find the filter with the highest coherence in level 0 and show it in the explorer. Is its direction
# one of those of `bands` (0, 45, 90, 135 degrees)? Do the same with the early run before you answer.
