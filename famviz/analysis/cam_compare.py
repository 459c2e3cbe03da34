"""Class activation maps of several networks on the same images: how far they agree, and whether they are faithful."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from famkd.data.bands import bands_truth
from famviz.analysis import cam_scores
from famviz.analysis.cam import ROLLOUT, CamResult, Target, cam
from famviz.analysis.cam_sanity import randomisation
from famviz.networks import Source, classification_run, networks_of_runs, run_images

TOP = 0.2  # share of the pixels that an IoU is about
Figures = dict[str, np.ndarray]  # name of a figure to its values (B,)


@dataclass(frozen=True, eq=False)
class Comparison:
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
    models: Mapping[str, nn.Module], images: Tensor, labels: Tensor | None = None, *,
    target: Target | Literal["reference", ""] = "", method: str = "GradCAM",
    layer: str | Mapping[str, str] | None = None, masks: np.ndarray | None = None, pixels: np.ndarray | None = None,
    classes: Sequence[str] = (), steps: int = 16, sanity: bool = False,
) -> Comparison:  # fmt: skip
    """Maps of several networks on normalised images (B, 3, H, W), and how they agree.

    Args:
        models: by name; the one called `teacher`, or else the first, is the reference.
        target: as in `cam`, or `reference`: the class that the reference predicts. By default the true class if there
            are labels, else that of the reference.
        layer: one for all networks, or one by name; by default the last stage of each network.
        masks: (B, H, W) bool, where the evidence truly is; `masks_of_boxes` makes them from boxes.
        pixels, classes: images to draw, and names of the classes.
        steps: of insertion and deletion; 0 leaves these out.
        sanity: whether to compare each map with those of the same network with random weights.
    """
    reference = "teacher" if "teacher" in models else next(iter(models))
    about = _about(target, models[reference], images, labels)
    layers = layer if isinstance(layer, Mapping) else dict.fromkeys(models, layer)
    results = {
        name: cam(net, images, about, method, layers.get(name), labels, names=classes) for name, net in models.items()
    }
    first = results[reference].maps
    figures = {name: _figures(models[name], images, each, first, masks, steps) for name, each in results.items()}
    chance = {name: _chance(models[name], images, each, first, masks, steps) for name, each in results.items()}
    if sanity:
        for name, result in results.items():
            figures[name] |= _random_figures(models[name], images, result)
    if pixels is None:
        pixels = _pixels(images)
    truth = None if labels is None else labels.cpu().numpy()
    return Comparison(results, reference, figures, chance, pixels, truth, masks, list(classes))


def _about(
    target: Target | Literal["reference", ""], reference: nn.Module, images: Tensor, labels: Tensor | None
) -> Target:
    """The class that the maps are about."""
    if isinstance(target, str) and not target:
        target = "reference" if labels is None else "true"
    if isinstance(target, str) and target == "reference":
        return torch.from_numpy(cam(reference, images, "predicted", "EigenCAM").predicted)
    return target


def _pixels(images: Tensor) -> np.ndarray:
    """Normalised images (B, 3, H, W) as bytes (B, H, W, 3), each scaled to its own range."""
    low = images.amin((1, 2, 3), keepdim=True)
    high = images.amax((1, 2, 3), keepdim=True)
    scaled = (images - low) / (high - low).clamp_min(1e-6) * 255
    return scaled.permute(0, 2, 3, 1).byte().cpu().numpy()


def _figures(
    model: nn.Module, images: Tensor, result: CamResult, first: np.ndarray, masks: np.ndarray | None, steps: int
) -> Figures:
    """Figures about the maps of one network; `first` are the maps of the reference."""
    figures = {
        "rank correlation": cam_scores.rank_correlation(result.maps, first),
        "IoU": cam_scores.top_iou(result.maps, first, TOP),
    }
    if steps:
        figures |= _areas(model, images, result, steps)
    if masks is not None:
        figures["energy inside"] = cam_scores.energy_inside(result.maps, masks)
        figures["pointing"] = cam_scores.pointing_hits(result.maps, masks)
    return figures


def _random_figures(model: nn.Module, images: Tensor, result: CamResult) -> Figures:
    """Similarity of the maps with those of the network when its head, or all of it, is randomised."""
    layer = None if result.method == ROLLOUT else result.layer
    found = randomisation(model, images, torch.from_numpy(result.classes), result.method, layer)
    first, *_, last = found.randomised
    return {"head random": found.similarity(first), "all random": found.similarity(last)}


def _areas(model: nn.Module, images: Tensor, result: CamResult, steps: int) -> Figures:
    classes = torch.from_numpy(result.classes).to(images.device)
    areas = cam_scores.insertion_deletion(model, images, result.maps, classes, steps=steps)
    return dict(zip(("insertion", "deletion"), areas))


def _chance(
    model: nn.Module, images: Tensor, result: CamResult, first: np.ndarray, masks: np.ndarray | None, steps: int
) -> Figures:
    """The same figures for maps that do not depend on the image.

    Two networks agree a little by chance, because the maps of every network keep to the middle of the image.
    """
    figures = _figures(model, images, result, np.roll(first, 1, 0), None, 0)
    if len(first) < 2:  # there is no other image
        figures = {key: np.full(1, np.nan) for key in figures}
    if steps:
        constant = replace(result, maps=np.zeros_like(result.maps))
        figures |= _areas(model, images, constant, steps)
    if masks is not None:
        inside = masks.mean((1, 2))
        figures |= {"energy inside": inside, "pointing": inside}
    return figures


def compare_runs(
    source: Source | Sequence[Source], images: int | Sequence[int] = 6, root: str = "", **options: Any
) -> Comparison:
    """`compare` for the networks of a run, or of several runs of one teacher, on its test images.

    The images are the first `images`, or those at these positions. Masks are known for the data set `bands`.
    """
    first = classification_run(source if isinstance(source, Source) else source[0])
    shown = run_images(first, images, root)
    defaults: dict[str, Any] = {"pixels": shown.pixels, "classes": shown.classes, "steps": 0}  # nothing draws insertion
    if first.recipe.data.name == "bands":
        known = bands_truth().masks
        defaults["masks"] = known[:images] if isinstance(images, int) else known[list(images)]
    return compare(networks_of_runs(source, root), shown.images, shown.labels, **{**defaults, **options})
