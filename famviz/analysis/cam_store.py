"""Class activation maps of a comparison, one image at a time: computed when they are asked for, and kept."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch

from famkd.errors import UserError, nearest
from famkd.features.taps import default_taps
from famviz.analysis import cam_scores
from famviz.analysis.cam import METHODS, ROLLOUT, CamResult, cam, enlarged
from famviz.analysis.cam_place import default_layer
from famviz.analysis.network_comparison import NetworkComparison
from famviz.networks import untouched

TARGETS = ("true", "reference", "each")


class Choice(NamedTuple):
    """What maps are about."""

    method: str = "GradCAM"
    layer: str = ""  # "" for the default, "-2" for the last but one stage, or a path
    target: str = "true"  # "true", what the "reference" predicts, what "each" predicts, or the index of a class


@dataclass(frozen=True, eq=False)
class ImageMap:
    """The map of one network on one image."""

    evidence: np.ndarray  # (h, w) float32, signed, at the size of the layer
    label: int  # class that the map is about
    probability: float  # of this class
    why_empty: str
    layer: str
    figures: dict[str, float] = field(default_factory=dict)


Shown = dict[str, ImageMap | str]  # by network: its map, or the sentence why there is none


class CamStore:
    """The maps of every network of a comparison on single images."""

    def __init__(self, comparison: NetworkComparison):
        self.comparison = comparison
        self._kept: dict[tuple[Choice, int], Shown] = {}
        self._areas: dict[tuple[Choice, int, str], tuple[float, float]] = {}
        self._defaults: dict[str, str] = {}
        self._stages: dict[str, list[str]] = {}

    def maps(self, positions: Sequence[int], choice: Choice) -> list[Shown]:
        """The maps of images by network. Figures: `rank correlation` and `IoU` with the reference, with masks also
        `energy inside` and `pointing`.
        """
        self.check(choice)
        new = [at for at in dict.fromkeys(positions) if (choice, at) not in self._kept]
        if new:
            self._compute(new, choice)
        return [self._kept[choice, at] for at in positions]

    def areas(self, position: int, name: str, choice: Choice, steps: int = 8) -> tuple[float, float]:
        """Insertion and deletion of one network by its own map on one image; NaN where there is no map."""
        key = (choice, position, name)
        if key not in self._areas:
            shown = self.maps([position], choice)[0][name]
            self._areas[key] = (
                (np.nan, np.nan) if isinstance(shown, str) else self._faithful(shown, position, name, steps)
            )
        return self._areas[key]

    def stages(self, name: str) -> list[str]:
        """Taps of the stages of a network, shallow to deep."""
        if name not in self._stages:
            model, images = self.comparison.models[name], self.comparison.inputs([0])[name]
            self._stages[name] = default_taps(model, "stages", images)
        return self._stages[name]

    def layer(self, name: str, layer: str) -> str:
        """The path that a choice of layer means in a network."""
        if not layer:
            if name not in self._defaults:
                model, images = self.comparison.models[name], self.comparison.inputs([0])[name]
                with untouched(model):
                    self._defaults[name] = default_layer(model.eval(), images)
            return self._defaults[name]
        if not layer.lstrip("-").isdigit():
            return layer
        stages = self.stages(name)
        if not -len(stages) <= int(layer) < 0:
            raise UserError(f"{name} has {len(stages)} stages: pass layer='-1' to '-{len(stages)}', or a path.")
        return stages[int(layer)]

    def check(self, choice: Choice) -> None:
        """UserError for a method or a target that does not exist."""
        known = (*METHODS, ROLLOUT)
        if choice.method not in known:
            raise UserError(f"There is no CAM {choice.method!r}.{nearest(choice.method, known)}")
        if choice.target == "true" and not self.comparison.labelled:
            raise UserError("The true class needs labels: pass target='reference' or 'each'.")
        if choice.target not in TARGETS and not choice.target.isdigit():
            raise UserError(f"There is no target {choice.target!r}: pass {', '.join(TARGETS)} or the index of a class.")

    def _compute(self, positions: list[int], choice: Choice) -> None:
        """Maps of all networks on some images, with their figures."""
        inputs = self.comparison.inputs(positions)
        target = self._classes(positions, choice.target)
        found: dict[str, CamResult | str] = {}
        for name, model in self.comparison.models.items():
            try:
                layer = None if choice.method == ROLLOUT else self.layer(name, choice.layer)
                about = target if target == "predicted" else target.to(inputs[name].device)
                found[name] = cam(model, inputs[name], about, choice.method, layer, names=self.comparison.classes)
            except UserError as error:  # such as attention rollout of a ConvNet, beside a network that has it
                found[name] = str(error)
        figures = self._figures(positions, found)
        for row, at in enumerate(positions):
            self._kept[choice, at] = {name: _of_image(each, row, figures.get(name, {})) for name, each in found.items()}

    def _classes(self, positions: list[int], target: str) -> torch.Tensor | Literal["predicted"]:
        """The class (B,) of each image that the maps are about, or `predicted` where each network chooses its own."""
        if target == "each":
            return "predicted"
        if target == "true":
            return torch.tensor([self.comparison.images.label(at) for at in positions])
        if target == "reference":
            self.comparison.predict(positions)
            answers = self.comparison.answers[self.comparison.reference]
            return torch.from_numpy(answers.logits[positions].argmax(1))
        return torch.full((len(positions),), int(target))

    def _figures(self, positions: list[int], found: dict[str, CamResult | str]) -> dict[str, dict[str, np.ndarray]]:
        """Figures (B,) of each network that has maps."""
        pixels = self.comparison.pixels(positions[:1]).shape
        size = (pixels[1], pixels[2])
        maps = {name: enlarged(each.evidence, size) for name, each in found.items() if isinstance(each, CamResult)}
        masks = None if self.comparison.masks is None else self.comparison.masks[positions]
        first = maps.get(self.comparison.reference)
        return {name: cam_scores.agreement(own, first, masks) for name, own in maps.items()}

    def _faithful(self, shown: ImageMap, position: int, name: str, steps: int) -> tuple[float, float]:
        images = self.comparison.inputs([position])[name]
        own = enlarged(shown.evidence[None], (images.shape[-2], images.shape[-1]))
        classes = torch.tensor([shown.label], device=images.device)
        areas = cam_scores.insertion_deletion(self.comparison.models[name], images, own, classes, steps=steps)
        return float(areas[0][0]), float(areas[1][0])


def _of_image(result: CamResult | str, row: int, figures: dict[str, np.ndarray]) -> ImageMap | str:
    if isinstance(result, str):
        return result
    return ImageMap(
        result.evidence[row].astype(np.float32),
        int(result.classes[row]),
        float(result.confidence[row]),
        result.why_empty[row],
        result.layer,
        {key: float(values[row]) for key, values in figures.items()},
    )
