"""How a network wants its images: their size and normalisation, found in the network itself."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from famkd.errors import UserError
from famviz.networks.images import Picture

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and standard deviation
SIDE = 224  # pixels, of a network that names no size
CROP = 0.875  # share of the shorter side that ImageNet networks are tested on
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
Transform = Callable[[Any], Tensor]  # a picture to (3, H, W)


@dataclass(frozen=True)
class Preparation:
    """Size and normalisation of the images of a network. Call it with a picture to get a tensor (3, H, W)."""

    size: tuple[int, int]  # height and width, pixels
    mean: Sequence[float] = IMAGENET[0]
    std: Sequence[float] = IMAGENET[1]
    interpolation: str = "bicubic"
    named: bool = True  # whether the network names its size; others take smaller pictures as they are

    def __call__(self, picture: Picture) -> Tensor:
        if isinstance(picture, Tensor):
            return picture
        pixels = np.array(self.resized(picture), np.float32) / 255
        values = torch.from_numpy(pixels).permute(2, 0, 1)
        return (values - torch.tensor(self.mean)[:, None, None]) / torch.tensor(self.std)[:, None, None]

    def resized(self, picture: Image.Image) -> Image.Image:
        """The picture at the size of the network. Of one that names no size, smaller pictures stay as they are."""
        height, width = self.size
        if not self.named:
            height, width = min(height, picture.height), min(width, picture.width)
        if picture.size == (width, height):
            return picture
        return picture.resize((width, height), FILTERS.get(self.interpolation, FILTERS["bicubic"]))


def preparation_of(model: nn.Module) -> Preparation:
    """What a model of timm says of its images, and a vision transformer of its size; else 224 pixels as on ImageNet."""
    config: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    size = _built_for(model) or config.get("input_size", (3, 0, 0))[1:]
    height, width = (size, size) if isinstance(size, int) else map(int, size)
    mean, std = config.get("mean", IMAGENET[0]), config.get("std", IMAGENET[1])
    interpolation = config.get("interpolation", "bicubic")
    return Preparation((height or SIDE, width or SIDE), mean, std, interpolation, named=bool(height))


def _built_for(model: nn.Module) -> Any:
    """The size that the patches of a network were laid out for, as timm and torchvision keep it, or None."""
    sizes = (getattr(module, "img_size", None) for module in model.modules())
    return getattr(model, "image_size", None) or next(filter(None, sizes), None)


def framed(picture: Image.Image, sides: Sequence[tuple[int, int]], crop: float = CROP) -> Image.Image:
    """The part of a picture that all networks see: the largest centre of their shape, times `crop`.

    A picture is not cropped below the largest size that a network takes.
    """
    height, width = max(sides)
    scale = min(picture.width / width, picture.height / height)
    scale = max(crop * scale, min(scale, 1.0))
    box_width, box_height = round(scale * width), round(scale * height)
    left, top = (picture.width - box_width) // 2, (picture.height - box_height) // 2
    return picture.crop((left, top, left + box_width, top + box_height))


def as_bytes(images: Tensor, transform: Transform | None) -> np.ndarray:
    """Normalised images (B, 3, H, W) as bytes (B, H, W, 3).

    The normalisation is undone where the transform names it; otherwise each image is scaled to its own range.
    """
    known = normalisation(transform)
    if known:
        mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in known)
        scaled = (images.cpu() * std + mean).clamp(0, 1)
    else:
        low = images.amin((1, 2, 3), keepdim=True)
        high = images.amax((1, 2, 3), keepdim=True)
        scaled = ((images - low) / (high - low).clamp_min(1e-6)).cpu()
    return (scaled * 255).round().permute(0, 2, 3, 1).byte().numpy()


def normalisation(transform: Any) -> tuple[list[float], list[float]] | None:
    """Mean and standard deviation that a transform of torchvision or a preparation normalises with, or None."""
    for step in _steps(transform):
        mean, std = getattr(step, "mean", None), getattr(step, "std", None)
        if mean is not None and std is not None:
            found = [np.asarray(each, float).ravel().tolist() for each in (mean, std)]
            return (found[0] * 3, found[1] * 3) if len(found[0]) == 1 else (found[0], found[1])
    return None


def _steps(transform: Any) -> Iterator[Any]:
    yield transform
    inner = getattr(transform, "transforms", ())
    for step in inner if isinstance(inner, list | tuple) else ():
        yield from _steps(step)


def checked(prepared: Any, name: str) -> Tensor:
    """What a transform returned, if it is one image as a tensor."""
    if not isinstance(prepared, Tensor) or prepared.ndim != 3 or not prepared.is_floating_point():
        kind = tuple(prepared.shape) if isinstance(prepared, Tensor) else type(prepared).__name__
        raise UserError(f"The transform of {name} must return floats (3, H, W), not {kind}.")
    return prepared
