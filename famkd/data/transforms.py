"""From the bytes of an image file to the pixels that a network sees."""

import hashlib
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from famkd.data.augment import NOTHING, RATIO, SCALE, USUAL, Augment

Interpolation = Literal["bilinear", "bicubic"]
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".gif", ".tif", ".tiff")  # names of image files
# Other decoders, such as PostScript's, start other programs: not for files from anywhere.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "PPM", "TIFF")
WITH_MARGIN = 128  # pixels; smaller test images belong to small data sets, which are tested without a margin


def opened(file: str | Path | IO[bytes]) -> Image.Image:
    """An image of which no pixel is read yet.

    Raises whatever the decoders raise, and an error for more pixels than Pillow's limit.
    """
    image = Image.open(file, formats=FORMATS)
    limit = Image.MAX_IMAGE_PIXELS or math.inf
    if image.width * image.height > limit:  # Pillow only warns until twice as many
        raise Image.DecompressionBombError(f"it claims to be {image.width} x {image.height}")
    return image


def decoded(data: bytes) -> Image.Image:
    """An RGB image; grey, palette and CMYK files are converted. Raises whatever the decoder raises."""
    with opened(io.BytesIO(data)) as image:
        if image.mode == "P" and "transparency" in image.info:
            return image.convert("RGBA").convert("RGB")
        return image.convert("RGB")


def decoded_on(data: list[Tensor], device: torch.device) -> list[Tensor]:
    """JPEG files, (bytes,) uint8 each, as (3, H, W) images on a device, by its own decoder where it has one."""
    from torchvision.io import ImageReadMode, decode_jpeg

    images = decode_jpeg(data, mode=ImageReadMode.RGB, device=device)
    return list(images)


def viewed(image: Image.Image | Tensor, view: Callable[[Any], Any], seed: int) -> Tensor:
    """One image through a transform whose draws follow from a seed alone: (H, W, 3) bytes."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)  # torch.manual_seed also seeds the GPUs, a hundred times as slow
    try:
        image = view(image)
    finally:
        torch.set_rng_state(state)
    if isinstance(image, Tensor):
        return image.permute(1, 2, 0)
    return torch.from_numpy(np.array(image))


@dataclass(frozen=True)
class View:
    """How images from files are scaled, cropped and recoloured."""

    test_crop: float = 0.0  # part of the shorter side that the crop of a test image keeps; 0 for the usual one
    interpolation: Interpolation = "bilinear"
    training: Augment = NOTHING


USUAL_VIEW = View()


@cache
def training_view(size: int, view: View = USUAL_VIEW) -> Callable[[Any], Any]:
    """Crop a part of the image at random, scale it to size x size, flip it every other time, and recolour it."""
    from torchvision.transforms import InterpolationMode, v2

    augment = view.training
    scaled = InterpolationMode(view.interpolation)
    scale: Any = augment.crop_scale or SCALE
    ratio: Any = augment.crop_ratio or RATIO
    steps: list[Any] = [v2.RandomResizedCrop(size, scale, ratio, scaled, antialias=True), v2.RandomHorizontalFlip()]
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
def plain_view(size: int, view: View = USUAL_VIEW) -> Callable[[Any], Any]:
    """Scale the shorter side to 8/7 of the size (256 for 224) and crop the centre; below 128 px without that margin.

    `view.test_crop` sets another margin.
    """
    from torchvision.transforms import InterpolationMode, v2

    shorter = round(size * 8 / 7) if size >= WITH_MARGIN else size
    if view.test_crop:
        shorter = round(size / view.test_crop)
    longest = 64 * shorter  # without it a line of pixels would be scaled to gigabytes before its centre is cut out
    scaled = InterpolationMode(view.interpolation)
    return v2.Compose([v2.Resize(shorter, scaled, max_size=longest, antialias=True), v2.CenterCrop(size)])


def seed_of(*numbers: int) -> int:
    """A seed that differs for every other tuple of numbers, however close."""
    text = ",".join(map(str, numbers)).encode()
    digest = hashlib.blake2b(text, digest_size=7).digest()
    return int.from_bytes(digest, "big")
