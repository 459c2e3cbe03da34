"""What the filter explorer hands out: planes, arrays and tables."""

from typing import Any

import numpy as np

from famviz import spectra
from famviz.analysis import filters as values
from famviz.analysis.filters import Pair
from famviz.filter import Filter
from famviz.load import Summary
from famviz.tables import Table

ROWS = 20_000  # of a table of a large level


def plane_of(each: Filter, pair: Pair | None, then: Summary | None, raw: bool) -> np.ndarray:
    """A filter, or the mean of a level, as a complex centred plane (H, W).

    Args:
        then: what the run kept of an epoch, to take the filter from there.
        raw: take the stored plane where there is one.
    """
    if then:
        was = values.as_it_was(each, then, pair)
        return values.plane(was, pair if was.channels == each.channels else None)
    if pair is not None and raw and each.raw is not None:
        return each.raw[pair]
    return values.plane(each, pair)


def arrays_of(each: Filter, plane: np.ndarray, pair: Pair | None) -> dict[str, Any]:
    """A centred plane (H, W) of a level, and what follows from it, by name."""
    ky, kx = spectra.wave_numbers((plane.shape[0], plane.shape[1]))
    acting = spectra.effective(plane)
    kernel = np.fft.fftshift(np.real(np.fft.ifft2(np.fft.ifftshift(acting))))
    return {
        "plane": plane,
        "amplitude": np.abs(plane),
        "phase": np.angle(plane),
        "kernel": kernel,
        "ky": ky[:, 0],
        "kx": kx[0],
        "highpass": spectra.full_plane(each.gain, each.size[1]),
        "channels": np.array([-1, -1] if pair is None else pair),
    }


def table_of(each: Filter, then: Summary | None, most: int | None) -> Table:
    """A row for each filter, the strongest first, at most so many."""
    columns = values.figures_then(each, then) if then else values.filter_figures(each)
    energy = columns["energy dB"]
    most = ROWS if most is None and each.survey else most
    order = np.argsort(energy, axis=None, kind="stable")[::-1][:most]
    pairs = np.stack(np.unravel_index(order, energy.shape), 1).tolist()
    return Table(
        {"out": out, "in": inn, **{name: float(columns[name][out, inn]) for name in columns}} for out, inn in pairs
    )
