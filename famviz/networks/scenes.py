"""Images with boxes, and detectors as networks that classify given boxes."""

from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from famkd.errors import UserError
from famkd.tasks import TASKS
from famkd.training.build import build_recipe_data
from famviz.networks.runs import Source, networks, run_images, run_of, with_data

STRIDE = 32  # a detector pads images to a multiple of it


class Scene(NamedTuple):
    """A test image of a detection run, padded as its detectors pad it."""

    image: Tensor  # (3, H, W) in 0..1; the padding has the mean colour, which the detector maps to 0
    size: tuple[int, int]  # height and width without the padding, which is at the right and below
    boxes: Tensor  # (N, 4) as x1 y1 x2 y2 in pixels
    labels: Tensor  # (N,) from 1; 0 is the background

    @property
    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8, to be drawn."""
        return (self.image.permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy()

    @property
    def largest(self) -> int:
        """Position of the largest box."""
        sides = self.boxes[:, 2:] - self.boxes[:, :2]
        return int(sides.prod(1).argmax())

    def mask(self, box: int) -> np.ndarray:
        """(H, W) bool, the inside of a box."""
        left, top, right, bottom = self.boxes[box].round().int().tolist()
        mask = np.zeros(self.image.shape[1:], bool)
        mask[top:bottom, left:right] = True
        return mask


def scenes(source: Source, only: int | Sequence[int] = 4, root: str = "") -> tuple[list[Scene], list[str]]:
    """Test images that show an object, the first `only` or those at some positions, and the names of all classes.

    The first class is the background.

    Args:
        root: where the data of the run is, if it was moved since the training.
    """
    run = run_of(source)
    if not has_boxes(run):
        raise UserError(f"{run.path} is a run of {run.recipe.task}, without boxes: see famviz.cam for its maps.")
    data = build_recipe_data(with_data(run, root))
    colour = _mean_colour(networks(run, root)["student"])
    shown = (
        (at, _padded(image, target, colour))
        for at, (image, target) in enumerate(_one_by_one(data))
        if not target["iscrowd"].all() and (isinstance(only, int) or at in only)
    )
    found = dict(islice(shown, only if isinstance(only, int) else len(set(only))))
    positions = found if isinstance(only, int) else only
    return [found[at] for at in positions if at in found], ["background", *data.classes]


def common_part(shown: Sequence[Scene]) -> Tensor:
    """The upper left part that all images have, (B, 3, H, W); its sides are multiples of 32."""
    height, width = (min(scene.size[axis] for scene in shown) // STRIDE * STRIDE for axis in (0, 1))
    if not (height and width):
        raise UserError(f"An image has fewer than {STRIDE} pixels on a side: choose other images.")
    return torch.stack([scene.image[:, :height, :width] for scene in shown])


def has_boxes(source: Source) -> bool:
    """Whether a run is of a task whose images show several objects, each in a box."""
    return not TASKS[run_of(source).recipe.task].returns_logits


def task_images(source: Source, count: int = 200, root: str = "") -> tuple[Tensor, Tensor | None]:
    """The first test images of a run, as its task takes them, and their labels.

    Of classification they are normalised; of detection the part in 0..1 that they have in common, without labels.
    """
    if has_boxes(source):
        return common_part(scenes(source, count, root)[0]), None
    shown = run_images(source, count, root)
    return shown.images, shown.labels


class BoxScores(nn.Module):
    """A detector as a network that scores the classes of one given box in each image.

    It maps images (B, 3, H, W) in 0..1 to logits (B, classes), of which the first is the background. So everything
    that looks at a classifier looks at a detector too, and several detectors are asked about the same box.
    """

    def __init__(self, detector: nn.Module, boxes: Tensor):
        super().__init__()
        self.detector = detector
        self.boxes = boxes  # (B, 4) as x1 y1 x2 y2 in pixels

    def forward(self, images: Tensor) -> Tensor:
        detector: Any = self.detector
        heads = detector.roi_heads
        batch, _ = detector.transform(list(images))
        maps = detector.backbone(batch.tensors)
        boxes = self.boxes.to(images).expand(len(images), 4)  # some methods repeat one image
        pooled = heads.box_roi_pool(maps, list(boxes[:, None]), batch.image_sizes)
        return heads.box_predictor(heads.box_head(pooled))[0]

    def level(self, images: Tensor) -> str:
        """The tap of the level of the pyramid that the box is read from, which depends on its size."""
        self(images)  # the pooling learns the scale of each level from its first images
        detector: Any = self.detector
        return "detector." + detector.taps["stages"][int(detector.roi_heads.box_roi_pool.map_levels([self.boxes])[0])]


def _one_by_one(data: Any):
    for batch in data.test(1):
        yield from zip(batch.images, batch.targets)


def _mean_colour(detector: Any) -> Tensor:
    return torch.tensor(detector.transform.image_mean)


def _padded(image: Tensor, target: dict[str, Tensor], colour: Tensor) -> Scene:
    height, width = image.shape[1:]
    tall, wide = (-(-side // STRIDE) * STRIDE for side in (height, width))
    canvas = colour[:, None, None].expand(3, tall, wide).clone()
    canvas[:, :height, :width] = image
    single = ~target["iscrowd"]  # the others hold many objects at once
    return Scene(canvas, (height, width), target["boxes"][single], target["labels"][single])
