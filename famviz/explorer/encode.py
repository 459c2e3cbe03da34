"""Filters as bytes for the explorer in the browser, with their figures and tables.

An amplitude is one byte: 0 for nothing, 1 .. 255 for -80 .. 0 dB of the level's reference, in steps of 0.31 dB.
A phase is one byte: -pi + code * 2 pi / 256.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from famviz import spectra
from famviz.analysis.filters import Pair, filter_figures
from famviz.filter import Filter
from famviz.load import LoadedRun, Summary

SPAN = 80.0  # dB between the lowest and the highest code
EPOCHS = 60  # at most, of the history of a level
HISTORY_BYTES = 1 << 18  # at most, of the history of a level
WALL = 48  # strongest filters of a level that a page holds in any case
TABLE = {"energy dB": -400, "centroid": 40000, "bandwidth": 40000, "angle": 100, "coherence": 60000}
COLORMAPS = ("cividis", "viridis", "magma", "inferno", "gray")  # to choose from, for amplitudes
TABLES = {"energy": "viridis", "phase": "twilight", "signed": "RdBu_r", **{name: name for name in COLORMAPS}}


def amplitude_codes(amplitude: np.ndarray, reference: float) -> np.ndarray:
    """One byte for each amplitude, any shape."""
    decibels = spectra.decibel(amplitude, reference, -2 * SPAN)
    codes = 1 + np.rint((decibels + SPAN) / SPAN * 254)
    return np.where(decibels < -SPAN, 0, codes).clip(0, 255).astype(np.uint8)


def phase_codes(values: np.ndarray) -> np.ndarray:
    """One byte for each phase, any shape."""
    turn = (np.angle(values) + np.pi) / (2 * np.pi)
    return (np.rint(256 * turn) % 256).astype(np.uint8)


def weights(each: Filter, reference: float, row: int | None = None, raw: bool = False) -> bytes:
    """Amplitude codes, then phase codes, (2, rows, C_in, H, W // 2 + 1); of raw planes (2, rows, C_in, H, W)."""
    values = _values(each, raw)
    if row is not None:
        values = values[row : row + 1]
    return amplitude_codes(np.abs(values), reference).tobytes() + phase_codes(values).tobytes()


def strongest_weights(each: Filter, reference: float, table: bytes) -> bytes:
    """The same of the strongest filters, the strongest first, (2, N, H, W // 2 + 1)."""
    values = np.stack([each.response[pair] for pair in wall_pairs(each, table)])
    return amplitude_codes(np.abs(values), reference).tobytes() + phase_codes(values).tobytes()


def wall_pairs(each: Filter, table: bytes) -> list[Pair]:
    """Channels of the strongest filters in the order of the page, which knows energies by the codes of the table."""
    codes = np.frombuffer(table, "<u2").reshape(5, *each.channels)[0]
    order = np.argsort(codes, axis=None, kind="stable")[:WALL]
    outs, ins = np.unravel_index(order, codes.shape)
    return [(int(c_out), int(c_in)) for c_out, c_in in zip(outs, ins)]


def weight_bytes(each: Filter, raw: bool = False) -> int:
    """Size of `weights` for the whole level."""
    return 2 * _values(each, raw).size


def _values(each: Filter, raw: bool) -> np.ndarray:
    if not raw:
        return each.response
    assert each.raw is not None
    return each.raw


def level_data(each: Filter, epochs: list[int], history: list[Summary]) -> tuple[dict[str, Any], bytes]:
    """Figures of a level for the page, and its base bytes.

    The bytes are, in this order: energy (O, C), share of the global branch (O, C) if `shares`, high-pass (H, W)
    centred, RMS amplitude, mean amplitude and mean phase (H, W // 2 + 1), then RMS amplitudes of all epochs, then
    their energies.
    """
    reference = _peak(each, history)
    energy_reference = _energy_peak(each, history)
    mean = each.response.mean((0, 1))
    share = each.share()
    parts = [amplitude_codes(np.sqrt(each.energy()), energy_reference)]
    if share is not None:
        parts.append(byte(share))
    parts.append(byte(spectra.full_plane(each.gain, each.size[1])))
    parts.append(amplitude_codes(each.amplitude(), reference))
    parts.append(amplitude_codes(np.abs(mean), reference))
    parts.append(phase_codes(mean))
    parts += [amplitude_codes(summary["amplitude"], reference) for summary in history]
    parts += [amplitude_codes(np.sqrt(summary["energy"]), energy_reference) for summary in history]
    figures = {
        **level_facts(each),
        "reference": reference,
        "energy": energy_reference,
        "shares": share is not None,
        "share": each.total_share(),
        "ineffective": each.ineffective_share,
        "epochs": epochs,
        "raw": each.raw is not None,
    }
    return figures, b"".join(part.tobytes() for part in parts)


def level_facts(each: Filter) -> dict[str, Any]:
    """What a page is told of every level, also of one that stays in its file."""
    return {
        "index": each.index,
        "path": each.path,
        "title": each.title,
        "caption": each.caption,
        "size": list(each.size),
        "channels": list(each.channels),
        "gamma": list(each.gamma),
    }


def byte(share: np.ndarray) -> np.ndarray:
    """Shares 0..1 as bytes."""
    return np.rint(share * 255).astype(np.uint8)


def _peak(each: Filter, history: list[Summary]) -> float:
    """The largest amplitude of a level, now and in its history, which is 0 dB."""
    peaks = [np.abs(each.response).max()]
    peaks += [summary["amplitude"].max() for summary in history]
    peaks += [np.abs(summary["strongest"]).max(initial=0) for summary in history]
    if each.raw is not None:
        peaks.append(np.abs(each.raw).max())
    return float(max(peaks)) or 1.0


def _energy_peak(each: Filter, history: list[Summary]) -> float:
    """Square root of the largest energy of a level, now and in its history."""
    energies = [each.energy().max(initial=0)]
    energies += [summary["energy"].max(initial=0) for summary in history]
    return float(np.sqrt(max(energies))) or 1.0


def table_bytes(each: Filter) -> bytes:
    """The figures of every filter, uint16 (5, C_out, C_in): energy, centroid, bandwidth, orientation, coherence.

    `TABLE` says by how much each is multiplied. The energy is in dB below the strongest.
    """
    columns = filter_figures(each)
    return np.stack([table_codes(columns, name) for name in TABLE]).tobytes()


def table_codes(columns: dict[str, np.ndarray], name: str) -> np.ndarray:
    return np.rint(np.clip(columns[name] * TABLE[name], 0, 65535)).astype("<u2")


def kept_filters(each: Filter, history: list[Summary], reference: float, room: int) -> tuple[list[int], bytes]:
    """How many single filters each epoch of the history kept, and these filters.

    The bytes are, of all epochs after one another: pairs uint32 (N,), counted along the outputs, then amplitude codes
    and phase codes (N, H, W // 2 + 1), then uint16 (4, N) of the table without its energy.

    Args:
        room: bytes; of each epoch the pairs that are the strongest now are taken.
    """
    size = 2 * each.response[0, 0].size + 4 + 2 * (len(TABLE) - 1)
    most, energy = room // (size * max(1, len(history))), each.energy()
    chosen = [strongest_now(energy, summary, most) for summary in history]
    pairs = np.concatenate([pairs for pairs, _ in chosen]) if chosen else np.zeros((0, 2), int)
    if not len(pairs):
        return [0 for _ in chosen], b""
    filters = np.concatenate([filters for _, filters in chosen])
    columns = filter_figures(replace(each, held=filters[:, None]))
    parts = (
        (pairs[:, 0] * each.channels[1] + pairs[:, 1]).astype("<u4"),
        amplitude_codes(np.abs(filters), reference),
        phase_codes(filters),
        *(table_codes(columns, name) for name in list(TABLE)[1:]),
    )
    return [len(pairs) for pairs, _ in chosen], b"".join(part.tobytes() for part in parts)


def strongest_now(energy: np.ndarray, summary: Summary, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (N, 2) and filters (N, H, W // 2 + 1) that an epoch kept, at most so many."""
    pairs = summary["pairs"]
    order = np.sort(np.argsort(-energy[pairs[:, 0], pairs[:, 1]], kind="stable")[:most])
    return pairs[order], summary["strongest"][order]


def row_key(level: str, row: int, raw: bool) -> str:
    """Key of the bytes of one output channel."""
    return f"{level}.{row}.raw" if raw else f"{level}.{row}"


def history_of(opened: LoadedRun, each: Filter) -> tuple[list[int], list[Summary]]:
    """Epochs and summaries of a level, as many as a page should hold."""
    c_out, c_in, height, columns = each.shape
    bytes_of_one = height * columns + c_out * c_in
    most = min(EPOCHS, HISTORY_BYTES // bytes_of_one)
    return opened.history(each, max(2, most))
