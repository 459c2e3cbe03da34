"""What the explorer in the browser holds: filters as bytes, and the few figures and tables that go with them.

An amplitude is one byte: 0 for nothing, 1 .. 255 for -80 .. 0 dB of the level's reference, in steps of 0.31 dB.
A phase is one byte: -pi + code * 2 pi / 256.
"""

import base64

import numpy as np

from famviz import spectra
from famviz.load import Filter, LoadedRun

SPAN = 80.0  # dB between the lowest and the highest code
EPOCHS = 60  # at most, of a filter's life
LIFE_BYTES = 1 << 18  # at most, of a filter's life
TABLE = 200  # strongest filters listed
TABLES = {"amplitude": "cividis", "energy": "viridis", "phase": "twilight", "signed": "RdBu_r"}


def amplitude_codes(amplitude: np.ndarray, reference: float) -> np.ndarray:
    """One byte per amplitude, any shape."""
    level = spectra.decibel(amplitude, reference, -2 * SPAN)
    return np.where(level < -SPAN, 0, 1 + np.rint((level + SPAN) / SPAN * 254)).clip(0, 255).astype(np.uint8)


def phase_codes(values: np.ndarray) -> np.ndarray:
    """One byte per phase, any shape."""
    return (np.rint((np.angle(values) + np.pi) / (2 * np.pi) * 256) % 256).astype(np.uint8)


def weights(each: Filter, reference: float, row: int | None = None, raw: bool = False) -> bytes:
    """Amplitude then phase codes, (2, rows, C_in, H, W // 2 + 1); raw planes are whole, (2, rows, C_in, H, W)."""
    values = each.raw if raw else each.response
    if row is not None:
        values = values[row : row + 1]
    return amplitude_codes(np.abs(values), reference).tobytes() + phase_codes(values).tobytes()


def weight_bytes(each: Filter, raw: bool = False) -> int:
    """Size of `weights` for the whole level."""
    return 2 * (each.raw if raw else each.response).size


def describe(opened: LoadedRun, each: Filter) -> tuple[dict, bytes]:
    """Figures of a level for the page, and its base bytes.

    The bytes are, one after another: energy (O, C), share of the global branch (O, C) if `shares`, high-pass (H, W)
    centred, RMS amplitude, mean amplitude and mean phase (H, W // 2 + 1), then for each epoch RMS amplitude and energy.
    """
    epochs, life = _life(opened, each)
    rms, mean, energy = each.amplitude(), each.response.mean((0, 1)), np.sqrt(each.energy())
    peaks = [np.abs(each.response).max(), *(s["amplitude"].max() for s in life)]
    if each.raw is not None:
        peaks.append(np.abs(each.raw).max())
    reference = float(max(peaks)) or 1.0
    energy_reference = float(max(energy.max(), *(np.sqrt(s["energy"].max()) for s in life), 0)) or 1.0
    share = each.share()
    parts = [amplitude_codes(energy, energy_reference)]
    if share is not None:
        parts.append(np.rint(share * 255).astype(np.uint8))
    parts.append(np.rint(spectra.full_plane(each.gain, each.size[1]) * 255).astype(np.uint8))
    parts += [amplitude_codes(rms, reference), amplitude_codes(np.abs(mean), reference), phase_codes(mean)]
    parts += [amplitude_codes(s["amplitude"], reference) for s in life]
    parts += [amplitude_codes(np.sqrt(s["energy"]), energy_reference) for s in life]
    figures = {
        "title": each.title, "size": list(each.size), "channels": list(each.channels), "reference": reference,
        "energy": energy_reference, "shares": share is not None, "share": each.total_share(), "gamma": list(each.gamma),
        "ineffective": each.ineffective_share, "epochs": epochs, "table": table(each),
    }  # fmt: skip
    return figures, b"".join(part.tobytes() for part in parts)


def table(each: Filter, most: int = TABLE) -> list[list[float]]:
    """The strongest filters, a row each: c_out, c_in, energy in dB of the strongest, centroid and bandwidth as
    fractions of Nyquist, orientation in degrees, its coherence 0..1."""
    energy = each.energy()
    order = np.argsort(energy, axis=None)[::-1][:most]
    outs, ins = np.unravel_index(order, energy.shape)
    picked, width = each.response[outs, ins], each.size[1]
    degrees, coherence = spectra.orientation(picked, width)
    columns = [
        outs, ins, spectra.decibel(np.sqrt(energy[outs, ins]), float(np.sqrt(energy.max())), -2 * SPAN).round(1),
        spectra.centroid_frequency(picked, width).round(3), spectra.bandwidth(picked, width).round(3),
        degrees.round(), coherence.round(2),
    ]  # fmt: skip
    return [[float(value) if column > 1 else int(value) for column, value in enumerate(row)] for row in zip(*columns)]


def pack(runs: list[LoadedRun], budget: int, rows: bool = False) -> tuple[dict, dict[str, bytes], dict[str, bytes]]:
    """Everything the page starts with: figures, whole levels by key, single rows by key.

    A level that no longer fits into `budget` bytes comes a row at a time later; with `rows`, for a page that nobody
    will answer, its strongest rows are packed now, and what room is left goes to raw planes.
    """
    meta = {"runs": unique([run.name for run in runs]), "levels": [], "tables": _tables(), "alone": rows}
    whole, single, left = {}, {}, []
    for r, run in enumerate(runs):
        described = [describe(run, each) for each in run.filters]
        meta["levels"].append([figures for figures, _ in described])
        for at, (each, (figures, base)) in enumerate(zip(run.filters, described)):
            whole[f"{r}.{at}.base"], reference = base, figures["reference"]
            budget -= len(base)
            figures["raw"], figures["whole"] = each.raw is not None, weight_bytes(each) <= budget
            if figures["whole"]:
                whole[f"{r}.{at}"] = weights(each, reference)
                budget -= len(whole[f"{r}.{at}"])
            left += [(f"{r}.{at}", each, reference, False)] * (not figures["whole"])
            left += [(f"{r}.{at}", each, reference, True)] * figures["raw"]
    for key, each, reference, raw in sorted(left, key=lambda item: item[3]) if rows else ():
        for row in np.argsort(each.energy().sum(1))[::-1]:
            if (budget := budget - weight_bytes(each, raw) // each.channels[0]) < 0:
                break
            single[row_key(key, int(row), raw)] = weights(each, reference, int(row), raw)
    return meta, whole, single


def unique(names: list[str]) -> list[str]:
    """Names told apart: a second of the same is followed by (2)."""
    return [name if (n := names[:at].count(name)) == 0 else f"{name} ({n + 1})" for at, name in enumerate(names)]


def row_key(level: str, row: int, raw: bool) -> str:
    """Name of one output channel's bytes."""
    return f"{level}.{row}" + (".raw" if raw else "")


def _life(opened: LoadedRun, each: Filter) -> tuple[list[int], list[dict[str, np.ndarray]]]:
    """A filter's epochs and summaries, thinned to what a page should carry."""
    one = each.response[0, 0].size + each.channels[0] * each.channels[1]
    return opened.history(each, max(2, min(EPOCHS, LIFE_BYTES // one)))


def _tables() -> dict[str, str]:
    """Colour tables as base64 of (256, 3) bytes."""
    tables = {name: spectra.colour_table(colours) for name, colours in TABLES.items()} | {"complex": spectra.hues()}
    return {name: base64.b64encode(np.rint(t * 255).astype(np.uint8).tobytes()).decode() for name, t in tables.items()}
