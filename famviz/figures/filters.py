"""Pictures of one filter. Each function takes `ax=None`, draws, and returns the axes; nothing stays open."""

import numpy as np
from matplotlib.axes import Axes

from famviz import spectra
from famviz.analysis import filters as values
from famviz.analysis.filters import ENERGY_FLOOR, FLOOR, Pair
from famviz.figures import style
from famviz.figures.axes import extent, frequency_axes
from famviz.filter import Filter

__all__ = [
    "ENERGY_FLOOR", "FLOOR", "HUES", "Pair", "energy_map", "filter_amplitude", "filter_complex", "filter_difference",
    "filter_kernel", "filter_phase",
]  # fmt: skip

TURN = ([-np.pi, 0, np.pi], ["\u2212π", "0", "π"])  # ticks of a phase
HUES = "hue: phase, brightness: dB"


@style.styled
def filter_amplitude(
    each: Filter, pair: Pair | None = None, ax: Axes | None = None, *, reference: float | None = None,
    floor: float = FLOOR, colorbar: bool = True, colormap: str = style.AMPLITUDE,
) -> Axes:  # fmt: skip
    """|H| in dB of `reference` (by default the largest of the level), DC in the middle, the high-pass outlined.

    Without a pair it is the root mean square over all filters of the level.
    """
    ax = style.axes(ax)
    shown = spectra.decibel(values.amplitude(each, pair), reference or each.largest(), floor)
    image = ax.imshow(shown, cmap=colormap, vmin=floor, vmax=0, extent=extent(each.size))
    frequency_axes(ax, each, _titled("amplitude", pair))
    unit = "the largest" if reference is None else f"{reference:.3g}"
    return style.with_bar(ax, image, f"|H|, dB of {unit}", colorbar)


@style.styled
def filter_phase(
    each: Filter, pair: Pair | None = None, ax: Axes | None = None, *, reference: float | None = None,
    floor: float = FLOOR, colorbar: bool = True,
) -> Axes:  # fmt: skip
    """Phase on a cyclic colour map fixed to [-pi, pi], grey where the amplitude is below the floor."""
    ax = style.axes(ax)
    ax.set_facecolor(style.EMPTY)
    plane = values.plane(each, pair)
    weak = spectra.decibel(plane, reference or each.largest(), floor) <= floor
    phase = np.ma.array(np.angle(plane), mask=weak)
    image = ax.imshow(phase, cmap=style.PHASE, vmin=-np.pi, vmax=np.pi, extent=extent(each.size))
    frequency_axes(ax, each, _titled("phase", pair))
    return style.with_bar(ax, image, "rad", colorbar, TURN)


@style.styled
def filter_complex(
    each: Filter, pair: Pair | None = None, ax: Axes | None = None, *, reference: float | None = None,
    floor: float = FLOOR, colorbar: bool = True,
) -> Axes:  # fmt: skip
    """Domain colouring: the hue is the phase, the brightness the amplitude in dB. The key shows both."""
    plane = values.plane(each, pair)
    reference = reference or each.largest()
    return _domain_coloured(style.axes(ax), each, plane, _titled(HUES, pair), reference, floor, colorbar)


@style.styled
def filter_kernel(
    each: Filter, pair: Pair | None = None, ax: Axes | None = None, *, largest: float | None = None,
    colorbar: bool = True,
) -> Axes:  # fmt: skip
    """The circular convolution kernel of the filter, its origin in the middle, 0 in white."""
    kernel = values.kernel(each, pair)
    return _weights(style.axes(ax), each, kernel, _titled("spatial kernel", pair), largest, colorbar)


@style.styled
def filter_difference(
    first: Filter, second: Filter, pair: Pair | None = None, view: str = "amplitude", ax: Axes | None = None, *,
    floor: float = FLOOR, reference: float | None = None, colorbar: bool = True,
) -> Axes:  # fmt: skip
    """The first filter minus the second in one view; grey where either is below the floor.

    Amplitudes are subtracted in dB and phases in radians, before they are clipped. The complex view shows the complex
    difference, the kernel view that of the kernels. The floor is below `reference`, by default the larger of the peaks
    of the two levels.
    """
    ax = style.axes(ax)
    if view == "kernel":
        kernel = values.kernel(first, pair) - values.kernel(second, pair)
        return _weights(ax, first, kernel, "difference", None, colorbar)
    reference = reference or max(first.largest(), second.largest())
    if view == "complex":
        plane = values.plane(first, pair) - values.plane(second, pair)
        return _domain_coloured(ax, first, plane, f"difference, {HUES}", reference, floor, colorbar)
    shown = values.difference(first, second, pair, view, reference, floor)
    ax.set_facecolor(style.EMPTY)
    if view == "phase":
        image = ax.imshow(shown, cmap=style.PHASE, vmin=-np.pi, vmax=np.pi, extent=extent(first.size))
    else:
        top = float(np.abs(shown.compressed()).max(initial=0)) or 1.0
        image = ax.imshow(shown, cmap=style.SIGNED, vmin=-top, vmax=top, extent=extent(first.size))
    frequency_axes(ax, first, "difference")
    unit, ticks = ("rad", TURN) if view == "phase" else ("dB", None)
    return style.with_bar(ax, image, unit, colorbar, ticks)


@style.styled
def energy_map(
    each: Filter, ax: Axes | None = None, *, colorbar: bool = True, energy: np.ndarray | None = None
) -> Axes:
    """Energy of each pair of channels on white input, in dB of the strongest.

    Of a level that is too large for memory it shows the strongest filter of each block of channels, of those that are
    read so far.

    Args:
        energy: another energy (C_out, C_in) to show in its place, such as that of an earlier epoch.
    """
    ax = style.axes(ax)
    shown, step, title = _energies(each, energy)
    lowest = min(-5.0, 5 * np.floor(float(shown.min()) / 5))
    rows, columns = (step * count - 0.5 for count in shown.shape)
    image = ax.imshow(shown, cmap=style.ENERGY, vmin=lowest, vmax=0, extent=(-0.5, columns, rows, -0.5))
    ax.set(title=title, xlabel="input channel", ylabel="output channel")
    style.whole_ticks(ax)
    return style.with_bar(ax, image, "dB of the strongest", colorbar)


def _energies(each: Filter, energy: np.ndarray | None) -> tuple[np.ndarray, int, str]:
    """Energies in dB of the strongest, the channels that a pixel stands for along a side, and a title."""
    survey = each.survey
    if survey is None:
        return values.energy_db(each.energy() if energy is None else energy), 1, "energy of each filter"
    step = values.grid_of(each.channels)[1]
    title = "energy of each filter" if step == 1 else f"strongest of each {step} \u00d7 {step} filters"
    if energy is not None:
        return values.energy_db(values.energy_blocks(energy)[0]), step, title
    survey.begin()
    blocks, best = values.energy_blocks(survey.energy, survey.known)
    if not survey.known.all():
        title += f", {survey.share:.0%} read"
    return np.ma.array(values.energy_db(blocks), mask=best < 0), step, title


def _weights(ax: Axes, each: Filter, kernel: np.ndarray, title: str, largest: float | None, colorbar: bool) -> Axes:
    """A kernel on a range that is symmetric about 0."""
    top = largest or np.abs(kernel).max() or 1.0
    image = ax.imshow(kernel, cmap=style.SIGNED, vmin=-top, vmax=top, extent=extent(each.size))
    ax.set(title=title, xlabel="x, px", ylabel="y, px")
    style.whole_ticks(ax)
    return style.with_bar(ax, image, "weight", colorbar)


def _domain_coloured(
    ax: Axes, each: Filter, plane: np.ndarray, title: str, reference: float, floor: float, colorbar: bool
) -> Axes:
    ax.imshow(spectra.domain_colour(plane, reference, floor), extent=extent(each.size))
    frequency_axes(ax, each, title)
    if colorbar:
        _key(ax, floor)
    return ax


def _key(ax: Axes, floor: float) -> None:
    """The colours of the complex view: amplitude in dB to the right, phase upwards."""
    phase = np.linspace(np.pi, -np.pi, 65)[:, None]
    amplitude = 10 ** (np.linspace(floor, 0, 33) / 20)
    colours = spectra.domain_colour(amplitude * np.exp(1j * phase), 1.0, floor)
    key = ax.inset_axes((1.06, 0, 0.22, 1))
    key.imshow(colours, aspect="auto", extent=(floor, 0, -np.pi, np.pi))
    key.yaxis.tick_right()
    key.set_yticks(*TURN)
    key.set_xticks([floor, 0], [f"\u2212{-floor:g}", "0"])
    key.set_xlabel("dB", labelpad=1)


def _titled(what: str, pair: Pair | None) -> str:
    return f"{what}, all filters" if pair is None else f"{what}, {pair[1]} \u2192 {pair[0]}"
