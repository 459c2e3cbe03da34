"""famviz: look at what frequency attention learned.

import famviz
run = famviz.open("runs/quickstart/fam_review-seed0")     # also while it trains, also a released .pth
famviz.FilterExplorer(run)                                # in a notebook
famviz.figures.plots.contact_sheet(run.filters[0])                # for a paper
"""

from importlib import import_module

__all__ = ["Dashboard", "Filter", "FilterExplorer", "LoadedRun", "Table", "open"]
_PLACES = {
    "FilterExplorer": "explorer.widget",
    "Dashboard": "explorer.dashboard",
    "Table": "tables",
    "Filter": "load",
    "LoadedRun": "load",
    "open": "load",
}
_MODULES = {
    "load": "load",
    "spectra": "spectra",
    "networks": "networks",
    "report": "report",
    "plots": "figures",
    "style": "figures.style",
    "features": "figures.amplitude",
    "effect": "figures.effect",
    "cam": "figures.cam",
    "hover": "figures.hover",
}


def __getattr__(name: str):
    """Everything comes when it is first asked for: `famviz --help` waits for no library, arrays for no plots."""
    if name in _PLACES:
        return getattr(import_module(f"famviz.{_PLACES[name]}"), "open_runs" if name == "open" else name)
    if name in _MODULES:
        return import_module(f"famviz.{_MODULES[name]}")
    raise AttributeError(f"module 'famviz' has no attribute {name!r}")
