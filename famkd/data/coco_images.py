"""The images of a COCO json, decoded, scaled and flipped together with their boxes by worker processes."""

import warnings
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from famkd.data.coco_annotations import Instances
from famkd.data.loader import TRIES
from famkd.data.pixels import WHITE, Colour, converted, opened, orientation, upright
from famkd.errors import UserError, inert

Key = tuple[int, int, bool]  # number of an image, pixels of its shorter side, whether it is flipped


class Piece(NamedTuple):
    """One process's part of a step, ready to go to the device."""

    images: list[Tensor]  # (3, H, W) uint8, each of its own size
    targets: list[dict[str, Tensor]]
    index: Tensor  # (B,)


class LoadedImages(NamedTuple):
    """Some images as a worker process returns them: few tensors, because each tensor costs an open file."""

    pixels: Tensor  # uint8, the (H, W, 3) pixels of all images in a row
    sizes: list[tuple[int, int]]  # height and width of each image
    targets: dict[str, Tensor]  # of the objects of all images in a row
    objects: list[int]  # objects in each image
    index: Tensor  # (B,)
    failed: list[str]  # paths of images that could not be read


class BoxImages(Dataset):
    """The images of one json, decoded, scaled and flipped together with their boxes.

    Args:
        longest: most pixels of the longer side.
        training: clip boxes to the image, and leave out crowds and boxes without area.
        background: colour behind transparent pixels.
        skip: leave out an image that turns out to be unreadable, in training for the next one; otherwise refuse it.
    """

    def __init__(self, source: Instances, longest: int, training: bool, background: Colour = WHITE, skip: bool = False):
        self.source, self.longest, self.training = source, longest, training
        self.background, self.skip = background, skip

    def __getitems__(self, keys: list[Key]) -> LoadedImages | UserError:
        """The batch of some keys. An error is returned: one raised in a worker would arrive as a traceback's text."""
        images, targets, numbers, failed = [], [], [], []
        for index, side, flip in keys:
            tries = TRIES if self.training and self.skip else 1
            for number in [(index + n) % len(self.source) for n in range(tries)]:
                try:
                    image, target = self.one(number, side, flip)
                except UserError as error:
                    if not self.skip:
                        return error
                    failed.append(self.source.name(number))
                    continue
                images.append(image)
                targets.append(target)
                numbers.append(number)
                break
        return LoadedImages(
            pixels=torch.cat([image.flatten() for image in images]) if images else torch.empty(0, dtype=torch.uint8),
            sizes=[(image.shape[0], image.shape[1]) for image in images],
            targets={key: torch.cat([target[key] for target in targets]) for key in (targets[0] if targets else ())},
            objects=[len(target["boxes"]) for target in targets],
            index=torch.tensor(numbers, dtype=torch.int64),
            failed=failed,
        )

    def one(self, index: int, side: int, flip: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """(H, W, 3) bytes of an image, and its target."""
        from torchvision.transforms.v2 import functional as F
        from torchvision.tv_tensors import BoundingBoxes

        image = _decoded_image(self.source, index, self.background)
        stored = self.source.sizes[index].tolist()
        scale = min(side / min(stored), self.longest / max(stored))
        size = [max(1, round(length * scale)) for length in stored]
        own = slice(self.source.start[index], self.source.start[index + 1])
        boxes = torch.from_numpy(self.source.boxes[own])
        # The stub has Tensor's __init__, which takes no format.
        boxes = BoundingBoxes(boxes, format="XYXY", canvas_size=tuple(stored))  # pyright: ignore[reportCallIssue]
        boxes = F.resize(boxes, size)
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        if flip:
            boxes = F.horizontal_flip(boxes)
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.training:
            boxes = F.clamp_bounding_boxes(boxes)
        target = {
            "boxes": boxes.as_subclass(Tensor),
            "labels": torch.from_numpy(self.source.labels[own]),
            "iscrowd": torch.from_numpy(self.source.crowd[own]),
            "area": torch.from_numpy(self.source.area[own]),
        }
        if self.training:
            target = _trainable(target)
        return torch.from_numpy(np.array(image)), target


def _trainable(target: dict[str, Tensor]) -> dict[str, Tensor]:
    """Boxes and labels of the single objects whose box has an area."""
    boxes = target["boxes"]
    kept = (boxes[:, 2:] > boxes[:, :2]).all(1) & ~target["iscrowd"]
    return {"boxes": boxes[kept], "labels": target["labels"][kept]}


def split_piece(loaded: LoadedImages | UserError) -> Piece:
    """Split what a worker joined; raise the error that it returned."""
    if isinstance(loaded, UserError):
        raise loaded
    for name in loaded.failed:
        warnings.warn(inert(f"{name} cannot be read and is left out."), stacklevel=2)
    lengths = [3 * height * width for height, width in loaded.sizes]
    images = []
    for pixels, (height, width) in zip(loaded.pixels.split(lengths), loaded.sizes):
        images.append(pixels.view(height, width, 3).permute(2, 0, 1))
    targets: list[dict[str, Tensor]] = [{} for _ in images]
    for key, joined in loaded.targets.items():
        for target, value in zip(targets, joined.split(loaded.objects)):
            target[key] = value
    return Piece(images, targets, loaded.index)


def _decoded_image(source: Instances, index: int, background: Colour) -> Image.Image:
    """An image, decoded and turned as its annotations see it; UserError if it cannot be read or differs in size."""
    path, (height, width) = source.name(index), source.sizes[index].tolist()
    try:
        with opened(path) as file:
            image = converted(file, background=background)
            turned = upright(image, orientation(file))
    except Exception as error:  # every decoder raises its own
        raise UserError(f"Cannot read the image {path}: restore it, or remove it from the annotations.") from error
    for each in (turned, image):  # some tools annotate the image as it is stored
        if (each.height, each.width) == (height, width):
            return each
    raise UserError(
        f"{path} is {turned.height}x{turned.width} but its annotations say {height}x{width}: fix height and width."
    )
