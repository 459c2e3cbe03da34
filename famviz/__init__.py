"""famviz: look at what frequency attention learned.

import famviz
run = famviz.open("runs/quickstart/fam_review-seed0")     # also while it trains, also a released .pth
famviz.FilterExplorer(run)                                # in a notebook
famviz.AmplitudeExplorer(run)                             # amplitudes of its networks, stage by stage
famviz.CamExplorer({"teacher": one, "student": other}, images)   # any networks, any images
famviz.plots.contact_sheet(run.filters[0])                # for a paper
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from famviz.analysis.compare_networks import compare_networks
    from famviz.analysis.network_comparison import NetworkComparison
    from famviz.explorer.amplitude import AmplitudeExplorer
    from famviz.explorer.cams import CamExplorer
    from famviz.explorer.dashboard import Dashboard
    from famviz.explorer.filters import FilterExplorer
    from famviz.filter import Filter
    from famviz.load import LoadedRun
    from famviz.load import open_runs as open
    from famviz.tables import Table

__all__ = [
    "AmplitudeExplorer", "CamExplorer", "Dashboard", "Filter", "FilterExplorer", "LoadedRun", "NetworkComparison",
    "Table", "compare_networks", "open",
]  # fmt: skip
_PLACES = {
    "AmplitudeExplorer": ("explorer.amplitude", "AmplitudeExplorer"),
    "CamExplorer": ("explorer.cams", "CamExplorer"),
    "Dashboard": ("explorer.dashboard", "Dashboard"),
    "Filter": ("filter", "Filter"),
    "FilterExplorer": ("explorer.filters", "FilterExplorer"),
    "LoadedRun": ("load", "LoadedRun"),
    "NetworkComparison": ("analysis.network_comparison", "NetworkComparison"),
    "compare_networks": ("analysis.compare_networks", "compare_networks"),
    "Table": ("tables", "Table"),
    "open": ("load", "open_runs"),
}
_MODULES = {
    "agreement": "figures.agreement",
    "answers": "analysis.answers",
    "boxes": "figures.boxes",
    "cam": "figures.cam",
    "effect": "figures.effect",
    "features": "figures.amplitude",
    "hover": "figures.hover",
    "load": "load",
    "networks": "networks",
    "photos": "networks.photos",
    "plots": "figures",
    "report": "report",
    "spectra": "spectra",
    "style": "figures.style",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used, so that `famviz --help` loads no library and arrays load no plots."""
    if name in _PLACES:
        module, attribute = _PLACES[name]
        return getattr(import_module(f"famviz.{module}"), attribute)
    if name in _MODULES:
        return import_module(f"famviz.{_MODULES[name]}")
    raise AttributeError(f"module 'famviz' has no attribute {name!r}")
