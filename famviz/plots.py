"""Every view as a matplotlib figure: takes `ax=None`, draws, returns the axes; nothing is shown, nothing left open."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from famviz import spectra, style
from famviz.opening import Filter, Opened

Pair = tuple[int, int]  # (c_out, c_in)
FLOOR = -60.0  # dB, of an amplitude
ENERGY_FLOOR = -40.0  # dB, of an energy


@style.styled
def filter_amplitude(
    each: Filter, pair: Pair | None = None, ax: Axes | None = None, *, reference: float | None = None,
    floor: float = FLOOR, colorbar: bool = True,
) -> Axes:  # fmt: skip
    """|H| in dB of `reference` (by itself the level's largest), DC in the middle, the high-pass outlined.

    Without a pair it is the root mean square over all of the level's filters.
    """
    half = each.amplitude() if pair is None else np.abs(each.response[pair])
    plane = spectra.full_plane(half, each.size[1])
    shown = spectra.decibel(plane, reference or np.abs(each.response).max(), floor)
    ax = _axes(ax)
    image = ax.imshow(shown, cmap=style.AMPLITUDE, vmin=floor, vmax=0, extent=_extent(each.size))
    _frequency_axes(ax, each, _named("amplitude", pair))
    return _with_bar(ax, image, "|H|, dB of the largest" if reference is None else "|H|, dB", colorbar)


@style.styled
def filter_phase(
    each: Filter, pair: Pair | None = None, ax: Axes | None = None, *, floor: float = FLOOR, colorbar: bool = True
) -> Axes:
    """Phase on a cyclic map fixed to [-pi, pi], grey where the amplitude is below the floor."""
    plane = _plane(each, pair)
    weak = spectra.decibel(plane, np.abs(each.response).max(), floor) <= floor
    ax = _axes(ax)
    ax.set_facecolor("0.6")
    shown = np.ma.array(np.angle(plane), mask=weak)
    image = ax.imshow(shown, cmap=style.PHASE, vmin=-np.pi, vmax=np.pi, extent=_extent(each.size))
    _frequency_axes(ax, each, _named("phase", pair))
    return _with_bar(ax, image, "rad", colorbar, ([-np.pi, 0, np.pi], ["\u2212π", "0", "π"]))


@style.styled
def filter_complex(each: Filter, pair: Pair | None = None, ax: Axes | None = None, *, floor: float = FLOOR) -> Axes:
    """Domain colouring: hue is the phase, brightness the amplitude in dB."""
    ax = _axes(ax)
    colours = spectra.domain_colour(_plane(each, pair), np.abs(each.response).max(), floor)
    ax.imshow(colours, extent=_extent(each.size))
    _frequency_axes(ax, each, _named("hue: phase, brightness: dB", pair))
    return ax


@style.styled
def filter_kernel(each: Filter, pair: Pair | None = None, ax: Axes | None = None, *, colorbar: bool = True) -> Axes:
    """The circular convolution kernel that the filter stands for, its origin in the middle, 0 in white."""
    half = each.response.mean((0, 1)) if pair is None else each.response[pair]
    kernel = spectra.spatial_kernel(half, each.size)
    top = np.abs(kernel).max() or 1.0
    ax = _axes(ax)
    image = ax.imshow(kernel, cmap=style.SIGNED, vmin=-top, vmax=top, extent=_extent(each.size))
    ax.set(title=_named("spatial kernel", pair), xlabel="x, px", ylabel="y, px")
    _whole_ticks(ax)
    return _with_bar(ax, image, "weight", colorbar)


@style.styled
def radial_curves(filters: Sequence[Filter], ax: Axes | None = None, *, labels: Sequence[str] = ()) -> Axes:
    """Azimuthal mean of each filter's RMS amplitude against radius, in dB of its own largest ring.

    Rings that the high-pass empties are left out.
    """
    ax = _axes(ax)
    for each, label in zip(filters, labels or [each.title for each in filters], strict=True):
        rings, mean = spectra.radial_profile(spectra.full_plane(each.amplitude(), each.size[1]))
        curve = spectra.decibel(mean, mean.max(), FLOOR)
        curve[curve <= FLOOR] = np.nan
        ax.plot(rings / max(1, rings[-1]), curve, marker="o", markersize=2.5, label=label)
    ax.set(xlabel="radial frequency, fraction of Nyquist", ylabel="mean |H|, dB of its peak", title="radial profile")
    ax.set(xlim=(0, 1.04), ylim=(min(-3.0, ax.get_ylim()[0]), 0.5))
    if len(filters) > 1 or labels:
        ax.legend()
    return ax


@style.styled
def energy_map(each: Filter, ax: Axes | None = None, *, colorbar: bool = True) -> Axes:
    """Energy of each channel pair on white input, in dB of the strongest."""
    energy = np.sqrt(each.energy())
    ax = _axes(ax)
    shown = spectra.decibel(energy, energy.max(), ENERGY_FLOOR)
    lowest = min(-5.0, 5 * np.floor(shown.min() / 5))
    image = ax.imshow(shown, cmap=style.ENERGY, vmin=lowest, vmax=0)
    ax.set(title="energy of each filter", xlabel="input channel", ylabel="output channel")
    _whole_ticks(ax)
    return _with_bar(ax, image, "dB of the strongest", colorbar)


@style.styled
def filter_life(opened: Opened, where: int | str = 0, ax: Axes | None = None, *, colorbar: bool = True) -> Axes:
    """How a level's filter formed: RMS amplitude per ring (rows) over epochs (columns), in dB of the largest."""
    each = opened.filter(where)
    epochs, life = opened.history(each)
    ax = _axes(ax)
    ax.set(title=f"life of {each.title}", xlabel="epoch", ylabel="ring, cycles per map")
    if not epochs:
        ax.text(0.5, 0.5, "no epoch was recorded", ha="center", transform=ax.transAxes)
        return ax
    planes = spectra.full_plane(np.stack([s["amplitude"] for s in life]), each.size[1])
    rings, curves = spectra.radial_profile(planes)
    shown = spectra.decibel(curves.T, curves.max(), FLOOR)
    lowest = min(-3.0, shown[shown > FLOOR].min(initial=0.0))
    edges = (np.array(epochs[:1] + epochs) + np.array([-1] + [0] * len(epochs))) + 0.5
    image = ax.pcolormesh(edges, np.arange(len(rings) + 1) - 0.5, shown, cmap=style.AMPLITUDE, vmin=lowest, vmax=0,
                          rasterized=True)  # fmt: skip
    _whole_ticks(ax)
    return _with_bar(ax, image, "mean |H|, dB of the largest", colorbar)


@style.styled
def share_bars(opened: Opened, ax: Axes | None = None) -> Axes:
    """Share of the global against the local branch per level, in the energy of each by itself on white input."""
    ax = _axes(ax)
    held = [each for each in opened.filters if each.total_share() is not None]
    shares = np.array([each.total_share() for each in held])
    names = [each.student or str(each.level) for each in held]
    ax.barh(names, shares, color=style.LINES[0], label="global: frequency filter")
    ax.barh(names, 1 - shares, left=shares, color=style.LINES[1], label="local: 1x1 convolution")
    for at, share in enumerate(shares):
        ax.text(share + 0.02, at, f"{100 * share:.{0 if share >= 0.01 else 3}f} %", va="center")
    ax.set(xlim=(0, 1), xlabel="share of energy on white input")
    ax.invert_yaxis()
    ax.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=2, handlelength=1, columnspacing=1)
    return ax


@style.styled
def training_curves(runs: Opened | Sequence[Opened], ax: Sequence[Axes] | None = None) -> np.ndarray:
    """Losses (log scale) and the first two held-out figures over epochs, on a pair of axes."""
    runs = [runs] if isinstance(runs, Opened) else list(runs)
    if ax is None:
        ax = style.figure(7.0, 2.6 if len(runs) == 1 else 2.8 + 0.17 * len(runs)).subplots(1, 2)
    dashes, measured = ("-", "--", ":", "-."), "accuracy"
    for at, run in enumerate(runs):
        rows = run.run.metrics() if run.run else []
        figures = [key for key in (rows[0] if rows else {}) if "." not in key and key not in ("epoch", "lr")]
        measured = "average precision" if "AP" in figures else measured
        epochs, prefix = [row["epoch"] for row in rows], f"{run.name}: " if len(runs) > 1 else ""
        for n, name in enumerate(key for key in (rows[0] if rows else {}) if "." in key):
            values = [row.get(name, np.nan) for row in rows]
            ax[0].plot(epochs, values, dashes[n % 4], color=style.LINES[at % 6], label=prefix + name)
        for n, name in enumerate(figures[:2]):
            values = [row[name] for row in rows]
            ax[1].plot(epochs, values, dashes[n], color=style.LINES[at % 6], label=prefix + name)
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
        filter_amplitude(each, pair, ax, colorbar=False)
        ax.set_title(f"{pair[1]} \u2192 {pair[0]}", fontsize=7, pad=2)
    bar = figure.colorbar(grid[0, 0].images[0], ax=grid, shrink=0.9, aspect=30, pad=0.01)
    bar.set_label("|H|, dB of the largest")
    figure.suptitle(f"{each.title}: the {len(strongest)} strongest filters, input \u2192 output channel", fontsize=9)
    return figure


@style.styled
def overview(each: Filter, pair: Pair | None = None) -> Figure:
    """Energy map, amplitude, phase, domain colouring, kernel and radial profile of one choice, in one figure."""
    figure = style.figure(8.6, 4.8)
    figure.get_layout_engine().set(w_pad=0.1)
    axes = figure.subplots(2, 3).ravel()
    energy_map(each, axes[0])
    if pair is not None:
        axes[0].plot(pair[1], pair[0], "s", markersize=6, markerfacecolor="none", color="#ff5d5d")
    for draw, ax in zip((filter_amplitude, filter_phase, filter_complex, filter_kernel), axes[1:], strict=False):
        draw(each, pair, ax)
    radial_curves([each], axes[5])
    figure.suptitle(each.title + (f", output {pair[0]}, input {pair[1]}" if pair else ", all filters"), fontsize=9)
    return figure


def _plane(each: Filter, pair: Pair | None) -> np.ndarray:
    """A filter, or the mean of all, on the full centred plane."""
    return spectra.full_plane(each.response.mean((0, 1)) if pair is None else each.response[pair], each.size[1])


def _axes(ax: Axes | None) -> Axes:
    return style.figure().subplots() if ax is None else ax


def _named(what: str, pair: Pair | None) -> str:
    return f"{what}, all filters" if pair is None else f"{what}, {pair[1]} \u2192 {pair[0]}"


def _extent(size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Edges of the bins of a centred plane, rows downwards."""
    h, w = size
    return (-(w // 2) - 0.5, w - w // 2 - 0.5, h - h // 2 - 0.5, -(h // 2) - 0.5)


def _frequency_axes(ax: Axes, each: Filter, title: str) -> None:
    """Titles, and the edge of the high-pass where it halves the amplitude."""
    ax.set(title=title, xlabel="kx, cycles per map", ylabel="ky")
    _whole_ticks(ax)
    gain = np.pad(spectra.full_plane(each.gain, each.size[1]), 1, mode="edge") >= 0.5
    (h, w), (ky, kx) = each.size, (n // 2 + 1.5 for n in each.size)
    down, across = gain[1:] != gain[:-1], gain[:, 1:] != gain[:, :-1]
    for i, j in np.argwhere(down[:, 1 : w + 1]):
        ax.plot((j - kx + 1, j - kx + 2), (i - ky + 1, i - ky + 1), color="#ff5d5d", linewidth=1)
    for i, j in np.argwhere(across[1 : h + 1]):
        ax.plot((j - kx + 1, j - kx + 1), (i - ky + 1, i - ky + 2), color="#ff5d5d", linewidth=1)


def _whole_ticks(ax: Axes) -> None:
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def _with_bar(ax: Axes, image, label: str, wanted: bool, ticks: tuple | None = None) -> Axes:
    if wanted:
        bar = ax.figure.colorbar(image, ax=ax, fraction=0.046, pad=0.03)
        bar.set_label(label)
        bar.outline.set_visible(False)
        if ticks:
            bar.set_ticks(ticks[0], labels=ticks[1])
    return ax
