"""Amplitude spectra of every stage, network and image of a comparison: computed when they are asked for, and kept."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from famkd.errors import UserError
from famviz.analysis.amplitude import Relative, Stage, bootstrap_band, compare_stage, image_spectra, lowest
from famviz.analysis.amplitude_sources import Compared, Inputs, Maps
from famviz.analysis.bands import angular_profile

BATCH = 16  # images that are read and shown to the networks at a time


class Look(NamedTuple):
    """What spectra are about, beside the images."""

    window: bool = False  # whether maps are faded towards their edges
    epoch: int = 0  # weights of a checkpoint; 0 for those at the end


class Directions(NamedTuple):
    """Angular profiles of one stage, (12,) dB above the mean of the rings, with 95 % bootstrap intervals (2, 12)."""

    curves: dict[str, np.ndarray]
    bands: dict[str, np.ndarray]
    difference_bands: dict[str, np.ndarray]  # of a network minus the reference


class _Kept(NamedTuple):
    """Spectra in dB, nothing taken out, of the images that are known."""

    known: np.ndarray  # (N,) bool
    stages: list[dict[str, np.ndarray]]  # by network (N, H, W) float32, DC in the middle


class AmplitudeStore:
    """Spectra of the stages of a comparison. Stages are those of its reference, shallow to deep.

    Unequal numbers of stages pair from the deepest, unequal sizes at the lowest frequencies that all have.
    """

    def __init__(self, source: Compared):
        self.comparison, self.makers, self.checkpoints = source
        self.names = list(self.makers)
        self.stage_names: list[str] = []
        self.sizes: list[tuple[int, int]] = []  # of the spectra of each stage
        self._kept: dict[Look, _Kept] = {}
        self._at_epoch: dict[int, dict[str, Callable[[Inputs], Maps]]] = {0: self.makers}
        self._lay_out(self.maps([0]))

    def check(self, look: Look) -> None:
        """UserError for an epoch without a checkpoint."""
        if look.epoch and look.epoch not in self.checkpoints:
            listed = ", ".join(map(str, self.checkpoints)) or "none"
            raise UserError(f"No network has a checkpoint of epoch {look.epoch}. Epochs: {listed}.")

    def maps(self, positions: Sequence[int], epoch: int = 0) -> dict[str, Maps]:
        """Maps of every stage on some images, by network."""
        inputs = self.comparison.inputs(positions)
        return {name: make(inputs) for name, make in self._makers(epoch).items()}

    def maps_of_stage(self, position: int, stage: int, epoch: int = 0) -> dict[str, np.ndarray]:
        """Maps (C, H, W) of one stage on one image, by network that has the stage."""
        return {
            name: maps[stage - len(self.sizes)][1][0].cpu().numpy()
            for name, maps in self.maps([position], epoch).items()
            if len(self.sizes) - stage <= len(maps)
        }

    def learn(self, look: Look, positions: Sequence[int]) -> None:
        """Compute the spectra of images, unless they are known."""
        self.check(look)
        kept = self._of(look)
        new = [at for at in dict.fromkeys(positions) if not kept.known[at]]
        for start in range(0, len(new), BATCH):
            some = new[start : start + BATCH]
            for name, maps in self.maps(some, look.epoch).items():
                for stage, size in enumerate(self.sizes):
                    back = len(self.sizes) - stage
                    if back <= len(maps):
                        spectra = image_spectra(maps[-back][1], look.window)
                        kept.stages[stage][name][some] = lowest(spectra, size)
            kept.known[some] = True

    def advance(self, look: Look, seconds: float) -> int:
        """Go through the images for about some seconds; returns how many are known."""
        end = time.monotonic() + seconds
        kept = self._of(look)
        while not kept.known.all() and time.monotonic() < end:
            self.learn(look, np.flatnonzero(~kept.known)[:BATCH].tolist())
        return int(kept.known.sum())

    def known(self, look: Look) -> list[int]:
        """Positions of the images whose spectra are known."""
        return np.flatnonzero(self._of(look).known).tolist()

    def spectra(self, look: Look, stage: int, positions: Sequence[int] | None = None) -> dict[str, np.ndarray]:
        """Spectra (B, H, W) in dB, nothing taken out, by network that has the stage; by default of all known images."""
        if positions is not None:
            self.learn(look, positions)
        chosen = self.known(look) if positions is None else list(positions)
        return {name: planes[chosen].astype(float) for name, planes in self._of(look).stages[stage].items()}

    def stage(
        self, look: Look, stage: int, reference: str, relative: Relative = "mean",
        positions: Sequence[int] | None = None,
    ) -> Stage:  # fmt: skip
        """One stage with its bootstrap bands, as `amplitude_difference` returns it; by default of all known images."""
        spectra = self.spectra(look, stage, positions)
        if reference not in spectra:
            raise UserError(f"{reference} has no stage beside {self.stage_names[stage]}: choose a deeper one.")
        return compare_stage(self.stage_names[stage], reference, spectra, relative=relative)

    def directions(
        self, look: Look, stage: int, reference: str, positions: Sequence[int] | None = None
    ) -> Directions:  # fmt: skip
        """Angular profiles of one stage; by default of all known images."""
        profiles = {name: angular_profile(each)[1] for name, each in self.spectra(look, stage, positions).items()}
        first = profiles.get(reference)
        gaps = {} if first is None else {name: own - first for name, own in profiles.items() if name != reference}
        return Directions(
            {name: own.mean(0) for name, own in profiles.items()},
            {name: bootstrap_band(own) for name, own in profiles.items()},
            {name: bootstrap_band(gap) for name, gap in gaps.items()},
        )

    def _makers(self, epoch: int) -> dict[str, Callable[[Inputs], Maps]]:
        """What makes maps after an epoch: networks without that checkpoint keep their weights."""
        if epoch not in self._at_epoch:
            loaded = {name: load() for name, load in self.checkpoints[epoch].items()}
            self._at_epoch[epoch] = {**self.makers, **loaded}
        return self._at_epoch[epoch]

    def _lay_out(self, maps: dict[str, Maps]) -> None:
        """Find the stages and the size of their spectra."""
        first = maps[self.comparison.reference]
        if not first:
            raise UserError(f"No stage of {self.comparison.reference} has maps of more than one pixel.")
        for stage, (name, _) in enumerate(first):
            back = len(first) - stage
            shapes = [each[-back][1].shape[-2:] for each in maps.values() if back <= len(each)]
            self.stage_names.append(name)
            self.sizes.append((min(shape[0] for shape in shapes), min(shape[1] for shape in shapes)))
        self._depths = {name: len(each) for name, each in maps.items()}

    def _of(self, look: Look) -> _Kept:
        if look not in self._kept:
            count = len(self.comparison)
            stages = [
                {
                    name: np.zeros((count, *size), np.float32)
                    for name, depth in self._depths.items()
                    if len(self.sizes) - stage <= depth
                }
                for stage, size in enumerate(self.sizes)
            ]
            self._kept[look] = _Kept(np.zeros(count, bool), stages)
        return self._kept[look]
