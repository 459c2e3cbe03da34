"""Figures of frequency amplitude differences: each network's spectra, and how far they are from the teacher's."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from famviz.analysis.amplitude import Stage, without_dc
from famviz.analysis.compare_networks import Sources
from famviz.analysis.differences import amplitude_difference, differences_table
from famviz.analysis.stage_spectra import level_spectra, network_spectra
from famviz.figures import style
from famviz.figures.axes import bare, extent, few_ticks, ring_axis

__all__ = [
    "Stage", "amplitude_difference", "differences_figure", "differences_table", "level_spectra", "network_spectra",
]  # fmt: skip

COLOURS = ("#000000", *style.LINES)  # the reference is black
LETTERS = 22  # of a line above a picture
UNITS = {"mean": "dB re mean", "dc": "dB re DC", "none": "dB"}
LEGEND = "pale: what other images\nwould have given\n(95 %, bootstrap)"


@style.styled
def differences_figure(source: Sources | Sequence[Stage], images: Any = None, **options: Any) -> Figure:
    """A matplotlib figure of `amplitude_difference`, or of stages that it returned: two rows for each stage.

    Above, the spectrum of each network on one scale, and its radial curve with the bootstrap band; below, each minus
    the reference on one scale that is symmetric about 0. Curves start at the first ring; DC is printed.
    """
    stages = _stages(source, images, options)
    names = list(max(stages, key=lambda stage: len(stage.planes)).planes)
    figure = style.figure(1.75 * len(names) + 3.8, 4.5 * len(stages))
    grids = figure.subfigures(len(stages), 1, squeeze=False)[:, 0]
    for grid, stage in zip(grids, stages):
        axes = _draw_stage(grid, stage, names)
        if stage is stages[0]:
            _draw_legend(axes[f"-{stage.reference}"], axes["curve"])
    return figure


def _stages(source: Any, images: Any, options: dict[str, Any]) -> list[Stage]:
    if isinstance(source, Sequence) and all(isinstance(each, Stage) for each in source):
        return list(source)
    return amplitude_difference(source, images, **options)


def _draw_stage(grid: SubFigure, stage: Stage, names: list[str]) -> dict[str, Axes]:
    """Two rows: `+NAME` and `curve` above, `-NAME` and `gap` below."""
    size = " x ".join(map(str, stage.planes[stage.reference].shape))
    grid.suptitle(f"{stage.name}, {size}", x=0.01, ha="left", fontsize=10, fontweight="bold")
    above = [f"+{name}" for name in names]
    below = [f"-{name}" for name in names]
    widths = [1.0] * len(names) + [1.9]
    axes = grid.subplot_mosaic([[*above, "curve"], [*below, "gap"]], width_ratios=widths)
    for ax in [axes[name] for name in above + below]:
        bare(ax)
    _draw_spectra(grid, [axes[name] for name in above], names, stage)
    _draw_differences(grid, [axes[name] for name in below], names, stage)
    _draw_curves(axes["curve"], axes["gap"], names, stage)
    return axes


def _draw_spectra(grid: SubFigure, axes: list[Axes], names: list[str], stage: Stage) -> None:
    """Spectra of all networks on one scale."""
    off_dc = np.concatenate([without_dc(plane) for plane in stage.planes.values()])
    low, high = np.quantile(off_dc, (0.01, 1))
    image = None
    for ax, name in zip(axes, names):
        if name not in stage.planes:
            continue
        plane = stage.planes[name]
        image = ax.imshow(plane, cmap=style.AMPLITUDE, vmin=low, vmax=high, extent=extent(plane.shape))
        ax.set_title(textwrap.fill(name, LETTERS))
        if name == stage.reference:
            few_ticks(ax, plane.shape, "kx, cycles per map")
    if image:
        grid.colorbar(image, ax=axes, label=UNITS[stage.relative], shrink=0.85, pad=0.01)


def _draw_differences(grid: SubFigure, axes: list[Axes], names: list[str], stage: Stage) -> None:
    """Each network minus the reference, on one scale that is symmetric about 0."""
    if not stage.others:
        return
    gaps = np.concatenate([without_dc(stage.difference(name)) for name in stage.others])
    most = max(np.quantile(np.abs(gaps), 0.995), 0.1)
    image = None
    for ax, name in zip(axes, names):
        if name not in stage.others:
            continue
        plane = stage.difference(name)
        image = ax.imshow(plane, cmap=style.SIGNED, vmin=-most, vmax=most, extent=extent(plane.shape))
        rms = f"curve {stage.rms_db(name):.1f}, plane {stage.plane_rms_db(name):.1f}"
        ax.set_title(f"{textwrap.fill(f'minus {stage.reference},', LETTERS)}\ndB RMS: {rms}", fontsize=8)
        level, dc = stage.offsets(name)
        offsets = f"level {level:+.1f}, DC {dc:+.1f} dB".replace("-", "\u2212")
        few_ticks(ax, plane.shape, f"kx, cycles per map\n{offsets}")
    if image:
        grid.colorbar(image, ax=axes, label="dB", shrink=0.85, pad=0.01)


def _draw_curves(curve: Axes, gap: Axes, names: list[str], stage: Stage) -> None:
    """Radial curves with their bands, and below them the differences with theirs, from the first ring on."""
    at = stage.frequency[1:]
    for colour, name in zip(COLOURS, names):
        if name not in stage.curves:
            continue
        line: dict[str, Any] = {"color": colour, "lw": 1.4, "marker": "o", "markersize": 2.5}  # a map may have 2 rings
        curve.plot(at, stage.curves[name][1:], label=name, **line)
        curve.fill_between(at, *stage.bands[name][:, 1:], color=colour, alpha=0.2, lw=0)
        if name != stage.reference:
            gap.plot(at, stage.difference_curve(name)[1:], **line)
            gap.fill_between(at, *stage.difference_bands[name][:, 1:], color=colour, alpha=0.2, lw=0)
    gap.axhline(0, color=COLOURS[0], lw=0.8)
    for ax in (curve, gap):
        ring_axis(ax, at[-1])
    gap.set_xlabel("frequency, cycles per map")
    curve.set_ylabel(UNITS[stage.relative])
    gap.set_ylabel(f"dB minus {stage.reference}")


def _draw_legend(place: Axes, curve: Axes) -> None:
    """The names of the curves, in the place below the reference, which has no difference to itself."""
    handles, labels = curve.get_legend_handles_labels()
    wrapped = [textwrap.fill(label, LETTERS) for label in labels]
    legend = place.legend(
        handles, wrapped, loc="center left", bbox_to_anchor=(-0.15, 0.5), title=LEGEND, title_fontsize=7
    )
    legend.set_alignment("left")
