"""Whole figures of several pictures: the strongest filters, all views of one filter, two runs next to each other."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from famviz.analysis import filters as values
from famviz.analysis.filters import FLOOR, Pair, as_it_was, kept, strongest
from famviz.figures import filters as planes
from famviz.figures import style
from famviz.figures.axes import HIGHPASS
from famviz.figures.curves import radial_curves
from famviz.filter import Filter
from famviz.load import Summary


@style.styled
def contact_sheet(each: Filter, count: int = 24, *, columns: int = 8) -> Figure:
    """Amplitudes of the strongest filters on one range, each with its channels as its title."""
    pairs = strongest(each, count)
    rows = -(-len(pairs) // columns)
    figure = style.figure(1.0 + 0.95 * columns, 0.5 + 1.12 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for ax in grid.flat:
        ax.axis("off")
    for ax, pair in zip(grid.flat, pairs):
        planes.filter_amplitude(each, pair, ax, colorbar=False)
        ax.set_title(f"{pair[1]} \u2192 {pair[0]}", fontsize=7, pad=2)
    bar = figure.colorbar(grid[0, 0].images[0], ax=grid, shrink=0.9, aspect=30, pad=0.01)
    bar.set_label("|H|, dB of the largest")
    _title(figure, each, f"the {len(pairs)} strongest filters, input \u2192 output channel")
    return figure


@style.styled
def overview(
    each: Filter, pair: Pair | None = None, *, floor: float = FLOOR, reference: float | None = None,
    colormap: str = style.AMPLITUDE,
) -> Figure:  # fmt: skip
    """Energy map, amplitude, phase, domain colouring, kernel and radial profile of one choice.

    Amplitudes are shown from `floor` dB to 0 dB of `reference`, by default the largest of the level.
    """
    figure = _every_view(each, pair, None, floor, reference, colormap)
    _title(figure, each, _choice(pair))
    return figure


def _every_view(
    each: Filter, pair: Pair | None, energy: np.ndarray | None, floor: float, reference: float | None, colormap: str
) -> Figure:
    figure = style.figure(8.6, 4.8)
    style.pad(figure, w_pad=0.1)
    axes = figure.subplots(2, 3).ravel()
    planes.energy_map(each, axes[0], energy=energy)
    if pair is not None:
        axes[0].plot(pair[1], pair[0], "s", markersize=6, markerfacecolor="none", color=HIGHPASS)
    look: dict[str, Any] = {"floor": floor, "reference": reference}
    planes.filter_amplitude(each, pair, axes[1], **look, colormap=colormap)
    planes.filter_phase(each, pair, axes[2], **look)
    planes.filter_complex(each, pair, axes[3], **look)
    planes.filter_kernel(each, pair, axes[4])
    radial_curves([each], axes[5], pair=pair)
    return figure


@style.styled
def moment(
    each: Filter, epoch: int, summary: Summary, pair: Pair | None = None, *, floor: float = FLOOR,
    reference: float | None = None, colormap: str = style.AMPLITUDE,
) -> Figure:  # fmt: skip
    """A level after an epoch, from what the run saved of it: energy map, amplitude, profile.

    With a pair that the run kept then, every view of that filter.
    """
    then = as_it_was(each, summary, pair)
    if pair is not None and kept(summary, pair) is not None:
        figure = _every_view(then, pair, summary["energy"], floor, reference, colormap)
        _title(figure, each, f"epoch {epoch}: {_choice(pair)}")
        return figure
    figure = style.figure(8.6, 2.6)
    axes = figure.subplots(1, 3)
    planes.energy_map(each, axes[0], energy=summary["energy"])
    planes.filter_amplitude(then, None, axes[1], floor=floor, reference=reference, colormap=colormap)
    radial_curves([then], axes[2])
    _title(figure, each, f"epoch {epoch}: root mean square over all filters")
    return figure


@style.styled
def comparison(
    first: Filter, second: Filter, pair: Pair | None = None, view: str = "amplitude", *, names: tuple[str, str],
    epoch: int = 0, floor: float = FLOOR, reference: float | None = None, colormap: str = style.AMPLITUDE,
) -> Figure:  # fmt: skip
    """One view of a filter of two runs on one scale, the first minus the second, and their radial profiles."""
    figure = style.figure(11.6, 2.7)
    axes = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.1))
    peak = max(first.largest(), second.largest())
    reference = reference or peak
    if view == "kernel":
        kernels = values.kernel(first, pair), values.kernel(second, pair)
        reference = max(float(np.abs(kernel).max()) for kernel in kernels)
    for each, ax, name in zip((first, second), axes, names):
        _draw_view(each, pair, view, ax, reference, floor, colormap)
        ax.set_title(style.literal(name))
    planes.filter_difference(first, second, pair, view, axes[2], floor=floor, reference=reference)
    axes[2].set_title("first minus second")
    radial_curves((first, second), axes[3], labels=names, pair=pair, reference=peak)
    when = "root mean square over all filters" if epoch and pair is None else _choice(pair)
    when = f"epoch {epoch}: {when}" if epoch else when
    shown = planes.HUES if view == "complex" else view
    _title(figure, first, f"{when}: {shown}", second)
    return figure


def _draw_view(
    each: Filter, pair: Pair | None, view: str, ax: Axes, reference: float, floor: float, colormap: str
) -> None:
    """One view on a scale up to `reference`."""
    if view == "kernel":
        planes.filter_kernel(each, pair, ax, largest=reference)
    elif view == "amplitude":
        planes.filter_amplitude(each, pair, ax, reference=reference, floor=floor, colormap=colormap)
    elif view == "phase":
        planes.filter_phase(each, pair, ax, reference=reference, floor=floor)
    else:
        planes.filter_complex(each, pair, ax, reference=reference, floor=floor)


def _choice(pair: Pair | None) -> str:
    return "all filters" if pair is None else f"output {pair[0]}, input {pair[1]}"


def _title(figure: Figure, each: Filter, words: str, second: Filter | None = None) -> None:
    """The title of a figure, and under it the options of the level, or of both levels if they differ."""
    lines = [f"{each.title}, {words}"]
    captions = [one.caption for one in (each, second) if one is not None and one.caption]
    lines += dict.fromkeys(captions)
    figure.suptitle("\n".join(lines), fontsize=9)
