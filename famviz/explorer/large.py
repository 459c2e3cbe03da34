"""A level that stays in its file, as bytes for the explorer in the browser: an overview, and single filters on demand.

A set of filters is, in this order: pairs uint32 (N,), counted along the outputs, amplitude codes and phase codes
(N, H, W // 2 + 1), then uint16 (6, N) of the table and of the share of the global branch.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from famviz import spectra
from famviz.analysis.filters import LOWEST_ENERGY, Pair, energy_blocks, grid_of, strongest_of
from famviz.explorer import encode
from famviz.filter import Filter
from famviz.load import Summary

OF_CHANNEL = 128  # strongest filters of one output channel, as the wall shows them
SHARE = 60000  # code of a share of 1
NOT_KNOWN = 65535  # in place of the strongest filter of a block
KEPT_BYTES = 1 << 17  # of single filters in the history of a level


class Then(NamedTuple):
    """A level after one epoch."""

    amplitude: np.ndarray  # root mean square (H, W // 2 + 1)
    blocks: np.ndarray  # energies of the overview
    strongest: float  # the largest energy
    pairs: np.ndarray  # (N, 2) of the filters that were kept, and these
    filters: np.ndarray


class LargeLevel:
    """What a page holds of a large level. All codes are of one reference, the largest amplitude that is known."""

    def __init__(self, each: Filter, epochs: list[int], history: list[Summary]):
        survey = each.survey
        assert survey
        self.filter, self.survey, self.epochs = each, survey.begin(), epochs
        self._wall: tuple[int, tuple[list[Pair], np.ndarray]] | None = None  # as many input channels were read, and it
        size = 2 * each.shape[2] * each.shape[3] + 16  # bytes of a filter in a set
        most = KEPT_BYTES // (size * max(1, len(history)))
        self.history = [self._then(summary, most) for summary in history]

    def _then(self, summary: Summary, most: int) -> Then:
        """An epoch without the energies of all filters, which are as large as the level has pairs of channels."""
        energy = summary["energy"]
        pairs, filters = encode.strongest_now(self.survey.energy, summary, most)
        return Then(summary["amplitude"], energy_blocks(energy)[0], float(energy.max(initial=0)), pairs, filters)

    @property
    def reference(self) -> float:
        """The amplitude of 0 dB."""
        self.wall()
        peaks = [np.abs(part).max(initial=0) for then in self.history for part in (then.amplitude, then.filters)]
        return float(max(self.survey.peak, *peaks, 0)) or 1.0

    @property
    def energy_reference(self) -> float:
        """Square root of the largest energy that is known, now and in the history."""
        return max(self._strongest, *(then.strongest for then in self.history), 0) ** 0.5 or 1.0

    @property
    def _strongest(self) -> float:
        return float(self.survey.energy.max(initial=0))

    def wall(self) -> tuple[list[Pair], np.ndarray]:
        """Channels of the strongest filters that are known, the strongest first, and their values."""
        read = int(self.survey.read.sum())
        if self._wall is None or self._wall[0] != read:
            pairs = strongest_of(self.survey.energy, encode.WALL)
            self._wall = read, (pairs, self.survey.of_pairs(pairs))
        return self._wall[1]

    def strongest_of_output(self, c_out: int) -> list[Pair]:
        """Channels of the strongest filters of an output channel that are known, the strongest first."""
        order = np.argsort(-self.survey.energy[c_out], kind="stable")[:OF_CHANNEL]
        return [(c_out, int(c_in)) for c_in in order]

    def of_input(self, c_in: int) -> tuple[list[Pair], np.ndarray]:
        """All filters of an input channel: their channels and values."""
        return [(c_out, c_in) for c_out in range(self.filter.channels[0])], self.survey.of_input(c_in)

    def of_pairs(self, pairs: list[Pair]) -> tuple[list[Pair], np.ndarray]:
        """Some filters: their channels and values."""
        return pairs, self.survey.of_pairs(pairs)

    def set_bytes(self, pairs: Sequence[Pair] | np.ndarray, filters: np.ndarray, strongest: float = 0) -> bytes:
        """Single filters (N, H, W // 2 + 1) with their figures.

        Args:
            strongest: the energy of 0 dB; by default the largest that is known.
        """
        outs, ins = np.asarray(pairs, int).reshape(-1, 2).T
        parts = (
            (outs * self.filter.channels[1] + ins).astype("<u4"),
            encode.amplitude_codes(np.abs(filters), self.reference),
            encode.phase_codes(filters),
            self._table(self.survey.columns_of(filters), outs, ins, strongest),
        )
        return b"".join(part.tobytes() for part in parts)

    def rows_bytes(self, pairs: np.ndarray) -> bytes:
        """Rows of the table that are read already, pairs (N, 2): pairs uint32 (N,), then uint16 (6, N)."""
        outs, ins = pairs.T
        number = (outs * self.filter.channels[1] + ins).astype("<u4")
        return number.tobytes() + self._table(self.survey.columns[:, ins, outs], outs, ins).tobytes()

    def _table(self, columns: np.ndarray, outs: np.ndarray, ins: np.ndarray, strongest: float = 0) -> np.ndarray:
        """uint16 (6, N) of the figures (5, N) of single filters."""
        energy, root = columns[0], (strongest or self._strongest) ** 0.5
        values = (spectra.decibel(np.sqrt(energy), root, LOWEST_ENERGY), *columns[1:])
        named = dict(zip(encode.TABLE, values, strict=True))
        each, share = self.filter, np.zeros(len(outs))
        if each.local is not None and len(each.gamma) > 1:
            share = spectra.share_of_energy(energy, each.local[outs, ins], (each.gamma[0], each.gamma[1]))
        return np.stack([*(encode.table_codes(named, name) for name in named), np.rint(share * SHARE).astype("<u2")])

    def figures(self) -> dict[str, Any]:
        """Figures of the level, as `encode.level_data` has them, and how much of it is read."""
        each, survey = self.filter, self.survey
        grid, step = grid_of(each.channels)
        return {
            **encode.level_facts(each),
            "reference": self.reference,
            "energy": self.energy_reference,
            "shares": each.local is not None and len(each.gamma) > 1,
            "share": each.total_share() if survey.complete else None,
            "ineffective": None,
            "epochs": self.epochs,
            "kept": [len(then.pairs) for then in self.history],
            "raw": False,
            "whole": False,
            "large": {
                "step": step,
                "grid": grid,
                "read": survey.share,
                "complete": survey.complete,
                "estimated": survey.estimated,
            },
        }

    def base_bytes(self) -> bytes:
        """The overview of energies, now and after each epoch, and what `encode.level_data` has of all filters together.

        In this order: which filter of a block is the strongest uint16, and its energy; high-pass (H, W) centred; RMS
        amplitude, mean amplitude and mean phase; RMS amplitudes of all epochs; the energies of their blocks.
        """
        survey, reference, energy_reference = self.survey, self.reference, self.energy_reference
        now, best = energy_blocks(survey.energy, survey.known)
        parts = [
            np.where(best < 0, NOT_KNOWN, best).astype("<u2"),
            encode.amplitude_codes(np.sqrt(now), energy_reference),
            encode.byte(spectra.full_plane(self.filter.gain, self.filter.size[1])),
            encode.amplitude_codes(survey.amplitude, reference),
            encode.amplitude_codes(np.abs(survey.mean), reference),
            encode.phase_codes(survey.mean),
            *(encode.amplitude_codes(then.amplitude, reference) for then in self.history),
            *(encode.amplitude_codes(np.sqrt(then.blocks), energy_reference) for then in self.history),
        ]
        return b"".join(part.tobytes() for part in parts)

    def kept_bytes(self) -> bytes:
        """Single filters as epochs kept them, a set of all epochs, each with energies in dB of its strongest."""
        sets = [self.set_bytes(then.pairs, then.filters, then.strongest) for then in self.history]
        return b"".join(sets)
