"""The networks of the runs of a report on the same test images, made when a section first asks for them."""

from collections.abc import Sequence
from functools import cached_property

from famkd.errors import UserError
from famkd.run.directory import Run
from famviz.analysis.amplitude import Stages
from famviz.analysis.amplitude_store import Look
from famviz.analysis.cam_compare import Comparison
from famviz.analysis.differences import amplitude_difference
from famviz.analysis.network_comparison import NetworkComparison
from famviz.explorer.amplitude import AmplitudeExplorer
from famviz.load import LoadedRun
from famviz.networks import has_boxes

IMAGES = 100  # whose spectra and maps are measured


class Looked:
    """What sections share. Of several runs, those that have data and teacher in common with the first one.

    Args:
        runs: what the report is about.
        root: where the data of the runs is, if it was moved since the training.
    """

    def __init__(self, runs: Sequence[LoadedRun], root: str = ""):
        trained = [each.run for each in runs if each.run]
        taught = [run for run in trained if run.recipe.method_names] or trained
        self.root = root
        self.runs = [run for run in taught if _pair(run) == _pair(taught[0])]
        self.others = [run for run in taught if run not in self.runs]

    @property
    def first(self) -> Run:
        """The first run; UserError for bare checkpoints only."""
        if not self.runs:
            raise UserError("A bare checkpoint comes without networks and data.")
        return self.runs[0]

    @cached_property
    def detects(self) -> bool:
        """Whether the networks are detectors, which have maps of boxes and no common widget."""
        return has_boxes(self.first)

    @cached_property
    def amplitude(self) -> AmplitudeExplorer:
        """The amplitude explorer; the section that shows it closes it."""
        return AmplitudeExplorer([self.first, *self.runs[1:]], IMAGES, root=self.root)

    @property
    def comparison(self) -> NetworkComparison:
        """The networks and images that every widget shows."""
        return self.amplitude.comparison

    @cached_property
    def stages(self) -> Stages:
        """Spectra of every stage, shallow to deep."""
        if self.detects:
            return amplitude_difference(self.runs if len(self.runs) > 1 else self.first, root=self.root)
        store, everything = self.amplitude.store, list(range(len(self.comparison)))
        reference = self.comparison.reference
        return Stages(store.stage(Look(), at, reference, "mean", everything) for at in range(len(store.stage_names)))

    @cached_property
    def maps(self) -> Comparison:
        """Class activation maps of all images, with their agreement."""
        return self.comparison.cams(None)


def _pair(run: Run) -> tuple[object, ...]:
    """What runs have in common whose networks can be compared on the same images."""
    recipe = run.recipe
    return recipe.task, recipe.data.name, recipe.teacher.model, recipe.teacher.weights
