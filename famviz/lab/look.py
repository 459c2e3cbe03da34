# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["template"]
# This is the template of `famviz lab`. Tags say which cells a notebook has: `one` and `several` for the number of
# runs, `log` if any of them is a run and not a bare checkpoint, `run` if the first one is. prepare.py leaves this cell
# out, and sets the title and the paths.

# %% [markdown]
# # TITLE
# Choose Run All Cells in the menu Run. After the first cell, the cells do not depend on each other.

# %%
# %matplotlib inline
import os

import famviz

FOLDER = "."
RUNS = ["runs/quickstart/fam_review-seed0"]

os.chdir(FOLDER)
runs = famviz.open(RUNS)
run = runs[0]

# %% [markdown] tags=["one"]
# ## Filters
# Choose a filter by the arrow keys on the energy map; every view shows it.

# %% [markdown] tags=["several"]
# ## Filters
# Choose a filter by the arrow keys on the energy map; every view shows it. The menu has another run to compare with.

# %%
explorer = famviz.FilterExplorer([each for each in runs if each.filters] or runs)
explorer

# %% [markdown]
# The strength of each level over frequency: point at a curve for its values.

# %% tags=["one"]
famviz.hover.radial_curves(run.filters)

# %% tags=["several"]
held = [each for each in runs if each.filters]
famviz.hover.radial_curves([each.filters[0] for each in held], [each.name for each in held])

# %%
from famviz import plots

plots.contact_sheet(run.filters[0])

# %% [markdown] tags=["log"]
# ## Training
# Point at a curve for its values. Another column: `training_curves(runs, "lr")`.

# %% tags=["log"]
famviz.hover.training_curves(runs)

# %% [markdown] tags=["run"]
# The dashboard follows the run while it trains.

# %% tags=["run"]
dashboard = famviz.Dashboard(run)
dashboard

# %% [markdown] tags=["run"]
# ## Networks on images
# These cells load the data and the networks of the run: amplitude differences, effects of the filters, and class
# activation maps.

# %% tags=["run"]
from famviz import features

features.differences_figure(run.run)

# %% tags=["run"]
from famviz import effect

effect.effect_figure(run.run)

# %% tags=["run"]
from famviz import cam

cam.grid_figure(run.run)
