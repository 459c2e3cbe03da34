"""Figures of what frequency attention does to real features: which frequencies enter, pass, and stay different."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from famkd.errors import UserError
from famviz.analysis.amplitude import FLOOR, without_dc
from famviz.analysis.effect import Effect, effect_table, effects, measured_effects
from famviz.figures import style
from famviz.figures.axes import bare, extent, ring_axis
from famviz.networks import Source

__all__ = ["Effect", "effect_figure", "effect_table", "effects"]

TITLES = {
    "enters": "enters the level", "gain": "|H|, dB of gain", "global": "global branch", "local": "local branch",
    "output": "leaves the level", "teacher": "teacher", "residual": "left to the teacher",
}  # fmt: skip
LAYOUT = [
    ["enters", "gain", "global", "local", "curves"],
    ["output", "teacher", "residual", "share", "gains"],
]
COLOURS = dict(zip(("global", "local", "output", "residual", "enters"), style.LINES)) | {"teacher": "#000000"}
DEPTH = 30.0  # dB below the strongest that a plane of gains shows; spectra show twice as many
MARKED: dict[str, Any] = {"marker": "o", "markersize": 2.5, "lw": 1.4}


@style.styled
def effect_figure(source: Source | Sequence[Source] | Sequence[Effect], **options: Any) -> Figure:
    """A matplotlib figure of `effects`, or of a run or several with options for it: two rows for each level.

    Planes share one scale, dB of the teacher's root mean square above DC; |H| has its own, dB of gain. The upper curves
    show the same over rings, the lower ones |H| and the measured gain, which is more than |H| where channels add up.

    Errors: UserError for a run without frequency filters.
    """
    shown = measured_effects(source, **options)
    if not shown:
        raise UserError("This run has no frequency filters, so there is nothing to measure.")
    figure = style.figure(11.2, 4.2 * len(shown))
    style.pad(figure, w_pad=0.06)
    grids = figure.subfigures(len(shown), 1, squeeze=False)[:, 0]
    for grid, each in zip(grids, shown):
        size = " x ".join(map(str, each.gain.shape))
        grid.suptitle(f"{each.name} by {each.method}, {size}", x=0.01, ha="left", fontsize=10, fontweight="bold")
        axes = grid.subplot_mosaic(LAYOUT, width_ratios=(1, 1, 1, 1, 1.9))
        _draw_spectra(grid, axes, each)
        _draw_gain(grid, axes["gain"], each)
        _draw_share(axes["share"], each)
        _draw_curves(axes["curves"], each)
        _draw_gains(axes["gains"], each)
    return figure


def _draw_spectra(grid: SubFigure, axes: dict[str, Axes], each: Effect) -> None:
    """Every spectrum on one scale."""
    planes = {name: each.plane(name) for name in each.power}
    # The global branch is left out of the scale: it is at the floor where its high-pass removes everything.
    off_dc = np.concatenate([without_dc(plane) for name, plane in planes.items() if name != "global"])
    high = off_dc.max()
    low = max(np.quantile(off_dc, 0.01), high - 2 * DEPTH)
    image = None
    for name in [name for name in TITLES if name != "gain"]:
        ax = axes[name]
        ax.set_title(TITLES[name])
        bare(ax)
        if name in planes:
            shape = planes[name].shape
            image = ax.imshow(planes[name], cmap=style.AMPLITUDE, vmin=low, vmax=high, extent=extent(shape))
        else:
            ax.text(0.5, 0.5, "there is none", ha="center", va="center", transform=ax.transAxes)
    height, width = each.gain.shape
    for name in ("enters", "output"):
        axes[name].set(xlabel="kx, cycles per map", xticks=[-(width // 2), 0])
        axes[name].set(ylabel="ky", yticks=[-(height // 2), 0])
    if image:
        grid.colorbar(image, ax=axes["share"], label="dB of the teacher", shrink=0.8, pad=0.02)


def _draw_gain(grid: SubFigure, ax: Axes, each: Effect) -> None:
    """|H| on its own scale."""
    gain = each.plane("gain")
    top = gain.max()
    low = max(gain.min(), top - DEPTH)
    ax.set_title(TITLES["gain"])
    bare(ax)
    image = ax.imshow(gain, cmap=style.ENERGY, vmin=low, vmax=top, extent=extent(gain.shape))
    grid.colorbar(image, ax=ax, shrink=0.6, pad=0.02)


def _draw_curves(ax: Axes, each: Effect) -> None:
    """Spectra over rings, from the first ring on."""
    at = each.frequency[1:]
    for name, colour in COLOURS.items():
        if name in each.power:
            dashes = "--" if name == "enters" else "-"
            ax.plot(at, each.curve(name)[1:], dashes, color=colour, label=TITLES[name], **MARKED)
    others = min(each.curve(name)[1:].min() for name in each.power if name != "global")
    peak = each.curve("global").max()
    ax.set_ylim(bottom=min(others, peak - 3) - 3)  # the global branch is at the floor where its high-pass removes all
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    ax.set_ylabel("dB of the teacher")
    ring_axis(ax, at[-1])


def _draw_gains(ax: Axes, each: Effect) -> None:
    """|H|, which is the gain of uncorrelated channels, and the measured gain of each branch, over rings."""
    at = each.frequency[1:]
    expected = each.curve("gain")[1:]
    passing = expected > FLOOR + 1  # and not removed by the high-pass
    label = "|H|: uncorrelated channels"
    ax.plot(at, np.where(passing, expected, np.nan), "--", color="0.4", label=label, **MARKED)
    for name in ("global", "local"):
        if name not in each.power:
            continue
        measured = each.curve(name)[1:] - each.curve("enters")[1:]
        if name == "global":
            measured[~passing] = np.nan
        ax.plot(at, measured, color=COLOURS[name], label=f"{name}, measured", **MARKED)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    ax.set(xlabel="frequency, cycles per map", ylabel="gain, dB")
    ring_axis(ax, at[-1])


def _draw_share(ax: Axes, each: Effect) -> None:
    """The global branch's share of the energy as two bars: on white input, and measured."""
    if each.share is None or each.white_share is None:
        ax.axis("off")
        return
    bars = {"white input": each.white_share, "these features": each.share}
    for row, (name, share) in enumerate(bars.items()):
        ax.barh(row, share, color=COLOURS["global"], height=0.5)
        ax.barh(row, 1 - share, left=share, color=COLOURS["local"], height=0.5)
        ax.text(0, row - 0.3, f"{name}: {100 * share:.2g} %", fontsize=7, va="bottom")
    ax.set(xlim=(0, 1), ylim=(1.6, -0.9), xticks=[0, 1], yticks=[], title="global branch's share")
    ax.spines[:].set_visible(False)
