"""From the pixels of an image to those that a network sees, and decoding on a device."""

import hashlib
import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from famkd.data.augment import NOTHING, RATIO, SCALE, USUAL, Augment
from famkd.data.pixels import opened, orientation
from famkd.errors import UserError

Size = tuple[int, int]  # height and width
Interpolation = Literal["bilinear", "bicubic"]

WITH_MARGIN = 128  # pixels; smaller test images belong to small data sets, which are tested without a margin
LONGEST = 64  # sides of the size; without it a line of pixels would be scaled to gigabytes before its centre is cut out
LUMA = (0.299, 0.587, 0.114)  # shares of red, green and blue in grey, by ITU-R 601
END_OF_JPEG = b"\xff\xd9"
# Dimensions of a (3, H, W) image to flip for an orientation of EXIF, after height and width are swapped for 5 to 8.
FLIPS = {1: (), 2: (2,), 3: (1, 2), 4: (1,), 5: (), 6: (2,), 7: (1, 2), 8: (1,)}


def size_from(text: int | str) -> Size | None:
    """Height and width from 64, "64" or "96x64" (height x width); None for 0. UserError for others."""
    found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", str(text).strip().lower())
    height, width = (int(found[1]), int(found[2] or found[1])) if found else (-1, -1)
    if (height, width) == (0, 0):
        return None
    if height < 1 or width < 1:
        raise UserError(f"{str(text)[:40]!r} is no size in pixels: write 64, or 96x64 for height x width.")
    return height, width


def device_turn(data: bytes) -> int:
    """How to turn the image of a file that a device decodes, from 1 to 8; 0 if the device would not decode it alike.

    Alike are JPEGs of 8 bits in grey or in YCbCr that are complete. Errors: whatever Pillow raises.
    """
    with opened(io.BytesIO(data)) as image:
        own = image.mode in ("L", "RGB") and image.info.get("adobe_transform") != 0  # 0: RGB without a conversion
        if image.format != "JPEG" or not own or not data.endswith(END_OF_JPEG):
            return 0
        return orientation(image) if orientation(image) in FLIPS else 1


def turned(image: Tensor, orientation: int) -> Tensor:
    """A decoded (3, H, W) image turned upright as its orientation says."""
    image = image.transpose(1, 2) if orientation >= 5 else image
    return image.flip(FLIPS[orientation])


def as_rgb(pixels: Tensor) -> Tensor:
    """Images (B, H, W, C) uint8 as people look at them, (B, H, W, 3): grey is repeated, alpha lies on white.

    Of five or more channels the first three are shown, of two the first one.
    """
    channels = pixels.shape[-1]
    if channels == 4:
        alpha = pixels[..., 3:].float() / 255
        return (pixels[..., :3] * alpha + 255 * (1 - alpha)).round().to(torch.uint8)
    return pixels[..., :3] if channels >= 3 else pixels[..., :1].expand(*pixels.shape[:-1], 3)


def with_channels(image: Tensor, channels: int) -> Tensor:
    """A (3, H, W) uint8 image in the channels that `famkd.data.pixels.converted` makes: grey, RGB or RGBA."""
    if channels == 1:
        luma = torch.tensor(LUMA, device=image.device)
        return (image.float() * luma[:, None, None]).sum(0, keepdim=True).round().to(torch.uint8)
    return image if channels == 3 else torch.cat((image, torch.full_like(image[:1], 255)))


def decoded_on(data: list[Tensor], device: torch.device) -> list[Tensor]:
    """JPEG files, (bytes,) uint8 each, as (3, H, W) images on a device, by its own decoder where it has one."""
    from torchvision.io import ImageReadMode, decode_jpeg

    images = decode_jpeg(data, mode=ImageReadMode.RGB, device=device)
    return list(images)


def decoded_or_none(data: list[Tensor], device: torch.device) -> list[Tensor | None]:
    """Files as `decoded_on` decodes them; None for one that is damaged."""
    try:
        return list(decoded_on(data, device)) if data else []
    except RuntimeError:  # one of them is refused: find out which
        return [None if len(data) == 1 else decoded_or_none([each], device)[0] for each in data]


def viewed(image: Image.Image | Tensor, view: Callable[[Any], Any], seed: int) -> Tensor:
    """One image through a transform whose draws follow from a seed alone: (H, W, C) bytes."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)  # torch.manual_seed also seeds the GPUs, a hundred times as slow
    try:
        image = view(image)
    finally:
        torch.set_rng_state(state)
    if isinstance(image, Tensor):
        return image.permute(1, 2, 0)
    pixels = torch.from_numpy(np.array(image))
    return pixels if pixels.ndim == 3 else pixels[..., None]


@dataclass(frozen=True)
class View:
    """How images from files are scaled, cropped and recoloured."""

    test_crop: float = 0.0  # part of the shorter side that the crop of a test image keeps; 0 for the usual one
    interpolation: Interpolation = "bilinear"
    training: Augment = NOTHING


USUAL_VIEW = View()


@cache
def training_view(size: int | Size, settings: View = USUAL_VIEW) -> Callable[[Any], Any]:
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
def plain_view(size: int | Size, settings: View = USUAL_VIEW) -> Callable[[Any], Any]:
    """Scale the image until it covers 8/7 of the size (256 for 224) and crop the centre.

    Below 128 pixels it covers the size itself, without that margin. `settings.test_crop` sets another margin.
    """
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    height, width = _pair(size)
    margin = 8 / 7 if min(height, width) >= WITH_MARGIN else 1
    if settings.test_crop:
        margin = 1 / settings.test_crop
    covered = (round(height * margin), round(width * margin))
    mode = InterpolationMode(settings.interpolation)

    def view(image: Any) -> Any:
        own_height, own_width = F.get_size(image)
        scaled = F.resize(image, list(_covering(own_height, own_width, *covered)), mode, antialias=True)
        return F.center_crop(scaled, [height, width])

    return view


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


def seed_of(*numbers: int) -> int:
    """A seed that differs for every other tuple of numbers, however close."""
    text = ",".join(map(str, numbers)).encode()
    digest = hashlib.blake2b(text, digest_size=7).digest()
    return int.from_bytes(digest, "big")


def device_decodes(device: torch.device) -> bool:
    """Whether a device can decode JPEGs; a warning if it cannot."""
    if device.type == "cuda":
        return True
    warnings.warn(f"--data.gpu_decode needs a CUDA device: the {device.type} decodes as usual.", stacklevel=3)
    return False
