"""From the bytes of an image file to the pixels that a network sees."""

import hashlib
import io
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

# what the decoders of other kinds of files do, such as PostScript's, is not for data from anywhere
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "PPM", "TIFF")

WHOLE = 128  # pixels: test images smaller than this are small sets' own, taken without a margin


def opened(file: str | Path | IO[bytes]) -> Image.Image:
    """A picture of which no pixel is read yet; raises what decoders raise, and for more pixels than Pillow allows."""
    image = Image.open(file, formats=FORMATS)
    if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):  # Pillow itself decodes up to twice as many
        raise Image.DecompressionBombError(f"it claims to be {image.width} x {image.height}")
    return image


def decoded(data: bytes) -> Image.Image:
    """An RGB picture; grey, palette and CMYK files are converted. Whatever the decoder raises for a damaged file."""
    with opened(io.BytesIO(data)) as image:
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")
        return image.convert("RGB")


def decoded_on(data: list[Tensor], device: torch.device) -> list[Tensor]:
    """JPEG files, (bytes,) uint8 each, as (3, H, W) pictures on a device, by its own decoder where it has one."""
    from torchvision.io import ImageReadMode, decode_jpeg

    return decode_jpeg(data, mode=ImageReadMode.RGB, device=device)


def viewed(image: Image.Image | Tensor, view: Callable, seed: int) -> Tensor:
    """One picture through a transform whose draws follow from a seed alone: (H, W, 3) bytes."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would visit the GPUs too, a hundred times as slow
    try:
        image = view(image)
    finally:
        torch.set_rng_state(state)
    return image.permute(1, 2, 0) if isinstance(image, Tensor) else torch.from_numpy(np.array(image))


@cache
def training_view(size: int) -> Callable:
    """A random part of the picture, 8 to 100 % of its area, scaled to size x size and flipped every other time."""
    from torchvision.transforms import v2

    return v2.Compose([v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()])


@cache
def plain_view(size: int) -> Callable:
    """The middle of the picture, its shorter side made 8/7 of the size (256 for 224); below 128 px without margin."""
    from torchvision.transforms import v2

    margin = round(size * 8 / 7) if size >= WHOLE else size
    longest = 64 * margin  # else a line of pixels would become a picture of gigabytes before its middle is cut out
    return v2.Compose([v2.Resize(margin, max_size=longest, antialias=True), v2.CenterCrop(size)])


def seed_of(*numbers: int) -> int:
    """A seed that is another for every other set of numbers, however close."""
    text = ",".join(map(str, numbers)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big")
