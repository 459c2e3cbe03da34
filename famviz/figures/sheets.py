"""Whole figures of many pictures: the strongest filters, everything about one, one beside another run's."""

from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from famviz.figures import filters as planes
from famviz.figures import style
from famviz.figures.curves import radial_curves
from famviz.figures.filters import FLOOR, Pair
from famviz.load import Filter


@style.styled
def contact_sheet(each: Filter, count: int = 24, *, columns: int = 8) -> Figure:
    """Amplitudes of the strongest filters, one range for all, each named by its channels."""
    energy = each.energy()
    strongest = np.argsort(energy, axis=None)[::-1][:count]
    rows = -(-len(strongest) // columns)
    figure = style.figure(1.0 + 0.95 * columns, 0.5 + 1.12 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for ax in grid.flat:
        ax.axis("off")
    for ax, at in zip(grid.flat, strongest, strict=False):
        pair = tuple(int(n) for n in np.unravel_index(at, energy.shape))
        planes.filter_amplitude(each, pair, ax, colorbar=False)
        ax.set_title(f"{pair[1]} \u2192 {pair[0]}", fontsize=7, pad=2)
    bar = figure.colorbar(grid[0, 0].images[0], ax=grid, shrink=0.9, aspect=30, pad=0.01)
    bar.set_label("|H|, dB of the largest")
    figure.suptitle(f"{each.title}: the {len(strongest)} strongest filters, input \u2192 output channel", fontsize=9)
    return figure


@style.styled
def overview(each: Filter, pair: Pair | None = None, *, floor: float = FLOOR) -> Figure:
    """Energy map, amplitude, phase, domain colouring, kernel and radial profile of one choice, in one figure."""
    figure = style.figure(8.6, 4.8)
    figure.get_layout_engine().set(w_pad=0.1)
    axes = figure.subplots(2, 3).ravel()
    planes.energy_map(each, axes[0])
    if pair is not None:
        axes[0].plot(pair[1], pair[0], "s", markersize=6, markerfacecolor="none", color="#ff5d5d")
    for draw, ax in zip((planes.filter_amplitude, planes.filter_phase, planes.filter_complex), axes[1:], strict=False):
        draw(each, pair, ax, floor=floor)
    planes.filter_kernel(each, pair, axes[4])
    radial_curves([each], axes[5], pair=pair)
    figure.suptitle(f"{each.title}, {_chosen(pair)}", fontsize=9)
    return figure


@style.styled
def moment(each: Filter, epoch: int, summary: dict[str, np.ndarray], *, floor: float = FLOOR) -> Figure:
    """A level after an epoch, from what the run kept of it: energy map, amplitude, profile."""
    figure, then = style.figure(8.6, 2.6), as_it_was(each, summary)
    axes = figure.subplots(1, 3)
    planes.energy_map(each, axes[0], energy=summary["energy"])
    planes.filter_amplitude(then, None, axes[1], floor=floor)
    radial_curves([then], axes[2])
    figure.suptitle(f"{each.title}, epoch {epoch}: root mean square over all filters", fontsize=9)
    return figure


@style.styled
def comparison(
    first: Filter, second: Filter, pair: Pair | None = None, view: str = "amplitude", *, names: tuple[str, str],
    epoch: int = 0, floor: float = FLOOR,
) -> Figure:  # fmt: skip
    """One view of a filter of two runs on one scale, the first minus the second, and their radial profiles."""
    figure = style.figure(11.6, 2.7)
    axes = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.1))
    reference = max(float(np.abs(each.response).max()) for each in (first, second))
    for each, ax, name in zip((first, second), axes, names):
        if view == "kernel":
            largest = max(np.abs(planes.kernel(one, pair)).max() for one in (first, second))
            planes.filter_kernel(each, pair, ax, largest=largest)
        else:
            draw = {"amplitude": planes.filter_amplitude, "phase": planes.filter_phase}.get(view, planes.filter_complex)
            draw(each, pair, ax, reference=reference, floor=floor)
        ax.set_title(style.literal(name))
    planes.filter_difference(first, second, pair, view, axes[2], floor=floor)
    axes[2].set_title("first minus second")
    radial_curves((first, second), axes[3], labels=names, pair=pair, reference=reference)
    when = f"epoch {epoch}: root mean square over all filters" if epoch else _chosen(pair)
    figure.suptitle(f"{first.title}, {when}: {planes.HUES if view == 'complex' else view}", fontsize=9)
    return figure


def as_it_was(each: Filter, summary: dict[str, np.ndarray]) -> Filter:
    """A level after an epoch as one filter without phase: the root mean square over all, which is what a run keeps."""
    return replace(each, response=summary["amplitude"][None, None])


def _chosen(pair: Pair | None) -> str:
    return "all filters" if pair is None else f"output {pair[0]}, input {pair[1]}"
