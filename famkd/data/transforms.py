"""From the pixels of an image to those that a network sees."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from famkd.data.augment import NOTHING, RATIO, SCALE, USUAL, Augment
from famkd.data.seeded import drawing
from famkd.errors import UserError

Size = tuple[int, int]  # height and width
Interpolation = Literal["bilinear", "bicubic"]

WITH_MARGIN = 128  # pixels; smaller test images belong to small data sets, which are tested without a margin
LONGEST = 64  # sides of the size; without it a line of pixels would be scaled to gigabytes before its centre is cut out
REDUCED = (8, 4, 2)  # scales at which a JPEG can be decoded, as divisors
GAP = 2  # how many times larger than the view a reduced image stays, as `Image.thumbnail` of Pillow has it by default


def size_from(text: int | str) -> Size | None:
    """Height and width from 64, "64" or "96x64" (height x width); None for 0. UserError for others."""
    found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", str(text).strip().lower())
    height, width = (int(found[1]), int(found[2] or found[1])) if found else (-1, -1)
    if (height, width) == (0, 0):
        return None
    if height < 1 or width < 1:
        raise UserError(f"{str(text)[:40]!r} is no size in pixels: write 64, or 96x64 for height x width.")
    return height, width


def as_rgb(pixels: Tensor) -> Tensor:
    """Images (B, H, W, C) uint8 as people look at them, (B, H, W, 3): grey is repeated, alpha lies on white.

    Of five or more channels the first three are shown, of two the first one.
    """
    channels = pixels.shape[-1]
    if channels == 4:
        alpha = pixels[..., 3:].float() / 255
        return (pixels[..., :3] * alpha + 255 * (1 - alpha)).round().to(torch.uint8)
    return pixels[..., :3] if channels >= 3 else pixels[..., :1].expand(*pixels.shape[:-1], 3)


def normalised(pixels: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Bytes (B, H, W, C) as floats (B, C, H, W), channels last in memory.

    Args:
        scale, shift: of each value in a row of pixels, (W * C,).
    """
    rows = pixels.flatten(2)  # a tensor of three numbers is slow to broadcast
    if pixels.device.type == "cpu":
        images = torch.empty(rows.shape)
        for image, row in zip(images, rows):  # one at a time stays in the cache
            torch.addcmul(shift, row.float(), scale, out=image)
    else:
        images = torch.addcmul(shift, rows.float(), scale)
    return images.view(pixels.shape).permute(0, 3, 1, 2)


def viewed(image: Image.Image | Tensor, view: Callable[[Any], Any], seed: int) -> Tensor:
    """One image through a transform whose draws follow from a seed alone: (H, W, C) bytes."""
    with drawing(seed):
        image = view(image)
    if isinstance(image, Tensor):
        return image.permute(1, 2, 0)
    pixels = torch.from_numpy(np.array(image))
    return pixels if pixels.ndim == 3 else pixels[..., None]


@dataclass(frozen=True)
class Preprocessing:
    """How images from files are scaled, cropped and recoloured."""

    test_crop: float = 0.0  # part of the shorter side that the crop of a test image keeps; 0 for the usual one
    interpolation: Interpolation = "bilinear"
    training: Augment = NOTHING


USUAL_PREPROCESSING = Preprocessing()


@cache
def training_view(size: int | Size, settings: Preprocessing = USUAL_PREPROCESSING) -> Callable[[Any], Any]:
    """Crop a part of the image at random, scale it to the size, flip it every other time, and recolour it."""
    from torchvision.transforms import InterpolationMode, v2

    augment = settings.training
    height, width = _pair(size)
    scale: Any = augment.crop_scale or SCALE
    low, high = augment.crop_ratio or RATIO
    ratio = (low * (width / height), high * (width / height))
    scaled = InterpolationMode(settings.interpolation)
    crop = v2.RandomResizedCrop((height, width), scale, ratio, scaled, antialias=True)
    steps: list[Any] = [crop, v2.RandomHorizontalFlip()]
    if augment.recolours:
        steps.append(v2.ToPILImage())  # Pillow's operations are faster on a CPU than those on tensors
    if augment.jitter:  # one after the other, since ColorJitter with all three draws their order too
        kinds = ("brightness", "contrast", "saturation")
        steps += [v2.ColorJitter(**{kind: augment.jitter}) for kind in kinds]
    if augment.policy == "randaugment":
        steps.append(v2.RandAugment(magnitude=augment.strength or USUAL["randaugment"]))
    elif augment.policy == "trivialaugment":
        steps.append(v2.TrivialAugmentWide())
    elif augment.policy == "augmix":
        steps.append(v2.AugMix(severity=augment.strength or USUAL["augmix"]))
    return v2.Compose(steps)


@cache
def plain_view(size: int | Size, settings: Preprocessing = USUAL_PREPROCESSING) -> Callable[[Any], Any]:
    """Scale the image until it covers 8/7 of the size (256 for 224) and crop the centre.

    Below 128 pixels it covers the size itself, without that margin. `settings.test_crop` sets another margin.
    """
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    height, width = _pair(size)
    mode = InterpolationMode(settings.interpolation)

    def view(image: Any) -> Any:
        own_height, own_width = F.get_size(image)
        scaled = F.resize(image, list(_scaled((own_height, own_width), size, settings)), mode, antialias=True)
        return F.center_crop(scaled, [height, width])

    return view


def reduction(own: Size, size: int | Size, settings: Preprocessing, seed: int | None) -> int:
    """By how much an image may be scaled down while it is decoded: 1, 2, 4 or 8.

    What is cut from the reduced image is at least `GAP` times as large as the size. Photographs of cameras are so
    decoded several times as fast.

    Args:
        own: height and width of the whole image.
        seed: that of the training view; None for the plain view.
    """
    height, width = _pair(size)
    if min(own[0] / height, own[1] / width) < GAP * min(REDUCED):
        return 1
    if seed is None:
        larger = own[0] / _scaled(own, size, settings)[0]
    else:
        crop: Any = training_view(size, settings)
        with drawing(seed):  # the crop is what is drawn first
            box = crop.transforms[0].make_params([torch.empty(3, *own, device="meta")])
        larger = min(box["height"] / height, box["width"] / width)
    return next((factor for factor in REDUCED if larger >= GAP * factor), 1)


def _scaled(own: Size, size: int | Size, settings: Preprocessing) -> Size:
    """What a test image is scaled to before its centre is cut out."""
    height, width = _pair(size)
    margin = 8 / 7 if min(height, width) >= WITH_MARGIN else 1
    if settings.test_crop:
        margin = 1 / settings.test_crop
    return _covering(*own, round(height * margin), round(width * margin))


def _covering(own_height: int, own_width: int, height: int, width: int) -> Size:
    """The smallest size of the image's shape that covers a height and a width."""
    if height * own_width >= width * own_height:  # the height decides
        scaled = (height, max(width, height * own_width // own_height))
    else:
        scaled = (max(height, width * own_height // own_width), width)
    longest = LONGEST * max(height, width)
    if max(scaled) <= longest:
        return scaled
    return tuple(max(1, longest * side // max(scaled)) for side in scaled)  # pyright: ignore[reportReturnType]


def _pair(size: int | Size) -> Size:
    return (size, size) if isinstance(size, int) else size
