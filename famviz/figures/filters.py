"""One filter as a picture: each takes `ax=None`, draws, returns the axes; nothing is shown, nothing left open."""

import numpy as np
from matplotlib.axes import Axes

from famviz import spectra
from famviz.figures import style
from famviz.load import Filter

Pair = tuple[int, int]  # (c_out, c_in)
FLOOR = -60.0  # dB, of an amplitude
ENERGY_FLOOR = -40.0  # dB, of an energy
TURN = ([-np.pi, 0, np.pi], ["\u2212π", "0", "π"])
HUES = "hue: phase, brightness: dB"


@style.styled
def filter_amplitude(
    each: Filter, pair: Pair | None = None, ax: Axes | None = None, *, reference: float | None = None,
    floor: float = FLOOR, colorbar: bool = True,
) -> Axes:  # fmt: skip
    """|H| in dB of `reference` (by itself the level's largest), DC in the middle, the high-pass outlined.

    Without a pair it is the root mean square over all of the level's filters.
    """
    shown = spectra.decibel(_amplitude(each, pair), reference or _largest(each), floor)
    ax = style.axes(ax)
    image = ax.imshow(shown, cmap=style.AMPLITUDE, vmin=floor, vmax=0, extent=_extent(each.size))
    _frequency_axes(ax, each, _named("amplitude", pair))
    below = "the largest" if reference is None else f"{reference:.3g}"
    return style.with_bar(ax, image, f"|H|, dB of {below}", colorbar)


@style.styled
def filter_phase(
    each: Filter, pair: Pair | None = None, ax: Axes | None = None, *, reference: float | None = None,
    floor: float = FLOOR, colorbar: bool = True,
) -> Axes:  # fmt: skip
    """Phase on a cyclic map fixed to [-pi, pi], grey where the amplitude is below the floor."""
    plane = _plane(each, pair)
    weak = spectra.decibel(plane, reference or _largest(each), floor) <= floor
    ax = style.axes(ax)
    ax.set_facecolor(style.EMPTY)
    shown = np.ma.array(np.angle(plane), mask=weak)
    image = ax.imshow(shown, cmap=style.PHASE, vmin=-np.pi, vmax=np.pi, extent=_extent(each.size))
    _frequency_axes(ax, each, _named("phase", pair))
    return style.with_bar(ax, image, "rad", colorbar, TURN)


@style.styled
def filter_complex(
    each: Filter, pair: Pair | None = None, ax: Axes | None = None, *, reference: float | None = None,
    floor: float = FLOOR, colorbar: bool = True,
) -> Axes:  # fmt: skip
    """Domain colouring: hue is the phase, brightness the amplitude in dB; its key has both directions."""
    ax = style.axes(ax)
    return _domain_coloured(ax, each, _plane(each, pair), _named(HUES, pair), reference, floor, colorbar)


@style.styled
def filter_kernel(
    each: Filter, pair: Pair | None = None, ax: Axes | None = None, *, largest: float | None = None,
    colorbar: bool = True,
) -> Axes:  # fmt: skip
    """The circular convolution kernel that the filter stands for, its origin in the middle, 0 in white."""
    ax = style.axes(ax)
    return _weights(ax, each, kernel(each, pair), _named("spatial kernel", pair), largest, colorbar)


@style.styled
def filter_difference(
    first: Filter, second: Filter, pair: Pair | None = None, view: str = "amplitude", ax: Axes | None = None, *,
    floor: float = FLOOR, colorbar: bool = True,
) -> Axes:  # fmt: skip
    """The first filter minus the second in one view; grey where either is below the floor.

    Amplitudes differ in dB and phases in radians, both as they are and not as clipped; the complex view shows the
    complex difference, the kernel view that of the kernels. The floor lies below the larger of the two levels' peaks.
    """
    ax, reference = style.axes(ax), max(_largest(first), _largest(second))
    if view == "kernel":
        return _weights(ax, first, kernel(first, pair) - kernel(second, pair), "difference", None, colorbar)
    planes = _plane(first, pair), _plane(second, pair)
    if view == "complex":
        return _domain_coloured(ax, first, planes[0] - planes[1], f"difference, {HUES}", reference, floor, colorbar)
    if view == "amplitude":
        planes = _amplitude(first, pair), _amplitude(second, pair)
    weak = np.any([spectra.decibel(plane, reference, floor) <= floor for plane in planes], axis=0)
    ratio = np.where(weak, 1, planes[0]) / np.where(weak, 1, planes[1])
    shown = np.ma.array(np.angle(ratio) if view == "phase" else 20 * np.log10(np.abs(ratio)), mask=weak)
    top = np.pi if view == "phase" else float(np.abs(shown.compressed()).max(initial=0)) or 1.0
    ax.set_facecolor(style.EMPTY)
    colours = style.PHASE if view == "phase" else style.SIGNED
    image = ax.imshow(shown, cmap=colours, vmin=-top, vmax=top, extent=_extent(first.size))
    _frequency_axes(ax, first, "difference")
    return style.with_bar(ax, image, "rad" if view == "phase" else "dB", colorbar, TURN if view == "phase" else None)


@style.styled
def energy_map(
    each: Filter, ax: Axes | None = None, *, colorbar: bool = True, energy: np.ndarray | None = None
) -> Axes:
    """Energy of each channel pair on white input, in dB of the strongest; `energy` (C_out, C_in) stands in for it."""
    amplitude = np.sqrt(each.energy() if energy is None else energy)
    ax = style.axes(ax)
    shown = spectra.decibel(amplitude, amplitude.max(), ENERGY_FLOOR)
    lowest = min(-5.0, 5 * np.floor(shown.min() / 5))
    image = ax.imshow(shown, cmap=style.ENERGY, vmin=lowest, vmax=0)
    ax.set(title="energy of each filter", xlabel="input channel", ylabel="output channel")
    style.whole_ticks(ax)
    return style.with_bar(ax, image, "dB of the strongest", colorbar)


def _largest(each: Filter) -> float:
    return float(np.abs(each.response).max())


def _amplitude(each: Filter, pair: Pair | None) -> np.ndarray:
    """|H| of a filter, or the root mean square of all, on the full centred plane."""
    return spectra.full_plane(each.amplitude() if pair is None else np.abs(each.response[pair]), each.size[1])


def _plane(each: Filter, pair: Pair | None) -> np.ndarray:
    """A filter, or the mean of all, on the full centred plane."""
    return spectra.full_plane(each.response.mean((0, 1)) if pair is None else each.response[pair], each.size[1])


def kernel(each: Filter, pair: Pair | None) -> np.ndarray:
    """The kernel of a filter, or of the mean of all, (H, W), its origin in the middle."""
    half = each.response.mean((0, 1)) if pair is None else each.response[pair]
    return spectra.spatial_kernel(half, each.size)


def _weights(ax: Axes, each: Filter, shown: np.ndarray, title: str, largest: float | None, colorbar: bool) -> Axes:
    top = largest or np.abs(shown).max() or 1.0
    image = ax.imshow(shown, cmap=style.SIGNED, vmin=-top, vmax=top, extent=_extent(each.size))
    ax.set(title=title, xlabel="x, px", ylabel="y, px")
    style.whole_ticks(ax)
    return style.with_bar(ax, image, "weight", colorbar)


def _domain_coloured(
    ax: Axes, each: Filter, plane: np.ndarray, title: str, reference: float | None, floor: float, colorbar: bool
) -> Axes:
    ax.imshow(spectra.domain_colour(plane, reference or _largest(each), floor), extent=_extent(each.size))
    _frequency_axes(ax, each, title)
    if colorbar:
        _key(ax, floor)
    return ax


def _key(ax: Axes, floor: float) -> None:
    """The colours of the complex view: amplitude in dB to the right, phase upwards."""
    phase, amplitude = np.linspace(np.pi, -np.pi, 65)[:, None], 10 ** (np.linspace(floor, 0, 33) / 20)
    key = ax.inset_axes((1.06, 0, 0.22, 1))
    key.imshow(spectra.domain_colour(amplitude * np.exp(1j * phase), 1.0, floor), aspect="auto",
               extent=(floor, 0, -np.pi, np.pi))  # fmt: skip
    key.yaxis.tick_right()
    key.set_yticks(*TURN)
    key.set_xticks([floor, 0], [f"\u2212{-floor:g}", "0"])
    key.set_xlabel("dB", labelpad=1)


def _named(what: str, pair: Pair | None) -> str:
    return f"{what}, all filters" if pair is None else f"{what}, {pair[1]} \u2192 {pair[0]}"


def _extent(size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Edges of the bins of a centred plane, rows downwards."""
    h, w = size
    return (-(w // 2) - 0.5, w - w // 2 - 0.5, h - h // 2 - 0.5, -(h // 2) - 0.5)


def _frequency_axes(ax: Axes, each: Filter, title: str) -> None:
    """Titles, and the edge of the high-pass where it halves the amplitude."""
    ax.set(title=title, xlabel="kx, cycles per map", ylabel="ky")
    style.whole_ticks(ax)
    gain = np.pad(spectra.full_plane(each.gain, each.size[1]), 1, mode="edge") >= 0.5
    (h, w), (ky, kx) = each.size, (n // 2 + 1.5 for n in each.size)
    down, across = gain[1:] != gain[:-1], gain[:, 1:] != gain[:, :-1]
    for i, j in np.argwhere(down[:, 1 : w + 1]):
        ax.plot((j - kx + 1, j - kx + 2), (i - ky + 1, i - ky + 1), color="#ff5d5d", linewidth=1)
    for i, j in np.argwhere(across[1 : h + 1]):
        ax.plot((j - kx + 1, j - kx + 1), (i - ky + 1, i - ky + 2), color="#ff5d5d", linewidth=1)
