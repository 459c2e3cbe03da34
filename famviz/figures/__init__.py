"""Figures of filters by matplotlib. Each function takes `ax=None`, draws, and returns the axes; nothing stays open."""

from famviz.analysis.filters import ENERGY_FLOOR, FLOOR, Pair
from famviz.figures.curves import filter_life, radial_curves, share_bars, training_curves
from famviz.figures.filters import (
    energy_map,
    filter_amplitude,
    filter_complex,
    filter_difference,
    filter_kernel,
    filter_phase,
)
from famviz.figures.sheets import comparison, contact_sheet, moment, overview

__all__ = [
    "ENERGY_FLOOR", "FLOOR", "Pair", "comparison", "contact_sheet", "energy_map", "filter_amplitude", "filter_complex",
    "filter_difference", "filter_kernel", "filter_life", "filter_phase", "moment", "overview", "radial_curves",
    "share_bars", "training_curves",
]  # fmt: skip
