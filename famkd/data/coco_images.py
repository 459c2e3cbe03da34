"""Images with boxes as worker processes read them: decoded, scaled and flipped together with their boxes."""

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from famkd.data.coco_annotations import Instances
from famkd.data.transforms import decoded
from famkd.errors import UserError

Key = tuple[int, int, bool]  # number of an image, pixels of its shorter side, whether it is flipped


class Piece(NamedTuple):
    """One process's part of a step, ready to go to the device."""

    images: list[Tensor]  # (3, H, W) uint8, each of its own size
    targets: list[dict[str, Tensor]]
    index: Tensor  # (B,)


class _LoadedImages(NamedTuple):
    """Some images as a worker process returns them: few tensors, because each tensor costs an open file."""

    pixels: Tensor  # uint8, the (H, W, 3) pixels of all images in a row
    sizes: list[tuple[int, int]]  # height and width of each image
    targets: dict[str, Tensor]  # of the objects of all images in a row
    objects: list[int]  # objects in each image
    index: Tensor  # (B,)


class BoxImages(Dataset):
    """The images of one json, decoded, scaled and flipped together with their boxes.

    Args:
        longest: most pixels of the longer side.
        training: clip boxes to the image, and leave out crowds and boxes without area.
    """

    def __init__(self, source: Instances, longest: int, training: bool):
        self.source, self.longest, self.training = source, longest, training

    def __getitems__(self, keys: list[Key]) -> _LoadedImages | UserError:
        """The batch of some keys. An error is returned: one raised in a worker would arrive as a traceback's text."""
        try:
            images, targets = zip(*(self.one(*key) for key in keys))
        except UserError as error:
            return error
        return _LoadedImages(
            pixels=torch.cat([image.flatten() for image in images]),
            sizes=[(image.shape[0], image.shape[1]) for image in images],
            targets={key: torch.cat([target[key] for target in targets]) for key in targets[0]},
            objects=[len(target["boxes"]) for target in targets],
            index=torch.tensor([index for index, _, _ in keys]),
        )

    def one(self, index: int, side: int, flip: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """(H, W, 3) bytes of an image, and its target."""
        from torchvision.transforms.v2 import functional as F
        from torchvision.tv_tensors import BoundingBoxes

        image = _decoded_image(self.source, index)
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


def split_piece(loaded: _LoadedImages | UserError) -> Piece:
    """Split what a worker joined; raise the error that it returned."""
    if isinstance(loaded, UserError):
        raise loaded
    lengths = [3 * height * width for height, width in loaded.sizes]
    images = []
    for pixels, (height, width) in zip(loaded.pixels.split(lengths), loaded.sizes):
        images.append(pixels.view(height, width, 3).permute(2, 0, 1))
    targets: list[dict[str, Tensor]] = [{} for _ in images]
    for key, joined in loaded.targets.items():
        for target, value in zip(targets, joined.split(loaded.objects)):
            target[key] = value
    return Piece(images, targets, loaded.index)


def _decoded_image(source: Instances, index: int) -> Image.Image:
    """An image, decoded; UserError if it cannot be read or has another size than its annotations say."""
    path = source.folder / str(source.names[index])
    try:
        image = decoded(path.read_bytes())
    except Exception as error:  # every decoder raises its own
        raise UserError(f"Cannot read the image {path}: restore it, or remove it from the annotations.") from error
    height, width = source.sizes[index].tolist()
    if (image.height, image.width) != (height, width):
        raise UserError(
            f"{path} is {image.height}x{image.width} but its annotations say {height}x{width}: fix height and width."
        )
    return image
