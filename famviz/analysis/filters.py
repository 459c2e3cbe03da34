"""One filter of a level, or all of its filters together, as arrays to draw."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from famviz import spectra
from famviz.filter import Filter
from famviz.load import LoadedRun, Summary

Pair = tuple[int, int]  # (c_out, c_in)
FLOOR = -60.0  # dB, of an amplitude
ENERGY_FLOOR = -40.0  # dB, of an energy
LOWEST_ENERGY = -160.0  # dB, of a filter that is zero, in a table
DEEPEST = -80.0  # dB, of an automatic floor
OVERVIEW = 256  # blocks along a side of an overview of energies, at most
WEAK = 0.02  # share of all amplitudes that lie below an automatic floor


def amplitude(each: Filter, pair: Pair | None) -> np.ndarray:
    """|H| of a filter, or the root mean square over all filters, on the full centred plane (H, W)."""
    half = each.amplitude() if pair is None else np.abs(each.half(pair))
    return spectra.full_plane(half, each.size[1])


def plane(each: Filter, pair: Pair | None) -> np.ndarray:
    """A filter, or the mean of all filters, on the full centred plane (H, W)."""
    return spectra.full_plane(_half(each, pair), each.size[1])


def kernel(each: Filter, pair: Pair | None) -> np.ndarray:
    """The convolution kernel of a filter, or of the mean of all filters, (H, W), its origin in the middle."""
    return spectra.spatial_kernel(_half(each, pair), each.size)


def _half(each: Filter, pair: Pair | None) -> np.ndarray:
    return each.mean() if pair is None else each.half(pair)


def strongest(each: Filter, count: int) -> list[Pair]:
    """The pairs of channels with the most energy, the strongest first."""
    return strongest_of(each.energy(), count)


def strongest_of(energy: np.ndarray, count: int) -> list[Pair]:
    """The pairs of channels with the largest energies (C_out, C_in), without sorting all of them."""
    flat = energy.ravel()
    count = min(count, len(flat))
    first = np.argpartition(flat, len(flat) - count)[len(flat) - count :]
    outs, ins = np.unravel_index(first[np.argsort(-flat[first], kind="stable")], energy.shape)
    return [(int(c_out), int(c_in)) for c_out, c_in in zip(outs, ins)]


def grid_of(channels: Pair) -> tuple[Pair, int]:
    """The size of an overview of all pairs of channels, and how many channels each of its blocks has."""
    step = -(-max(channels) // OVERVIEW)
    return (-(-channels[0] // step), -(-channels[1] // step)), step


def energy_blocks(energy: np.ndarray, known: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The largest energy of each block of an overview, and its place in the block counted along the outputs, or -1.

    Args:
        energy: (C_out, C_in).
        known: input channels whose energies are known, (C_in,); by default all.
    """
    (rows, columns), step = grid_of((energy.shape[0], energy.shape[1]))
    largest, best = np.zeros((rows, columns)), np.full((rows, columns), -1)
    padded = np.empty((step, columns * step), energy.dtype)
    for row in range(rows):
        part = energy[row * step : (row + 1) * step]
        padded[:] = -1
        padded[: len(part), : energy.shape[1]] = part if known is None else np.where(known, part, -1)
        blocks = padded.reshape(step, columns, step).transpose(1, 0, 2).reshape(columns, -1)
        at = blocks.argmax(1)
        value = blocks[np.arange(columns), at]
        largest[row] = np.maximum(value, 0)
        best[row] = np.where(value < 0, -1, at)
    return largest, best


def filter_figures(each: Filter) -> dict[str, np.ndarray]:
    """Figures of every filter, each (C_out, C_in).

    Energy in dB of the strongest, centroid and bandwidth as fractions of Nyquist, orientation in degrees, and its
    coherence 0..1.
    """
    energy, width = each.energy(), each.size[1]
    strongest_root = float(np.sqrt(energy.max(initial=0)))
    db = spectra.decibel(np.sqrt(energy), strongest_root, LOWEST_ENERGY)
    if survey := each.survey:
        return {"energy dB": db, **survey.figures()}
    rows = []
    for row in each.response:  # one output channel at a time, since the whole level squared may not fit in memory
        angle, coherence = spectra.orientation(row, width)
        rows.append((spectra.centroid_frequency(row, width), spectra.bandwidth(row, width), angle, coherence))
    columns = [np.stack(column) for column in zip(*rows)]
    return {"energy dB": db, **dict(zip(("centroid", "bandwidth", "angle", "coherence"), columns, strict=True))}


def kept(summary: Summary, pair: Pair) -> np.ndarray | None:
    """A filter after an epoch, half spectrum (H, W // 2 + 1); None if the run did not keep it."""
    at = np.flatnonzero((summary["pairs"] == pair).all(1))
    return summary["strongest"][at[0]] if len(at) else None


def as_it_was(each: Filter, summary: Summary, pair: Pair | None = None) -> Filter:
    """A level after an epoch: with a pair that the run kept that filter alone, all others 0.

    Else one filter without phase, the root mean square over all.
    """
    then = None if pair is None else kept(summary, pair)
    if then is None:
        return replace(each, held=summary["amplitude"][None, None])
    response = np.zeros(each.shape, np.complex64)  # of which only the pages of the pair take memory
    response[pair] = then
    return replace(each, held=response)


def figures_then(each: Filter, summary: Summary) -> dict[str, np.ndarray]:
    """The same as `filter_figures` after an epoch; NaN but for the energy where the run kept no single filter."""
    energy = summary["energy"]
    strongest_root = float(np.sqrt(energy.max(initial=0)))
    found = {"energy dB": spectra.decibel(np.sqrt(energy), strongest_root, LOWEST_ENERGY)}
    outs, ins = summary["pairs"].T
    known = filter_figures(replace(each, held=summary["strongest"][:, None])) if len(outs) else {}
    for name in ("centroid", "bandwidth", "angle", "coherence"):
        found[name] = np.full(energy.shape, np.nan)
        if known:
            found[name][outs, ins] = known[name][:, 0]
    return found


def automatic_floor(planes: Sequence[np.ndarray], reference: float) -> float:
    """dB of a reference below which hardly any amplitude of some planes lies, in steps of 5 dB, -80 to -5.

    Amplitudes that the explorer's bytes cannot tell from nothing do not count.
    """
    values = np.sort(np.concatenate([np.ravel(np.abs(plane)) for plane in planes]))
    values = values[values > reference * 10 ** (DEEPEST / 20)]
    if not len(values):
        return FLOOR
    weak = 20 * np.log10(values[int(len(values) * WEAK)] / reference)
    return float(np.clip(5 * np.floor(weak / 5), DEEPEST, -5))


def energy_db(energy: np.ndarray) -> np.ndarray:
    """Energies in dB of the largest one, at least `ENERGY_FLOOR`."""
    root = np.sqrt(energy)
    return spectra.decibel(root, root.max(), ENERGY_FLOOR)


def difference(
    first: Filter, second: Filter, pair: Pair | None, view: str, reference: float, floor: float
) -> np.ma.MaskedArray:
    """The first filter minus the second, (H, W): dB of amplitudes, or radians of phases if `view` is phase.

    Masked where either amplitude is at or below `floor` dB of `reference`. Values are not clipped before they are
    subtracted.
    """
    of = plane if view == "phase" else amplitude
    one, other = of(first, pair), of(second, pair)
    weak = (spectra.decibel(one, reference, floor) <= floor) | (spectra.decibel(other, reference, floor) <= floor)
    ratio = np.where(weak, 1, one) / np.where(weak, 1, other)
    values = np.angle(ratio) if view == "phase" else 20 * np.log10(np.abs(ratio))
    return np.ma.array(values, mask=weak)


class Profile(NamedTuple):
    """Azimuthal mean of |H| over the rings of equal frequency."""

    radius: np.ndarray  # (R,) as a fraction of Nyquist
    decibels: np.ndarray  # (R,) dB of the reference, NaN at and below the floor, as in rings that the high-pass empties


def profile(each: Filter, pair: Pair | None = None, reference: float | None = None) -> Profile:
    """Radial profile of a filter, or of the root mean square over all filters.

    Args:
        reference: the amplitude of 0 dB; by default that of the largest ring.
    """
    rings, mean = spectra.radial_profile(amplitude(each, pair))
    decibels = spectra.decibel(mean, reference or mean.max(), FLOOR)
    decibels[decibels <= FLOOR] = np.nan
    return Profile(rings / max(1, rings[-1]), decibels)


def life(run: LoadedRun, each: Filter) -> tuple[list[int], np.ma.MaskedArray]:
    """Epochs, and the RMS amplitude of a level per ring and epoch, (R, epochs), in dB of the largest.

    Masked in rings that hold nothing, such as those that the high-pass empties.
    """
    epochs, summaries = run.history(each)
    if not epochs:
        return [], np.ma.array(np.zeros((0, 0)))
    half = np.stack([summary["amplitude"] for summary in summaries])
    _, curves = spectra.radial_profile(spectra.full_plane(half, each.size[1]))
    decibels = spectra.decibel(curves.T, curves.max(), FLOOR)
    return epochs, np.ma.masked_less_equal(decibels, FLOOR)


def highpass_edges(each: Filter) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where the gain of the high-pass crosses one half: line segments ((x, x), (y, y)) between bins, in bins.

    The bin of DC has its upper left corner at (0, 0).
    """
    height, width = each.size
    plane = spectra.full_plane(each.gain, width)
    passing = np.pad(plane, 1, mode="edge") >= 0.5
    rows_differ = passing[1:] != passing[:-1]
    columns_differ = passing[:, 1:] != passing[:, :-1]
    edges = []
    for i, j in np.argwhere(rows_differ[:, 1 : width + 1]):
        x, y = int(j) - width // 2, int(i) - height // 2
        edges.append(((x, x + 1), (y, y)))
    for i, j in np.argwhere(columns_differ[1 : height + 1]):
        x, y = int(j) - width // 2, int(i) - height // 2
        edges.append(((x, x), (y, y + 1)))
    return edges
