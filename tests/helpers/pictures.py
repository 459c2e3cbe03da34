"""Pictures whose classes are easy to tell, and shards of them."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("dark", "mid", "light")


def picture(number: int, label: int) -> Image.Image:
    """Noise whose brightness tells its class, of another size each time."""
    draw = np.random.default_rng(100 * label + number)
    shape = (40 + 3 * number, 60 - 2 * number, 3)
    return Image.fromarray((draw.integers(0, 60, shape) + 80 * label).astype(np.uint8))


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def pack(root: Path, split: str, per_shard: int, count: int) -> None:
    """`count` samples of each class, in order of number, so that every shard holds all classes."""
    (root / split).mkdir(parents=True)
    samples = [(f"{n:03d}{label}", label, jpeg(picture(n, label))) for n in range(count) for label in range(3)]
    for first in range(0, len(samples), per_shard):
        with tarfile.open(root / split / f"{first // per_shard:05d}.tar", "w") as tar:
            for key, label, data in samples[first : first + per_shard]:
                for ending, content in (("cls", str(label).encode()), ("jpg", data), ("json", b"{}")):
                    info = tarfile.TarInfo(f"{key}.{ending}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
