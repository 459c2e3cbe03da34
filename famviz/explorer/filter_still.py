"""The still picture of the filter explorer: what it shows, drawn by matplotlib."""

from typing import Any, NamedTuple

from matplotlib.figure import Figure

from famviz.analysis import filters as values
from famviz.analysis.filters import Pair
from famviz.figures import sheets
from famviz.filter import Filter
from famviz.load import LoadedRun


class Shown(NamedTuple):
    """What the explorer shows: a filter of the first run, and of another one to compare it with."""

    runs: tuple[LoadedRun, LoadedRun | None]
    levels: tuple[Filter, Filter | None]
    pair: Pair | None  # None for all filters of the level
    epoch: int
    view: str
    floor: float  # 0 for the range of what is shown
    colormap: str


def still(shown: Shown) -> Figure:
    """Every view of a filter of one run, or one view of two runs with their difference."""
    first, second = shown.levels
    then = shown.runs[0].summary(first, shown.epoch) if shown.epoch else None
    if then:
        return _of_an_epoch(shown, then)
    if second:
        look = _look(shown, shown.pair, first, second)
        return sheets.comparison(first, second, shown.pair, shown.view, names=_names(shown), **look)
    return sheets.overview(first, shown.pair, **_look(shown, shown.pair, first))


def _of_an_epoch(shown: Shown, then: dict[str, Any]) -> Figure:
    """What the runs kept of that epoch: the filter, or the root mean square over all."""
    (first, second), epoch = shown.levels, shown.epoch
    other = shown.runs[1].summary(second, epoch) if shown.runs[1] and second else None
    pair = shown.pair
    if pair and any(values.kept(each, pair) is None for each in (then, other) if each):
        pair = None
    was = values.as_it_was(first, then, pair)
    if second is None or other is None:
        return sheets.moment(first, epoch, then, pair, **_look(shown, pair, was))
    both = was, values.as_it_was(second, other, pair)
    view = shown.view if pair else "amplitude"
    return sheets.comparison(*both, pair, view, names=_names(shown), epoch=epoch, **_look(shown, pair, *both))


def _names(shown: Shown) -> tuple[str, str]:
    first, second = shown.runs
    return first.name, second.name if second else ""


def _look(shown: Shown, pair: Pair | None, *levels: Filter) -> dict[str, Any]:
    """The range of the colours as the page has it: floor and reference, and the colour map."""
    if shown.floor:
        return {"floor": shown.floor, "colormap": shown.colormap}
    planes = [values.amplitude(each, pair) for each in levels]
    largest = max(float(plane.max()) for plane in planes) or 1.0
    floor = values.automatic_floor(planes, largest)
    return {"floor": floor, "reference": largest, "colormap": shown.colormap}
