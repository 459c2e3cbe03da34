"""Pictures as bytes for a browser: PNG where they are small, JPEG where they are photographs. And tables of colours."""

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image

from famviz import spectra
from famviz.explorer.page import base64_text

LOSSLESS = 96  # pixels of the longer side up to which a picture is a PNG
QUALITY = 88  # of a JPEG
THUMB = 96  # pixels of the longer side of a thumbnail


def encoded(pixels: np.ndarray, lossless: bool | None = None) -> bytes:
    """A picture (H, W, 3) uint8 as the bytes of a file; by default lossless if it is small."""
    small = max(pixels.shape[:2]) <= LOSSLESS if lossless is None else lossless
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, **({"format": "PNG"} if small else {"format": "JPEG", "quality": QUALITY}))
    return buffer.getvalue()


def thumbnail(pixels: np.ndarray) -> bytes:
    """A picture (H, W, 3) uint8, at most 96 pixels on its longer side, as the bytes of a file."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((THUMB, THUMB), Image.Resampling.BILINEAR)
    return encoded(np.asarray(picture), lossless=max(pixels.shape[:2]) <= LOSSLESS)


def colour_tables(colormaps: Mapping[str, str]) -> dict[str, str]:
    """The colours of matplotlib's maps, by a name of ours, as base64 of (256, 3) bytes."""
    return {name: coded_table(spectra.colour_table(colormap)) for name, colormap in colormaps.items()}


def coded_table(colours: np.ndarray) -> str:
    """Colours (256, 3) in 0..1 as base64 of bytes."""
    return base64_text(np.rint(colours * 255).astype(np.uint8).tobytes())
