"""Amplitude spectra of every stage, network and image of a comparison: computed when they are asked for, and kept."""

import time
from collections.abc import Callable, Collection, Sequence
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
        self._directions: dict[tuple[Look, int, str, int], Directions] = {}
        self._at_epoch: dict[int, dict[str, Callable[[Inputs], Maps]]] = {0: self.makers}
        self._lay_out(self.maps([0]))

    def check(self, look: Look) -> None:
        """UserError for an epoch without a checkpoint."""
        if look.epoch and look.epoch not in self.checkpoints:
            listed = ", ".join(map(str, self.checkpoints)) or "none"
            raise UserError(f"No network has a checkpoint of epoch {look.epoch}. Epochs: {listed}.")

    def maps(self, positions: Sequence[int], epoch: int = 0, names: Collection[str] | None = None) -> dict[str, Maps]:
        """Maps of every stage on some images, by network; by default of all networks."""
        inputs = self.comparison.inputs(positions)
        makers = {**self.makers, **self._changed(epoch)}
        return {name: make(inputs) for name, make in makers.items() if names is None or name in names}

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
        if new and look.epoch:
            self.learn(look._replace(epoch=0), new)
        for start in range(0, len(new), BATCH):
            some = new[start : start + BATCH]
            inputs = self.comparison.inputs(some)
            for name, make in self._changed(look.epoch).items():
                self._keep(kept, look.window, name, some, make(inputs))
            kept.known[some] = True

    def _keep(self, kept: _Kept, window: bool, name: str, positions: list[int], maps: Maps) -> None:
        for stage, size in enumerate(self.sizes):
            back = len(self.sizes) - stage
            if back <= len(maps):
                kept.stages[stage][name][positions] = lowest(image_spectra(maps[-back][1], window), size)

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
        at_end = self._of(look._replace(epoch=0)).stages[stage]
        found = {**at_end, **self._of(look).stages[stage]}
        return {name: planes[chosen].astype(float) for name, planes in found.items()}

    def stage(
        self, look: Look, stage: int, reference: str, relative: Relative = "mean",
        positions: Sequence[int] | None = None,
    ) -> Stage:  # fmt: skip
        """One stage with its bootstrap bands, as `amplitude_difference` returns it; by default of all known images."""
        spectra = self.spectra(look, stage, positions)
        if reference not in spectra:
            raise UserError(f"{reference} has no stage beside {self.stage_names[stage]}: choose a deeper one.")
        return compare_stage(self.stage_names[stage], reference, spectra, relative=relative)

    def directions(self, look: Look, stage: int, reference: str) -> Directions:
        """Angular profiles of one stage over all known images."""
        key = (look, stage, reference, len(self.known(look)))
        if key not in self._directions:
            self._directions[key] = self._measured_directions(look, stage, reference)
        return self._directions[key]

    def _measured_directions(self, look: Look, stage: int, reference: str) -> Directions:
        profiles = {name: angular_profile(each)[1] for name, each in self.spectra(look, stage).items()}
        first = profiles.get(reference)
        gaps = {} if first is None else {name: own - first for name, own in profiles.items() if name != reference}
        return Directions(
            {name: own.mean(0) for name, own in profiles.items()},
            {name: bootstrap_band(own) for name, own in profiles.items()},
            {name: bootstrap_band(gap) for name, gap in gaps.items()},
        )

    def _changed(self, epoch: int) -> dict[str, Callable[[Inputs], Maps]]:
        """What makes maps after an epoch, of the networks that have its checkpoint; the others are as at the end."""
        if epoch not in self._at_epoch:
            self._at_epoch[epoch] = {name: load() for name, load in self.checkpoints[epoch].items()}
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
                    for name in self._changed(look.epoch)
                    if len(self.sizes) - stage <= self._depths[name]
                }
                for stage, size in enumerate(self.sizes)
            ]
            self._kept[look] = _Kept(np.zeros(count, bool), stages)
        return self._kept[look]
