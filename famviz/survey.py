"""Figures of every filter of a level that is too large for memory: they are computed block by block."""

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from famviz import spectra
from famviz.stored import StoredResponse

BLOCK = 4 << 20  # bytes of responses that are computed at once
FIRST = 4  # blocks that are read when a level is opened
NAMES = ("energy", "centroid", "bandwidth", "angle", "coherence")


class Survey:
    """Energies, shapes and means of all filters of a level, as far as they are read.

    Blocks of input channels are read in an order that spreads evenly over the level from the beginning. After the last
    one the file's checksum is compared.

    Args:
        estimate: returns energies (C_out, C_in) of the same weights that the training has written, or None. They are
            used until all are computed.
    """

    def __init__(
        self, stored: StoredResponse, width: int, estimate: Callable[[], np.ndarray | None] = lambda: None
    ):  # fmt: skip
        self.stored, self.width, self.estimate = stored, width, estimate
        c_out, c_in, *half = stored.shape
        self.columns = np.zeros((len(NAMES), c_in, c_out), np.float32)  # as blocks come; pages are taken when written
        self.estimated = False  # whether all energies are there, some of them from `estimate`
        self.read = np.zeros(c_in, bool)  # input channels
        self.peak = 0.0  # largest |H| so far
        self._power = np.zeros(half)
        self._sum = np.zeros(half, complex)
        self._moments = _moments(half[0], width)
        self._steps = self._work()
        self.complete = False

    @property
    def known(self) -> np.ndarray:
        """Input channels whose energies are known, (C_in,)."""
        return np.ones_like(self.read) if self.estimated else self.read

    @property
    def share(self) -> float:
        """Share 0..1 of the level that is read."""
        return float(self.read.mean())

    @property
    def energy(self) -> np.ndarray:
        """Energies (C_out, C_in), 0 where they are not known."""
        return self.columns[0].T

    @property
    def amplitude(self) -> np.ndarray:
        """Root mean square of |H| over all filters that are read, (H, W // 2 + 1)."""
        return np.sqrt(self._power / self._count)

    @property
    def mean(self) -> np.ndarray:
        """Complex mean of all filters that are read, (H, W // 2 + 1)."""
        return self._sum / self._count

    @property
    def _count(self) -> int:
        return max(1, int(self.read.sum()) * self.stored.shape[0])

    def figures(self) -> dict[str, np.ndarray]:
        """What `analysis.filters.filter_figures` has besides the energy, each (C_out, C_in)."""
        self.finish()
        return {name: self.columns[at].T for at, name in enumerate(NAMES) if at}

    def finish(self) -> "Survey":
        """Read all that is left."""
        while not self.complete:
            self._step()
        return self

    def advance(self, seconds: float) -> None:
        """Read on for about so many seconds, at least one step."""
        until = time.monotonic() + seconds
        while not self.complete:
            self._step()
            if time.monotonic() >= until:
                break

    def begin(self) -> "Survey":
        """Read the first blocks, unless that is done."""
        if not self.read.any():
            energy = self.estimate()
            if energy is not None and energy.shape == self.stored.shape[:2]:
                self.columns[0], self.estimated = energy.T, True
        while self.read.sum() < min(len(self.read), FIRST * self._inputs_at_once()):
            self._step()
        return self

    def of_pairs(self, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        """Single filters (N, H, W // 2 + 1), whose largest |H| counts for the peak."""
        return self._seen(self.stored.pairs(pairs))

    def of_input(self, c_in: int) -> np.ndarray:
        """The filters of an input channel (C_out, H, W // 2 + 1), whose largest |H| counts for the peak."""
        return self._seen(self.stored.inputs(c_in, c_in + 1)[:, 0])

    def columns_of(self, filters: np.ndarray) -> np.ndarray:
        """The figures of single filters (N, H, W // 2 + 1): (5, N)."""
        return self._columns(filters.transpose(1, 2, 0))

    def _seen(self, filters: np.ndarray) -> np.ndarray:
        self.peak = max(self.peak, float(np.abs(filters).max(initial=0)))
        return filters

    def _step(self) -> None:
        """Read a block. What was interrupted or failed is begun anew by the next step."""
        if next(self._steps, self) is self and not self.complete:
            self._steps = self._work()

    def _work(self) -> Iterator[None]:
        at_once = self._inputs_at_once()
        for start in spread(len(self.read), at_once):
            if not self.read[start]:
                self._read(start, min(start + at_once, len(self.read)))
                yield
        self.estimated = False
        yield from self.stored.file.check()
        self.complete = True

    def _inputs_at_once(self) -> int:
        c_out, _, height, columns = self.stored.shape
        return max(1, BLOCK // (8 * c_out * height * columns))

    def _read(self, start: int, stop: int) -> None:
        by_frequency = self.stored.inputs(start, stop).transpose(2, 3, 1, 0)
        power = np.square(np.abs(by_frequency))
        total, mean = power.sum((2, 3), dtype=float), by_frequency.sum((2, 3), dtype=complex)
        self.columns[:, start:stop] = self._columns(by_frequency).reshape(len(NAMES), stop - start, -1)
        self.peak = max(self.peak, float(np.sqrt(power.max(initial=0))))
        self._power, self._sum = self._power + total, self._sum + mean
        self.read[start:stop] = True

    def _columns(self, by_frequency: np.ndarray) -> np.ndarray:
        """The figures of filters (H, W // 2 + 1, ...), (5, ...), all of them from sums over their power."""
        flat = by_frequency.reshape(self._moments.shape[1], -1)
        power = np.square(np.real(flat)) + np.square(np.imag(flat))
        total, radius, square, cos, sin, dc = self._moments @ power.astype(float)
        weight = np.maximum(total, spectra.LOWEST)
        centroid = radius / weight
        bandwidth = np.sqrt(np.maximum(square / weight - np.square(centroid), 0))
        angle = np.degrees(np.arctan2(sin, cos)) / 2 % 180
        angle[angle >= 180] = 0
        coherence = np.hypot(cos, sin) / np.maximum(total - dc, spectra.LOWEST)
        height = by_frequency.shape[0]
        return np.stack((total / (height * self.width), centroid, bandwidth, angle, coherence))


def _moments(height: int, width: int) -> np.ndarray:
    """By what the powers of a half spectrum are weighted in sums over all frequencies, (6, F).

    All, radius, its square, cosine and sine of the doubled direction, and DC alone.
    """
    weight = np.broadcast_to(spectra.column_weights(width), (height, width // 2 + 1))
    radius, doubled = spectra.half_radii(height, width), spectra.half_directions(height, width)
    dc = np.zeros_like(radius)
    dc[0, 0] = 1
    factors = (np.ones_like(radius), radius, np.square(radius), np.real(doubled), np.imag(doubled), dc)
    return np.stack([(weight * factor).ravel() for factor in factors])


def spread(count: int, at_once: int) -> list[int]:
    """Starts of the blocks of a range, each one far from those before it: the bits of their numbers are reversed."""
    blocks = -(-count // at_once)
    digits = max(1, (blocks - 1).bit_length())
    order = sorted(range(blocks), key=lambda block: f"{block:0{digits}b}"[::-1])
    return [block * at_once for block in order]
