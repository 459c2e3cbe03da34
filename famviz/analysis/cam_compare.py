"""Class activation maps of several networks on the same images: how far they agree, and whether they are faithful."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from famviz.analysis import cam_scores
from famviz.analysis.cam import ROLLOUT, CamResult, Target, cam, enlarged
from famviz.analysis.cam_sanity import randomisation
from famviz.networks.prepare import as_bytes
from famviz.tables import Rows

Figures = dict[str, np.ndarray]  # name of a figure to its values (B,)


@dataclass(frozen=True, eq=False)
class Comparison(Rows):
    """Maps of several networks on the same images, and figures about each, for each image (B,).

    Figures: `rank correlation` and `IoU` with the maps of the reference; `insertion` and `deletion` of each network by
    its own map; with masks `energy inside` and `pointing`; with the sanity check `head random` and `all random`, the
    rank correlation of a map with that of the same network when its head, or all of it, is randomised. `chance` holds
    what each network would get by maps that do not depend on the image: agreement with the reference's map of another
    image, insertion and deletion in random order, the mask's share of the image.
    """

    results: dict[str, CamResult]
    reference: str
    figures: dict[str, Figures]
    chance: dict[str, Figures]
    pixels: np.ndarray  # (B, H, W, 3) uint8
    labels: np.ndarray | None  # (B,)
    masks: np.ndarray | None  # (B, H, W) bool
    classes: list[str]

    def __repr__(self) -> str:
        first = self.results[self.reference]
        return f"Comparison({first.method} of {', '.join(self.results)} on {len(self.pixels)} images)"

    @property
    def highest(self) -> float:
        """Upper end of the shared colour range; the lower one is 0."""
        return max(float(result.maps.max()) for result in self.results.values())

    def means(self, name: str) -> tuple[dict[str, float], dict[str, float]]:
        """Figures of a network and those of its chance, means over the images that have one."""
        figures = {key: cam_scores.mean(values) for key, values in self.figures[name].items()}
        chance = {key: cam_scores.mean(values) for key, values in self.chance[name].items()}
        return figures, chance

    def rows(self) -> list[dict[str, object]]:
        """Mean of each figure: a row for each network, then one for the chance of each.

        Insertion and deletion depend on the scale of each network, so they are also given minus chance.
        """
        rows: list[dict[str, object]] = []
        below: list[dict[str, object]] = []
        for name in self.figures:
            figures, chance = self.means(name)
            row: dict[str, object] = {"network": name}
            for key, value in figures.items():
                row[key] = value
                if key in ("insertion", "deletion"):
                    row[f"{key} minus chance"] = value - chance[key]
            rows.append(row)
            below.append({"network": f"{name}, chance", **chance})
        return rows + below


def compare(
    models: Mapping[str, nn.Module], images: Tensor | Mapping[str, Tensor], labels: Tensor | None = None, *,
    target: Target | Literal["reference", ""] = "", method: str | Mapping[str, str] = "GradCAM",
    layer: str | Mapping[str, str] | None = None, masks: np.ndarray | None = None, pixels: np.ndarray | None = None,
    classes: Sequence[str] = (), steps: int = 16, sanity: bool = False,
) -> Comparison:  # fmt: skip
    """Maps of several networks on normalised images (B, 3, H, W), and how they agree.

    Args:
        models: by name; the one called `teacher`, or else the first, is the reference.
        images: for all networks, or by name, also of several sizes. Maps compare at the size of the pixels.
        target: as in `cam`, or `reference`: the class that the reference predicts. By default the true class if there
            are labels, else that of the reference.
        method, layer: one for all networks, or one by name; by default the last stage of each network.
        masks: (B, H, W) bool, where the evidence truly is; `masks_of_boxes` makes them from boxes.
        pixels, classes: images (B, H, W, 3) uint8 to draw, and names of the classes.
        steps: of insertion and deletion; 0 leaves these out.
        sanity: whether to compare each map with those of the same network with random weights.
    """
    reference = "teacher" if "teacher" in models else next(iter(models))
    inputs = images if isinstance(images, Mapping) else dict.fromkeys(models, images)
    about = _about(target, models[reference], inputs[reference], labels)
    layers = layer if isinstance(layer, Mapping) else dict.fromkeys(models, layer)
    methods = method if isinstance(method, Mapping) else dict.fromkeys(models, method)
    if pixels is None:
        pixels = as_bytes(inputs[reference], None)
    size = (pixels.shape[1], pixels.shape[2])
    shown = {}
    for name, model in models.items():
        result = cam(model, inputs[name], about, methods.get(name, "GradCAM"), layers.get(name), labels, names=classes)
        shown[name] = _Shown(model, inputs[name], result, enlarged(result.evidence, size))
    first = shown[reference].maps
    figures = {name: _figures(each, first, masks, steps) for name, each in shown.items()}
    chance = {name: _chance(each, first, masks, steps) for name, each in shown.items()}
    if sanity:
        for name, each in shown.items():
            figures[name] |= _random_figures(each)
    results = {name: replace(each.result, maps=each.maps) for name, each in shown.items()}
    truth = None if labels is None else labels.cpu().numpy()
    return Comparison(results, reference, figures, chance, pixels, truth, masks, list(classes))


class _Shown(NamedTuple):
    """One network with its images, its maps at their size, and its maps at the size of the pixels."""

    model: nn.Module
    images: Tensor
    result: CamResult
    maps: np.ndarray


def _about(
    target: Target | Literal["reference", ""], reference: nn.Module, images: Tensor, labels: Tensor | None
) -> Target:
    """The class that the maps are about."""
    if isinstance(target, str) and not target:
        target = "reference" if labels is None else "true"
    if isinstance(target, str) and target == "reference":
        return torch.from_numpy(cam(reference, images, "predicted", "EigenCAM").predicted)
    return target


def _figures(shown: _Shown, first: np.ndarray, masks: np.ndarray | None, steps: int) -> Figures:
    """Figures about the maps of one network; `first` are the maps of the reference."""
    figures = cam_scores.agreement(shown.maps, first, masks)
    return figures | (_areas(shown, shown.result.maps, steps) if steps else {})


def _random_figures(shown: _Shown) -> Figures:
    """Similarity of the maps with those of the network when its head, or all of it, is randomised."""
    result = shown.result
    layer = None if result.method == ROLLOUT else result.layer
    found = randomisation(shown.model, shown.images, torch.from_numpy(result.classes), result.method, layer)
    first, *_, last = found.randomised
    return {"head random": found.similarity(first), "all random": found.similarity(last)}


def _areas(shown: _Shown, maps: np.ndarray, steps: int) -> Figures:
    classes = torch.from_numpy(shown.result.classes).to(shown.images.device)
    areas = cam_scores.insertion_deletion(shown.model, shown.images, maps, classes, steps=steps)
    return dict(zip(("insertion", "deletion"), areas))


def _chance(shown: _Shown, first: np.ndarray, masks: np.ndarray | None, steps: int) -> Figures:
    """The same figures for maps that do not depend on the image.

    Two networks agree a little by chance, because the maps of every network keep to the middle of the image.
    """
    figures = _figures(shown, np.roll(first, 1, 0), None, 0)
    if len(first) < 2:  # there is no other image
        figures = {key: np.full(1, np.nan) for key in figures}
    if steps:
        figures |= _areas(shown, np.zeros_like(shown.result.maps), steps)
    if masks is not None:
        inside = masks.mean((1, 2))
        figures |= {"energy inside": inside, "pointing": inside}
    return figures
