"""Curves of filters and of training. Each function takes `ax=None`, draws, and returns the axes; nothing stays open."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from famviz.analysis import filters as values
from famviz.analysis.filters import Pair
from famviz.analysis.training import loss_names, measured_on, score_names
from famviz.figures import style
from famviz.filter import Filter
from famviz.load import Source, open_all, open_runs

DASHES = ("-", "--", ":", "-.")


@style.styled
def radial_curves(
    filters: Sequence[Filter], ax: Axes | None = None, *, labels: Sequence[str] = (), pair: Pair | None = None,
    reference: float | None = None,
) -> Axes:  # fmt: skip
    """Azimuthal mean of |H| against radius, in dB of `reference` (by default of each curve's largest ring).

    Without a pair it is that of the root mean square over all filters of a level. Rings that the high-pass empties are
    left out.
    """
    ax = style.axes(ax)
    names = labels or [each.title for each in filters]
    for each, name in zip(filters, names, strict=True):
        curve = values.profile(each, pair, reference)
        ax.plot(curve.radius, curve.decibels, marker="o", markersize=2.5, label=style.literal(name))
    unit = "its peak" if reference is None else f"{reference:.3g}"
    ax.set(xlabel="radial frequency, fraction of Nyquist", ylabel=f"mean |H|, dB of {unit}", title="radial profile")
    ax.set(xlim=(0, 1.04), ylim=(min(-3.0, ax.get_ylim()[0]), 0.5))
    if len(filters) > 1 or labels:
        ax.legend()
    return ax


@style.styled
def filter_life(run: Source, where: int | str = 0, ax: Axes | None = None, *, colorbar: bool = True) -> Axes:
    """How the filter of a level formed: RMS amplitude of each ring (rows) over epochs (columns), in dB of the largest.

    Rings that hold nothing, such as those that the high-pass empties, are grey.
    """
    opened = open_runs(run)
    each = opened.filter(where)
    epochs, rings = values.life(opened, each)
    ax = style.axes(ax)
    ax.set(title=f"life of {each.title}: mean |H| of each ring", xlabel="epoch", ylabel="ring, cycles per map")
    if not epochs:
        ax.text(0.5, 0.5, "no epoch was recorded", ha="center", transform=ax.transAxes)
        return ax
    lowest = min(-3.0, rings.compressed().min(initial=0.0))
    ax.set_facecolor(style.EMPTY)
    across = np.array([epochs[0] - 1, *epochs]) + 0.5  # edges of the columns
    down = np.arange(len(rings) + 1) - 0.5
    image = ax.pcolormesh(across, down, rings, cmap=style.AMPLITUDE, vmin=lowest, vmax=0, rasterized=True)
    style.whole_ticks(ax)
    return style.with_bar(ax, image, "dB of the largest", colorbar)


@style.styled
def share_bars(run: Source, ax: Axes | None = None) -> Axes:
    """Share of the global and of the local branch at each level, in the sum of their energies on white input."""
    ax = style.axes(ax)
    names, shares = [], []
    for each in open_runs(run).filters:
        share = each.total_share()
        if share is not None:
            names.append(each.student or str(each.index))
            shares.append(share)
    far = np.array(shares)
    ax.barh(names, far, color=style.LINES[0], label="global: frequency filter")
    ax.barh(names, 1 - far, left=far, color=style.LINES[1], label="local: 1x1 convolution")
    for at, share in enumerate(shares):
        ax.text(share + 0.02, at, style.percent(share), va="center")
    ax.set(xlim=(0, 1), xlabel="share of energy on white input (not on images)")
    ax.invert_yaxis()
    ax.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=2, handlelength=1, columnspacing=1)
    return ax


@style.styled
def training_curves(runs: Source | Sequence[Source], ax: Sequence[Axes] | None = None) -> np.ndarray:
    """Losses (log scale) and two figures of the test set, or of held-out images, over epochs, on a pair of axes."""
    opened = open_all(runs)
    several = len(opened) > 1
    if ax is None:
        height = 2.8 + 0.17 * len(opened) if several else 2.6
        ax = style.figure(7.0, height).subplots(1, 2)
    losses, scores = np.asarray(ax)
    measured = "accuracy"
    splits: set[str] = set()
    for at, run in enumerate(opened):
        rows = run.metrics()
        prefix = f"{style.literal(run.name)}: " if several else ""
        colour = style.LINES[at % len(style.LINES)]
        _draw_rows(losses, rows, loss_names(rows), prefix, colour)
        _draw_rows(scores, rows, score_names(rows)[:2], prefix, colour)
        splits |= {measured_on(rows)} if rows else set()
        if {"AP", "val_AP"} & {*score_names(rows)}:
            measured = "average precision"
    losses.set(xlabel="epoch", ylabel="loss", yscale="log", title="losses")
    losses.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_formatter=NullFormatter())
    losses.yaxis.set_major_formatter("{x:g}")  # 0.2 and not 2 x 10^-1
    scores.set(xlabel="epoch", ylabel="%", title=f"{measured} on {' or '.join(sorted(splits)) or 'the test set'}")
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2)} if several else {}
    for each in (losses, scores):
        each.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        if each.lines:
            each.legend(**below)
    return np.asarray(ax)


def _draw_rows(ax: Axes, rows: Sequence[dict], names: Sequence[str], prefix: str, colour: str) -> None:
    """A line over epochs for each column of the metrics."""
    epochs = [row["epoch"] for row in rows]
    marker = "." if len(epochs) == 1 else ""  # a line through one point is invisible
    for at, name in enumerate(names):
        column = [row.get(name, np.nan) for row in rows]
        dashes = DASHES[at % len(DASHES)]
        ax.plot(epochs, column, dashes, color=colour, label=prefix + name, marker=marker)
