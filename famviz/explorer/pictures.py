"""Pictures as bytes for a browser: PNG where they are small, JPEG where they are photographs."""

import io

import numpy as np
from PIL import Image

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
