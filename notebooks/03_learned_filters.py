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
# **Question.** Which frequencies do the filters of frequency attention learn to pass, and does the student need them?
#
# A trained run has one filter for each pair of an input and an output channel, at each level of the method. These are
# thousands of complex-valued pictures. The first half of this notebook looks through them and needs only the run
# directory. The second half loads data and networks and measures what the filters do.

# %%
import os
import tempfile

from IPython.display import HTML

import famkd
import famviz
from famkd.compare import compare
from famviz import plots
from famviz.analysis import answers, filter_tables, studies
from famviz.figures import effect, style

RUNS = os.environ.get("FAMKD_RUNS", "runs")
RUN = ""  # path of a run or of a .pth of the released code; empty: bands/student, trained if it is missing
# RUN = "runs/cifar100/resnet56-resnet20/fam_review-seed0" is included: 20 epochs of CIFAR-100

# %%
run = famviz.open(RUN) if RUN else None
if run and not run.filters:
    print(f"{run.name} holds no frequency filter. This notebook shows bands/student instead.")
if not (run and run.filters):
    run = famviz.open(famkd.train(famkd.load_recipe("bands/student"), runs=RUNS, resume=True))
run

# %% [markdown]
# ## The explorer
#
# The map on the left shows the energy of each filter. A row is an output channel and a column is an input channel.
# Click on a filter, or click on the map and use the arrow keys; all views show the chosen filter. With the menus you
# choose the level, the view and another run. The menu "wall" shows many filters at once, and the table below holds
# every filter of the level. `?` lists the keys.
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

# %%
explorer = famviz.FilterExplorer(run)
explorer

# %% [markdown]
# You can read and set the state of the explorer in Python. This cell chooses the filter with the clearest direction
# among the twenty strongest of the first level; scroll up to see it.

# %%
rows = filter_tables.strongest_rows(run.filters[0], 20)
clearest = max(rows, key=lambda row: row["coherence"])
explorer.level, explorer.c_out, explorer.c_in = 0, clearest["out"], clearest["in"]
famviz.Table(rows[:8])

# %% [markdown]
# If you show a few of thousands of pictures, the choice can mislead. Numbers for all filters cannot. The next table
# compares all filters of each level with noise of the same size, which prefers nothing. A lower centroid means that
# the filters prefer low frequencies. A higher coherence means that they prefer directions.

# %%
famviz.Table(filter_tables.against_noise(run.filters))

# %% [markdown]
# ## Was this learned, and when?
#
# Filters start from zero, so everything in them was learned. (With `init: balanced` they start from noise, and noise
# can look interesting too.) After each epoch a small summary of the filters is saved. The dashboard shows them as they
# formed: point at a curve to choose an epoch.

# %%
dashboard = famviz.Dashboard(run) if run.run else None
dashboard

# %% [markdown]
# The same as numbers. *likeness* says how alike the picture of a level is to its last one, and *energy* how strong it
# is, as a share of the last. Weight decay shrinks everything that the loss does not keep up, so energy may fall.

# %%
famviz.Table(filter_tables.formation(run), otherwise="This file holds no summaries of single epochs.")

# %% [markdown]
# ## What the filters do to real features
#
# A filter that is strong at frequencies that the features do not have contributes nothing. So we send the test images
# through the student and record, for each level: the input, the output of each branch, the output of FAM, and the
# remaining difference from the teacher. All spectra of a level have the same scale, in dB of the teacher's features.
#
# The lower curves compare gains. The dashed curve is the gain that $|H|$ predicts for channels that are uncorrelated,
# the solid curve the measured one. It is higher where the filter adds up correlated channels, and lower where it lets
# them cancel. The bars show the share of the global branch, for white noise and for these features.

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
# of an output that does not match. The explorer shows the same for one image and one filter.

# %%
famviz.FilterExplorer(run, image=0) if known else print(why)

# %% [markdown]
# ## Does the student need the filters?
#
# The control is the same method with the local branch alone (`--fam_review.branch local`): a 1x1 convolution and no
# frequency filter. A single run cannot answer, so the table shows three seeds of `bands/student` for each variant. It
# was measured with `famkd sweep benchmarks/truth/parts_bands.yaml`, which takes about an hour.

# %%
study = studies.study("parts_bands")
HTML(compare([studies.study_folder("parts_bands")], format="html"))

# %% [markdown]
# ## Answer

# %%
control = "fam_review branch=local"
print(answers.filters_words(run.filters, known))
print(studies.study_words(study, "fam_review", ("none", control)))
print(studies.study_words(study, control, ("none",)))

# %% [markdown]
# The filters learn frequencies, as the first lines say. Read the last two lines for what this is worth: if the whole
# method is not told apart from its local branch, then the teacher's feature maps help, and the frequency filters have
# not been shown to help on these images. [Does frequency attention help?](../docs/truth.md) keeps the state of this
# question, with p values that are corrected for the number of comparisons; the intervals above are not.
#
# ## Figures for a paper
#
# Every view is a function that takes the argument `ax=` and returns the axes. `style.save` writes PNG, SVG and PDF
# files. For people without Python, `explorer.to_html("filters.html")` writes the explorer into one HTML file that opens
# without a network, and `famviz report RUN` a page with all views.

# %%
sheet = plots.contact_sheet(run.filters[0], 16)
print([path.name for path in style.save(sheet, f"{tempfile.mkdtemp()}/filters.png", ("png", "pdf"))])
sheet

# %% [markdown]
# **Exercise.** Look at the filter with the clearest direction in the explorer. Is its direction one of the directions
# in `bands` (0, 45, 90, 135 degrees)? Move the dashboard to the first epoch: was the direction there already?
