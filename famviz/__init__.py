"""famviz: look at what frequency attention learned.

import famviz
run = famviz.open("runs/quickstart/fam_review-seed0")     # also while it trains, also a released .pth
famviz.FilterExplorer(run)                                # in a notebook
famviz.plots.contact_sheet(run.filters[0])                # for a paper
"""

from importlib import import_module

__all__ = ["Dashboard", "Filter", "FilterExplorer", "Opened", "Table", "open"]
_PLACES = {
    "FilterExplorer": "widgets",
    "Dashboard": "dashboard",
    "Table": "tables",
    "Filter": "opening",
    "Opened": "opening",
    "open": "opening",
}
_MODULES = (
    "opening",
    "spectra",
    "plots",
    "style",
    "features",
    "effect",
    "cam",
    "report",
    "widgets",
    "dashboard",
    "hover",
)


def __getattr__(name: str):
    """Everything comes when it is first asked for: `famviz --help` waits for no library, arrays for no plots."""
    if name in _PLACES:
        return getattr(import_module(f"famviz.{_PLACES[name]}"), "open_runs" if name == "open" else name)
    if name in _MODULES:
        return import_module(f"famviz.{name}")
    raise AttributeError(f"module 'famviz' has no attribute {name!r}")
