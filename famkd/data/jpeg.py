"""JPEG files: decoded by simplejpeg, by Pillow at a reduced scale where a small view is wanted, or on a GPU."""

import contextlib
import io
import warnings
from collections.abc import Callable

import numpy as np
import simplejpeg
import torch
from PIL import Image
from torch import Tensor

from famkd.data.pixels import WHITE, Colour, converted, opened, orientation, size_of, upright
from famkd.data.transforms import Size

END_OF_JPEG = b"\xff\xd9"
LUMA = (0.299, 0.587, 0.114)  # shares of red, green and blue in grey, by ITU-R 601
# Dimensions of a (3, H, W) image to flip for an orientation of EXIF, after height and width are swapped for 5 to 8.
FLIPS = {1: (), 2: (2,), 3: (1, 2), 4: (1,), 5: (), 6: (2,), 7: (1, 2), 8: (1,)}


def decoded_pixels(
    data: bytes, channels: int = 3, background: Colour = WHITE, reduction: Callable[[Size], int] = lambda size: 1
) -> Tensor:
    """The first frame of an image file, turned upright: (channels, H, W) uint8, channels last in memory.

    Args:
        background: colour behind transparent pixels.
        reduction: by how much an image of some size may be scaled down while it is decoded: 1, 2, 4 or 8.

    Errors: whatever the decoder raises.
    """
    with opened(io.BytesIO(data)) as image:
        factor = reduction(size_of(image)) if image.format == "JPEG" else 1
        if factor > 1:
            image.draft(None, (image.width // factor, image.height // factor))
        elif channels == 3 and (turn := _device_turn(image, data)):
            with contextlib.suppress(ValueError):  # it is strict about small damage, which Pillow ignores
                return turned(torch.from_numpy(simplejpeg.decode_jpeg(data)).permute(2, 0, 1), turn)
        shown = upright(converted(image, channels, background), orientation(image))
    pixels = torch.from_numpy(np.array(shown))
    return pixels.view(*pixels.shape[:2], channels).permute(2, 0, 1)


def device_turn(data: bytes) -> int:
    """How to turn the image of a file that a device decodes, from 1 to 8; 0 if the device would not decode it alike.

    Alike are JPEGs of 8 bits in grey or in YCbCr that are complete. Errors: whatever Pillow raises.
    """
    with opened(io.BytesIO(data)) as image:
        return _device_turn(image, data)


def _device_turn(image: Image.Image, data: bytes) -> int:
    own = image.mode in ("L", "RGB") and image.info.get("adobe_transform") != 0  # 0: RGB without a conversion
    if image.format != "JPEG" or not own or not data.endswith(END_OF_JPEG):
        return 0
    return orientation(image) if orientation(image) in FLIPS else 1


def turned(image: Tensor, orientation: int) -> Tensor:
    """A decoded (3, H, W) image turned upright as its orientation says."""
    image = image.transpose(1, 2) if orientation >= 5 else image
    return image.flip(FLIPS[orientation]) if FLIPS[orientation] else image


def with_channels(image: Tensor, channels: int) -> Tensor:
    """A (3, H, W) uint8 image in the channels that `famkd.data.pixels.converted` makes: grey, RGB or RGBA."""
    if channels == 1:
        luma = torch.tensor(LUMA, device=image.device)
        return (image.float() * luma[:, None, None]).sum(0, keepdim=True).round().to(torch.uint8)
    return image if channels == 3 else torch.cat((image, torch.full_like(image[:1], 255)))


def decoded_on(data: list[Tensor], device: torch.device | str = "cpu") -> list[Tensor]:
    """JPEG files, (bytes,) uint8 each, as (3, H, W) images on a device, by its own decoder where it has one."""
    from torchvision.io import ImageReadMode, decode_jpeg

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torchcodec, its successor, needs FFmpeg
        images = decode_jpeg(data, mode=ImageReadMode.RGB, device=device)
    return list(images)


def decoded_or_none(data: list[Tensor], device: torch.device) -> list[Tensor | None]:
    """Files as `decoded_on` decodes them; None for one that is damaged."""
    try:
        return list(decoded_on(data, device)) if data else []
    except RuntimeError:  # one of them is refused: find out which
        return [None if len(data) == 1 else decoded_or_none([each], device)[0] for each in data]


def device_decodes(device: torch.device) -> bool:
    """Whether a device can decode JPEGs; a warning if it cannot."""
    if device.type == "cuda":
        return True
    warnings.warn(f"--data.gpu_decode needs a CUDA device: the {device.type} decodes as usual.", stacklevel=3)
    return False
