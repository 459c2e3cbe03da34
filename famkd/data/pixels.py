"""From an image of any kind that Pillow opens to bytes: grey, RGB or RGBA, upright, without transparency."""

import io
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageColor

from famkd.errors import UserError

# Decoders of this process only: others, such as PostScript's, start other programs. HEIF and JXL need a plug-in.
FORMATS = (
    "JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "HEIF", "JXL", "PCX", "SGI",
    "QOI", "TGA",
)  # fmt: skip
# Names of image files, for every reader of folders and shards. A file that this Pillow cannot read is reported.
ENDINGS = (
    ".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".gif", ".tif", ".tiff", ".jpe", ".jfif", ".mpo", ".apng", ".dib",
    ".pgm", ".pbm", ".pnm", ".pfm", ".avif", ".jp2", ".j2k", ".jpx", ".heic", ".heif", ".jxl", ".pcx", ".sgi", ".qoi",
    ".tga",
)  # fmt: skip
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by number of channels
WHITE = (255, 255, 255)
ORIENTATION = 0x0112  # tag of EXIF and TIFF: how to turn the stored image, from 1 (not at all) to 8
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)  # orientations that swap height and width
BITS, WHITE_IS, SAMPLES, WIDTH, HEIGHT = 258, 262, 339, 256, 257  # tags of TIFF

Colour = tuple[int, int, int]


def opened(file: str | Path | IO[bytes]) -> Image.Image:
    """An image of which no pixel is read yet.

    Errors: whatever the decoders raise, and an error for more pixels than Pillow's limit.
    """
    image = Image.open(file, formats=_formats())
    limit = Image.MAX_IMAGE_PIXELS or math.inf
    if image.width * image.height > limit:  # Pillow only warns until twice as many
        raise Image.DecompressionBombError(f"it claims to be {image.width} x {image.height}")
    return image


def decoded(data: bytes, channels: int = 3, background: Colour = WHITE) -> Image.Image:
    """The first frame of an image file as `converted` makes it, turned upright. Raises whatever the decoder raises."""
    with opened(io.BytesIO(data)) as image:
        return upright(converted(image, channels, background), orientation(image))


def converted(image: Image.Image, channels: int = 3, background: Colour = WHITE) -> Image.Image:
    """An image of any mode in bytes: L for 1 channel, RGB for 3, RGBA for 4.

    16-bit grey is scaled by 255 / 65535, as black and white are fixed by its type. Transparent pixels are composed on
    the background, except for 4 channels. Colours become grey by their luma (ITU-R 601).

    Errors: ValueError for floats, signed and 32-bit integers, as `check_range` does.
    """
    check_range(image)
    mode = MODES[channels]
    grey = _scaled(image) if image.mode[0] in "IF" else image
    if _has_alpha(image):
        return _composed(_with_alpha(image, grey), mode, background)
    if grey.mode not in ("L", "RGB"):
        grey = grey.convert("RGB")
    return grey.convert(mode)


def orientation(image: Image.Image) -> int:
    """How a decoded image is to be turned, from 1 (not at all) to 8, as its EXIF data says."""
    if image.format == "TIFF":  # Pillow turns these while it decodes
        return 1
    return _in_exif(image.getexif)


def upright(image: Image.Image, turned: int) -> Image.Image:
    """A decoded image turned as its orientation says; unknown orientations turn nothing."""
    return image.transpose(TURNS[turned]) if turned in TURNS else image


def size_of(image: Image.Image) -> tuple[int, int]:
    """Height and width of an opened image once it is turned upright, from its header."""
    height, width = image.height, image.width
    if image.format == "TIFF":  # only newer versions of Pillow have swapped the two already
        tags = getattr(image, "tag_v2", {})
        height, width, turned = tags.get(HEIGHT, height), tags.get(WIDTH, width), tags.get(ORIENTATION, 1)
    else:
        turned = _in_exif(lambda: Image.Image.getexif(image))  # that of a PNG would decode it
    return (width, height) if turned in SIDEWAYS else (height, width)


def colour(name: str) -> Colour:
    """A colour by its name or as #rrggbb; UserError for others."""
    try:
        red, green, blue = ImageColor.getrgb(name)[:3]
    except ValueError as error:
        raise UserError(f"There is no colour {name[:40]!r}: pass a name such as white or black, or #808080.") from error
    return red, green, blue


def check_range(image: Image.Image) -> None:
    """ValueError for an opened image whose type does not tell which values are black and white."""
    signed = set(getattr(image, "tag_v2", {}).get(SAMPLES, ())) - {1, 4}  # 1: unsigned, 4: not said
    wide = image.mode == "I" and image.format not in ("PNG", "PPM")  # these two have 16 bits
    if image.mode == "F" or wide or signed:
        kind = "float" if image.mode == "F" else "signed or 32-bit integer"
        raise ValueError(f"{kind} pixels of unknown range: save them as 8-bit or unsigned 16-bit")


def _in_exif(read: Callable[[], Image.Exif]) -> int:
    try:
        return int(read().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF data do not make an image unreadable; each kind of damage raises its own error
        return 1


def _scaled(image: Image.Image) -> Image.Image:
    """Grey pixels of more than 8 bits as bytes, rounded to the nearest."""
    tags = getattr(image, "tag_v2", {})
    white = (1 << min(tags.get(BITS, (16,)))) - 1  # the 12 bits of a TIFF come as they are
    values = np.asarray(image).astype(np.uint32)
    if tags.get(WHITE_IS) == 0:  # Pillow inverts such a TIFF of 8 bits, not one of 16
        values = white - values
    return Image.fromarray(((values * 255 + white // 2) // white).astype(np.uint8))


def _has_alpha(image: Image.Image) -> bool:
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return True
    return image.mode == "P" and image.palette is not None and image.palette.mode.endswith("A")


def _with_alpha(image: Image.Image, grey: Image.Image) -> Image.Image:
    """The image as RGBA. `grey` is the same one in bytes, where it has more than 8 bits."""
    key = image.info.get("transparency")
    if grey is not image:  # one grey value is transparent
        alpha = np.where(np.asarray(image) == key, 0, 255).astype(np.uint8)
        return Image.merge("LA", (grey, Image.fromarray(alpha))).convert("RGBA")
    if image.mode == "RGB" and isinstance(key, tuple) and max(key) > 255:  # of 16 bits, of which Pillow reads 8
        image.info["transparency"] = tuple(value >> 8 for value in key)
    if image.mode in ("La", "RGBa"):
        return image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
    return image.convert("RGBA")


def _composed(image: Image.Image, mode: str, background: Colour) -> Image.Image:
    """An RGBA image in another mode, its transparent pixels on a background."""
    if mode == "RGBA":
        return image
    flat = Image.new("RGB", image.size, background)
    flat.paste(image, mask=image.getchannel("A"))
    return flat.convert(mode)


@cache
def _formats() -> tuple[str, ...]:
    """Those of FORMATS that this Pillow knows, once all of its decoders are loaded."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)
