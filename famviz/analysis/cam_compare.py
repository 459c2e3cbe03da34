"""Class activation maps of teacher and students side by side, in figures: how far they agree, whether they are true."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from famkd.data.bands import bands_truth
from famviz.analysis import cam_scores as faith
from famviz.analysis.cam import CamResult, Target, cam
from famviz.networks import Source, networks_of_runs, opened, run_images

TOP = 0.2  # share of the pixels that an IoU is taken of


@dataclass(frozen=True, eq=False)
class Comparison:
    """Maps of several networks on the same images, and figures about each, per image (B,).

    Figures: `rank correlation` and `IoU` with the reference's maps; `insertion` and `deletion` of each network by its
    own map; with masks `energy inside` and `pointing`. `chance` holds what each network would get without looking at
    the image: agreement with the reference's map of another image, insertion and deletion in random order, the mask's
    share of the image.
    """

    results: dict[str, CamResult]
    reference: str
    figures: dict[str, dict[str, np.ndarray]]
    chance: dict[str, dict[str, np.ndarray]]
    pixels: np.ndarray  # (B, H, W, 3) uint8, to look at
    labels: np.ndarray | None  # (B,)
    masks: np.ndarray | None  # (B, H, W) bool
    classes: list[str]

    @property
    def highest(self) -> float:
        """Upper end of the shared colour range; 0 is the lower one."""
        return max(float(result.maps.max()) for result in self.results.values())

    def rows(self) -> list[dict[str, object]]:
        """Mean of each figure over the images that have one: a row for each network, then one for its chance.

        Insertion and deletion lie on each network's own scale, so they come minus chance as well.
        """
        rows, below = [], []
        for name, figures in self.figures.items():
            found, chance = ({key: faith.mean(f) for key, f in each.items()} for each in (figures, self.chance[name]))
            row = {"network": name}
            for key, value in found.items():
                row[key] = value
                if key in ("insertion", "deletion"):
                    row[f"{key} minus chance"] = value - chance[key]
            rows.append(row)
            below.append({"network": f"{name}, chance"} | chance)
        return rows + below


def compare(
    models: Mapping[str, nn.Module], images: Tensor, labels: Tensor | None = None, *,
    target: Target | str = "", method: str = "GradCAM", layer: str | Mapping[str, str] | None = None,
    masks: np.ndarray | None = None, pixels: np.ndarray | None = None, classes: Sequence[str] = (), steps: int = 16,
) -> Comparison:  # fmt: skip
    """Maps of several networks on normalised images (B, 3, H, W), and how they agree.

    Args:
        models: by name; the one called `teacher`, or else the first, is the reference.
        target: as in `cam`, or `reference`: the class that the reference predicts. By itself the true class where
            there are labels, else the reference's.
        layer: one for all, or one by name; by itself each network's last stage.
        masks: (B, H, W) bool, where the evidence truly is; `masks_of_boxes` makes them from boxes.
        pixels, classes: what to draw, and what to call the classes.
        steps: of insertion and deletion; 0 leaves these out.
    """
    reference = "teacher" if "teacher" in models else next(iter(models))
    target = target if isinstance(target, int | Tensor) else target or ("reference" if labels is None else "true")
    if isinstance(target, str) and target == "reference":
        target = torch.from_numpy(cam(models[reference], images, "predicted", "EigenCAM").predicted)
    layers = layer if isinstance(layer, Mapping) else dict.fromkeys(models, layer)
    results = {
        name: cam(net, images, target, method, layers.get(name), labels, names=classes) for name, net in models.items()
    }
    first = results[reference].maps
    figures = {name: _figures(models[name], images, each, first, masks, steps) for name, each in results.items()}
    chance = {name: _chance(models[name], images, each, first, masks, steps) for name, each in results.items()}
    if pixels is None:
        low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
        scaled = (images - low) / (high - low).clamp_min(1e-6) * 255
        pixels = scaled.permute(0, 2, 3, 1).byte().cpu().numpy()
    truth = None if labels is None else labels.cpu().numpy()
    return Comparison(results, reference, figures, chance, pixels, truth, masks, list(classes))


def _figures(
    model: nn.Module, images: Tensor, result: CamResult, first: np.ndarray, masks: np.ndarray | None, steps: int
) -> dict[str, np.ndarray]:
    figures = {
        "rank correlation": faith.rank_correlation(result.maps, first),
        "IoU": faith.top_iou(result.maps, first, TOP),
    }
    if steps:
        classes = torch.from_numpy(result.classes).to(images.device)
        areas = faith.insertion_deletion(model, images, result.maps, classes, steps=steps)
        figures |= dict(zip(("insertion", "deletion"), areas))
    if masks is not None:
        figures["energy inside"] = faith.energy_inside(result.maps, masks)
        figures["pointing"] = faith.pointing_hits(result.maps, masks)
    return figures


def _chance(
    model: nn.Module, images: Tensor, result: CamResult, first: np.ndarray, masks: np.ndarray | None, steps: int
) -> dict[str, np.ndarray]:
    """The same figures without a look at the image: every network's maps keep to the middle, and so agree a little."""
    figures = _figures(model, images, result, np.roll(first, 1, 0), None, 0)
    if len(first) < 2:
        figures = {key: np.full(1, np.nan) for key in figures}  # there is no other image
    if steps:
        nothing = replace(result, maps=np.zeros_like(result.maps))
        figures |= {k: v for k, v in _figures(model, images, nothing, first, None, steps).items() if k not in figures}
    if masks is not None:
        figures |= dict.fromkeys(("energy inside", "pointing"), masks.mean((1, 2)))
    return figures


def compare_runs(
    source: Source | Sequence[Source], images: int | Sequence[int] = 6, root: str = "", **options
) -> Comparison:
    """`compare` for the networks of a run, or of several runs of one teacher, on its test images.

    Of the test images it takes the first `images`, or those at these positions; `bands` brings its masks along.
    """
    first = opened(source if isinstance(source, Source) else source[0])
    shown = run_images(first, images, root)
    if first.recipe.data.name == "bands":
        known = bands_truth().masks
        options = {"masks": known[:images] if isinstance(images, int) else known[list(images)]} | options
    options = {"pixels": shown.pixels, "classes": shown.classes, "steps": 0} | options  # insertion is not drawn
    return compare(networks_of_runs(source, root), shown.images, shown.labels, **options)
