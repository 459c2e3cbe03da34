# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3. Look at the learned filters
#
# A trained run has one filter for each pair of an input and an output channel, at each stage. These are thousands of
# complex-valued pictures. This notebook shows how to look through them, what you can read from them, and what you
# cannot.
#
# Nearly everything here needs only the run directory, without data and networks. One section near the end measures
# what the filters do to real features. It loads the data and the networks.

# %%
import os
import tempfile

import numpy as np

import famkd
import famviz
from famkd.layers.fourier import FourierFilter
from famviz import plots, spectra
from famviz.figures import effect, style

# %%
RUNS = os.environ.get("FAMKD_RUNS", "runs")
RUN = ""  # path of a run or of a .pth of the released code; empty: bands/student by fam, trained if it is missing
# RUN = "runs/cifar100/resnet56-resnet20/fam_review-seed0" is included: 20 epochs of CIFAR-100

# %%
run = famviz.open(RUN) if RUN else None
if run and not run.filters:
    print(f"{run.name} holds no frequency filter. This notebook shows bands/student by fam instead.")
trained_here = not (run and run.filters)
if trained_here:
    recipe = famkd.load_recipe("bands/student", "--method", "fam")
    run = famviz.open(famkd.train(recipe, runs=RUNS, resume=True))
for each in run.filters:
    print(f"{each.title}: {each.channels[0]} x {each.channels[1]} filters of {each.size[0]} x {each.size[1]}")

# %% [markdown]
# ## The explorer
#
# The map on the left shows the energy of each filter. A row is an output channel and a column is an input channel.
# Click on a filter, or click on the map and use the arrow keys; all views show the chosen filter. With the menus you
# choose the level, the view and another run. The menu "wall" shows many filters at once. The slider shows earlier
# epochs.

# %%
explorer = famviz.FilterExplorer(run)
explorer

# %% [markdown]
# How to read the views:
#
# - **amplitude** $|H|$: which frequencies this filter passes, in dB of its largest value; with a number in "floor", of
#   the largest value of the level. The centre is the mean of the map (DC), the border the finest stripes. The red
#   outline is the high-pass: nothing inside it passes.
# - **phase**: how far each frequency is shifted. A filter with random phase scrambles positions.
# - **complex**: both at once. The hue is the phase, the brightness the amplitude.
# - **kernel**: the same filter as a convolution kernel. A single dot is a 1x1 convolution. A pattern that is spread
#   out is something that only the global branch can do.
# - **radial profile**: the amplitude as a function of the distance from the centre. A flat curve means that frequency
#   does not matter.
#
# All views show the *effective* filter. The output of FAM is real, so only the Hermitian part of a filter has an
# effect. Checkpoints of the released code also store a part without any effect. The view `raw` shows it, with its
# share.
#
# You can read the state of the explorer in Python:

# %%
print(explorer.level, explorer.c_out, explorer.c_in, explorer.view, explorer.to_numpy().shape)

# %% [markdown]
# And you can set it. This cell chooses the strongest filter of the first level; scroll up to see it.

# %%
strongest = np.unravel_index(run.filters[0].energy().argmax(), run.filters[0].channels)
explorer.level, explorer.c_out, explorer.c_in = 0, *map(int, strongest)

# %% [markdown]
# ## Was this learned?
#
# Filters start from zero, so everything in them was learned. (With `init: balanced` they start from noise, and noise
# can look interesting too.) When was it learned? The next cell trains the same recipe with the same seed for one
# epoch only, and opens both runs. The difference view shows what the other epochs changed: red means a higher
# amplitude.

# %%
if trained_here:
    flags = "--method fam --epochs 1 --name bands/early --no_baseline"
    early = famkd.load_recipe("bands/student", *flags.split())
    early = famviz.open(famkd.train(early, runs=RUNS, resume=True))
    display(famviz.FilterExplorer([run, early], other=early.name, level=0))
else:
    print("This comparison is made only for the run that this notebook trains.")

# %% [markdown]
# The same as numbers: which multiple of the early filter is contained in the final one, and how much of the final
# filter's energy is new?

# %%
for then, now in zip(early.filters, run.filters) if trained_here else ():
    kept = np.vdot(then.response, now.response).real / np.vdot(then.response, then.response).real
    new = np.linalg.norm(now.response - kept * then.response) / np.linalg.norm(now.response)
    print(f"{now.title}: {kept:.2f} x the early filter, and {100 * new**2:.0f} % of its energy is new")

# %% [markdown]
# ## How filters change during training
#
# After each epoch a small summary of the filters is saved. The pictures show all of them: a row is a ring of equal
# frequency, a column is an epoch. Weight decay shrinks everything that the loss does not keep up, so compare colours
# within a column as well as along a row.

# %%
pictures = style.figure(8, 2.6)
for at, ax in enumerate(pictures.subplots(1, len(run.filters))):
    plots.filter_life(run, at, ax)
pictures

# %% [markdown]
# ## A table of filters
#
# If you show a few of thousands of pictures, the choice can mislead. Numbers for all filters cannot. For each filter
# we compute:
#
# - *energy*: the variance of its output for white noise,
# - *centroid* and *bandwidth*: the mean frequency and the spread around it, as fractions of Nyquist,
# - *orientation*: the direction of the waves that pass, with a *coherence* from 0 (all directions) to 1 (one
#   direction).

# %%
each = run.filters[0]
energy, width = each.energy(), each.size[1]
degrees, coherence = spectra.orientation(each.response, width)
figures = {
    "energy": energy,
    "centroid": spectra.centroid_frequency(each.response, width),
    "bandwidth": spectra.bandwidth(each.response, width),
    "orientation": degrees,
    "coherence": coherence,
}
strongest = energy.argsort(axis=None)[::-1][:8]
pairs = [tuple(map(int, np.unravel_index(at, energy.shape))) for at in strongest]
famviz.Table({"out": o, "in": i} | {name: float(values[o, i]) for name, values in figures.items()} for o, i in pairs)

# %% [markdown]
# How would filters look that prefer nothing? Noise over the whole plane has a centroid of about 0.77 and almost no
# coherence. The next table compares all filters of each level with noise of the same size. A lower centroid means
# that the filters prefer low frequencies. A higher coherence means that they prefer directions.

# %%
rows = []
for each in run.filters:
    noise = FourierFilter(*each.channels[::-1], each.size).response().numpy()
    for name, response in (("trained", each.response), ("noise", noise)):
        centroid = spectra.centroid_frequency(response, each.size[1])
        coherence = spectra.orientation(response, each.size[1])[1]
        row = {"level": each.title, "filters": name}
        row |= {"centroid, mean": centroid.mean(), "centroid, spread": centroid.std()}
        rows.append(row | {"coherence, mean": coherence.mean(), "coherence, spread": coherence.std()})
famviz.Table(rows)

# %% [markdown]
# ## Global and local branch
#
# The local branch is a 1x1 convolution next to each filter. The weights alone allow a first comparison: the share of
# each branch in the energy of the output for *white noise*, which is equally strong at every frequency.

# %%
plots.share_bars(run)

# %% [markdown]
# This is a property of the weights. It does not say which branch is more important in the trained network, because
# real features are not white noise. If a filter is strong at frequencies at which the features are strong too, it
# contributes more than its bar says. If it is strong where the features have no energy, it contributes less.
#
# ## What the filters do to real features
#
# So we send the test images through the student and record, for each level: the input, the output of each branch, the
# output of FAM, and the remaining difference from the teacher. All spectra of a level have the same scale, in dB of
# the teacher's features.
#
# There are two plots of curves. The lower one compares gains. The dashed curve is the gain that $|H|$ predicts for
# channels that are uncorrelated. The solid curve is the measured gain. It is higher where the filter adds up
# correlated channels, and lower where it lets them cancel. The bars show the share of the global branch, for white
# noise and for these features.

# %%
known, why = [], "A checkpoint file does not say on which data it was trained."
try:
    known = effect.effects(run.run) if run.run else []
except famkd.UserError as error:  # data or teacher are not on this machine, or the task is not classification
    why = str(error)
effect.effect_figure(known) if known else print(why)

# %%
famviz.Table(effect.effect_table(known), otherwise=why)

# %% [markdown]
# Which branch matters more at which level? Read these columns:
#
# - `global on these features`: the share of the global branch in the energy of the output, with gamma and without the
#   mean. (The high-pass removes the mean from the global branch in any case.)
# - `cosine of the branches`: how similar the outputs of the two branches are. Near 0 they do different things, near 1
#   they do the same, below 0 they cancel each other.
# - `left to the teacher`: the energy of the remaining difference, relative to the energy of the teacher's features. A
#   constant output would get 1.
#
# A large share is not a success in itself. Where the difference from the teacher is still large, it is a large share
# of an output that does not match.

# %%
for each in known:
    if each.share is not None:
        word = "global" if each.share > 0.5 else "local"
        print(f"{each.name}: the {word} branch is stronger, share of global {100 * each.share:.2g} %", end=" ")
        print(f"(white noise {100 * each.white_share:.2g} %), {100 * each.left:.0f} % left to the teacher")

# %% [markdown]
# How does that differ from a spatial attention map? A spatial map multiplies pixels and is computed anew for each
# image. A frequency filter multiplies frequencies and is the same for all images: it is *learned*, and can be looked
# at without any data. Only its output depends on the image, as the last section has shown. Notebooks 4 and 5 continue
# with that.
#
# ## Figures for a paper
#
# Every view is a function that takes the argument `ax=` and returns the axes. `style.save` writes PNG, SVG and PDF
# files.

# %%
sheet = plots.contact_sheet(run.filters[0], 16)
sheet

# %%
files = style.save(sheet, f"{tempfile.mkdtemp()}/filters.png", ("png", "pdf"))
print([path.name for path in files])

# %% [markdown]
# For people without Python, `explorer.to_html("filters.html")` writes the explorer into one HTML file that opens
# without a network. `famviz report RUN` writes such a file with all views.
#
# **Exercise.** Find the filter with the highest coherence in level 0 and show it in the explorer. Is its direction
# one of the directions in `bands` (0, 45, 90, 135 degrees)? Do the same for the early run before you answer.
