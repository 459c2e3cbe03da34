"""famviz: look at what frequency attention learned.

import famviz
run = famviz.open("runs/quickstart/fam_review-seed0")     # also while it trains, also a released .pth
famviz.FilterExplorer(run)                                # in a notebook
famviz.plots.contact_sheet(run.filters[0])                # for a paper
"""

from importlib import import_module

from famviz.opening import Filter, Opened
from famviz.opening import open_runs as open

__all__ = ["Dashboard", "Filter", "FilterExplorer", "Opened", "Table", "open"]
_PLACES = {"FilterExplorer": "widgets", "Dashboard": "dashboard", "Table": "tables"}
_MODULES = ("spectra", "plots", "style", "features", "effect", "cam", "report", "widgets", "dashboard", "hover")


def __getattr__(name: str):
    """Widgets and plots come when they are first asked for: they need libraries that looking at arrays does not."""
    if name in _PLACES:
        return getattr(import_module(f"famviz.{_PLACES[name]}"), name)
    if name in _MODULES:
        return import_module(f"famviz.{name}")
    raise AttributeError(f"module 'famviz' has no attribute {name!r}")
