"""Class activation maps of detectors: where they find evidence for the class of one box."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from famkd.errors import UserError
from famviz.analysis.cam_compare import Comparison, compare
from famviz.networks import BoxScores, Scene, Source, networks, scenes


def box_maps(
    detectors: Mapping[str, nn.Module], scene: Scene, box: int | None = None, *, classes: Sequence[str] = (),
    method: str = "GradCAM", level: int | None = None, **options: Any,
) -> Comparison:  # fmt: skip
    """Maps of several detectors for one box of an image, and how they agree: all are asked about the same box.

    Args:
        detectors: by name; the one called `teacher`, or else the first, is the reference.
        box: its position in `scene.boxes`; by default the largest.
        classes: names of the classes, the first of which is the background.
        method: as in `famviz.cam.cam`. The score is that of the box's class in the box.
        level: of the pyramid, 0 is the finest; by default the level that the box is read from. Gradients are zero at
            the others, so they are for `EigenCAM`.
        options: of `famviz.cam.compare`, such as `steps`.
    """
    box = scene.largest if box is None else box
    if not 0 <= box < len(scene.boxes):
        raise UserError(f"There is no box {box}: this image has {len(scene.boxes)}, counted from 0.")
    images = scene.image[None]
    models = {name: BoxScores(detector, scene.boxes[box][None]) for name, detector in detectors.items()}
    layers = {name: model.level(images) for name, model in models.items()}
    if level is not None:
        layers = {name: "detector." + taps_of(detector)[level] for name, detector in detectors.items()}
    return compare(
        models, images, scene.labels[box][None], method=method, layer=layers, masks=scene.mask(box)[None],
        pixels=scene.pixels[None], classes=classes, **{"steps": 0, **options},
    )  # fmt: skip


def box_maps_of_run(
    source: Source, images: int | Sequence[int] = 4, *, root: str = "", **options: Any
) -> list[Comparison]:
    """`box_maps` of a detection run's networks, for the largest box of each of its first test images with a box."""
    shown, classes = scenes(source, images, root)
    if not shown:
        raise UserError("None of these test images shows an object: choose others.")
    with torch.no_grad():
        detectors = networks(source, root)
    return [box_maps(detectors, scene, classes=classes, **options) for scene in shown]


def taps_of(detector: Any) -> Sequence[str]:
    """The levels of a detector's pyramid, fine to coarse."""
    return detector.taps["stages"]
