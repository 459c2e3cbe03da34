"""Curves, lives and shares: each takes `ax=None`, draws, returns the axes; nothing is shown, nothing left open."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from famviz import spectra
from famviz.figures import style
from famviz.figures.filters import FLOOR, Pair
from famviz.load import Filter, LoadedRun


@style.styled
def radial_curves(
    filters: Sequence[Filter], ax: Axes | None = None, *, labels: Sequence[str] = (), pair: Pair | None = None,
    reference: float | None = None,
) -> Axes:  # fmt: skip
    """Azimuthal mean of |H| against radius, in dB of `reference` (by itself of each curve's own largest ring).

    Without a pair it is that of the root mean square over all of a level's filters. Rings that the high-pass empties
    are left out.
    """
    ax = style.axes(ax)
    for each, label in zip(filters, labels or [each.title for each in filters], strict=True):
        half = each.amplitude() if pair is None else np.abs(each.response[pair])
        rings, mean = spectra.radial_profile(spectra.full_plane(half, each.size[1]))
        curve = spectra.decibel(mean, reference or mean.max(), FLOOR)
        curve[curve <= FLOOR] = np.nan
        ax.plot(rings / max(1, rings[-1]), curve, marker="o", markersize=2.5, label=style.literal(label))
    below = "its peak" if reference is None else f"{reference:.3g}"
    ax.set(xlabel="radial frequency, fraction of Nyquist", ylabel=f"mean |H|, dB of {below}", title="radial profile")
    ax.set(xlim=(0, 1.04), ylim=(min(-3.0, ax.get_ylim()[0]), 0.5))
    if len(filters) > 1 or labels:
        ax.legend()
    return ax


@style.styled
def filter_life(opened: LoadedRun, where: int | str = 0, ax: Axes | None = None, *, colorbar: bool = True) -> Axes:
    """How a level's filter formed: RMS amplitude per ring (rows) over epochs (columns), in dB of the largest.

    Rings that hold nothing, as those that the high-pass empties, are grey.
    """
    each = opened.filter(where)
    epochs, life = opened.history(each)
    ax = style.axes(ax)
    ax.set(title=f"life of {each.title}", xlabel="epoch", ylabel="ring, cycles per map")
    if not epochs:
        ax.text(0.5, 0.5, "no epoch was recorded", ha="center", transform=ax.transAxes)
        return ax
    planes = spectra.full_plane(np.stack([s["amplitude"] for s in life]), each.size[1])
    rings, curves = spectra.radial_profile(planes)
    shown = np.ma.masked_less_equal(spectra.decibel(curves.T, curves.max(), FLOOR), FLOOR)
    lowest = min(-3.0, shown.compressed().min(initial=0.0))
    ax.set_facecolor(style.EMPTY)
    edges = (np.array(epochs[:1] + epochs) + np.array([-1] + [0] * len(epochs))) + 0.5
    image = ax.pcolormesh(edges, np.arange(len(rings) + 1) - 0.5, shown, cmap=style.AMPLITUDE, vmin=lowest, vmax=0,
                          rasterized=True)  # fmt: skip
    style.whole_ticks(ax)
    return style.with_bar(ax, image, "mean |H|, dB of the largest; grey: nothing", colorbar)


@style.styled
def share_bars(opened: LoadedRun, ax: Axes | None = None) -> Axes:
    """Share of the global against the local branch per level, in the energy of each by itself on white input."""
    ax = style.axes(ax)
    held = [each for each in opened.filters if each.total_share() is not None]
    shares = np.array([each.total_share() for each in held])
    names = [each.student or str(each.level) for each in held]
    ax.barh(names, shares, color=style.LINES[0], label="global: frequency filter")
    ax.barh(names, 1 - shares, left=shares, color=style.LINES[1], label="local: 1x1 convolution")
    for at, share in enumerate(shares):
        ax.text(share + 0.02, at, style.percent(share), va="center")
    ax.set(xlim=(0, 1), xlabel="share of energy on white input (not on images)")
    ax.invert_yaxis()
    ax.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=2, handlelength=1, columnspacing=1)
    return ax


@style.styled
def training_curves(runs: LoadedRun | Sequence[LoadedRun], ax: Sequence[Axes] | None = None) -> np.ndarray:
    """Losses (log scale) and the first two held-out figures over epochs, on a pair of axes."""
    runs = [runs] if isinstance(runs, LoadedRun) else list(runs)
    if ax is None:
        ax = style.figure(7.0, 2.6 if len(runs) == 1 else 2.8 + 0.17 * len(runs)).subplots(1, 2)
    dashes, measured = ("-", "--", ":", "-."), "accuracy"
    for at, run in enumerate(runs):
        rows = run.run.metrics() if run.run else []
        figures = _told(rows)
        measured = "average precision" if "AP" in figures else measured
        epochs, prefix = [row["epoch"] for row in rows], f"{style.literal(run.name)}: " if len(runs) > 1 else ""
        dot = "." if len(epochs) == 1 else ""  # a line through one epoch cannot be seen
        for n, name in enumerate(key for key in (rows[0] if rows else {}) if "." in key):
            values = [row.get(name, np.nan) for row in rows]
            ax[0].plot(epochs, values, dashes[n % 4], color=style.LINES[at % 6], label=prefix + name, marker=dot)
        for n, name in enumerate(figures[:2]):
            values = [row[name] for row in rows]
            ax[1].plot(epochs, values, dashes[n], color=style.LINES[at % 6], label=prefix + name, marker=dot)
    ax[0].set(xlabel="epoch", ylabel="loss", yscale="log", title="losses")
    ax[0].yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_formatter=NullFormatter())
    ax[0].yaxis.set_major_formatter("{x:g}")  # 0.2 and not 2 x 10^-1
    ax[1].set(xlabel="epoch", ylabel="%", title=f"{measured} on the test set")
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2)} if len(runs) > 1 else {}
    for each in ax:
        each.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        if each.lines:
            each.legend(**below)
    return np.asarray(ax)


def _told(rows: Sequence[dict]) -> list[str]:
    """Held-out figures by name, without those that say nothing: with few classes top-5 is 100 from the first epoch."""
    names = [key for key in (rows[0] if rows else {}) if "." not in key and key not in ("epoch", "lr")]
    return [name for at, name in enumerate(names) if at == 0 or any(row.get(name) != 100 for row in rows)]
