"""Read the same WebDataset shards by famkd and by the `webdataset` library: speed, order and resuming.

    pip install webdataset
    python benchmarks/shards.py FOLDER [--images 4000] [--rounds 5]

FOLDER receives `train-0000.tar` and so on: JPEGs of 256 px with their classes, made on the first run. Speeds are CPU
time of reading and decoding without augmentation, in this process, in turn. Resuming is the CPU time from the start
of an epoch to the first image after its middle.
"""

import io
import statistics
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset
from PIL import Image
from tyro.conf import Positional

from famkd.command_line.main import run_script
from famkd.data.pixels import decoded
from famkd.data.webdataset import ShardSource
from famkd.run.environment import environment_info

PER_SHARD = 500
BUFFER = 1000  # images that webdataset shuffles, its documentation's example


def write_shards(folder: Path, images: int) -> None:
    """Tars of random smooth pictures, as large as typical JPEGs."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    for first in range(0, images, PER_SHARD):
        with tarfile.open(folder / f"train-{first // PER_SHARD:04d}.tar", "w") as tar:
            for number in range(first, min(first + PER_SHARD, images)):
                coarse = Image.fromarray(draw.integers(0, 256, (40, 40, 3), np.uint8))
                buffer = io.BytesIO()
                coarse.resize((256, 256), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
                for ending, content in (("jpg", buffer.getvalue()), ("cls", str(number % 10).encode())):
                    info = tarfile.TarInfo(f"{number:06d}.{ending}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))


def ours(folder: Path, epoch: int, done: int = 0) -> Iterator[str]:
    """Names of the images that an epoch decodes, from the one after `done`."""
    source = ShardSource(str(folder))
    order = source.order(torch.Generator().manual_seed(epoch)).tolist()
    for index in order[done:]:
        decoded(source.read(index))
        yield source.name(index)


def theirs(folder: Path, epoch: int, done: int = 0) -> Iterator[str]:
    """The same by webdataset: shards and a buffer of images are shuffled by the epoch."""
    library: Any = webdataset  # its names are not typed
    urls = [str(path) for path in sorted(folder.glob("*.tar"))]
    data = library.WebDataset(urls, shardshuffle=100, detshuffle=True, seed=epoch)
    data = data.compose(library.detshuffle(BUFFER, seed=epoch))
    for number, sample in enumerate(data):
        if number >= done:  # it has no way to begin elsewhere
            decoded(sample["jpg"])
            yield sample["__key__"]


def rate(names: Iterator[str]) -> float:
    start = time.process_time()
    count = sum(1 for _ in names)
    return count / (time.process_time() - start)


def first_after(make: Callable[..., Iterator[str]], folder: Path, done: int) -> float:
    start = time.process_time()
    next(make(folder, 1, done))
    return time.process_time() - start


def shards(folder: Positional[Path], images: int = 4000, rounds: int = 5) -> None:
    """Read the shards of a folder in turn, which are made if there are none, and print speeds."""
    torch.set_num_threads(1)
    if not list(folder.glob("*.tar")):
        write_shards(folder, images)
    kinds = {"famkd": ours, "webdataset": theirs}
    for make in kinds.values():
        rate(make(folder, 1))
    rates = [{name: rate(make(folder, 1)) for name, make in kinds.items()} for _ in range(rounds)]
    resumed = [{name: first_after(make, folder, images // 2) for name, make in kinds.items()} for _ in range(rounds)]
    machine = environment_info("cpu")
    print(f"{machine['device']}, torch {machine['torch']}, webdataset {webdataset.__version__}, {images} images")
    for name, make in kinds.items():
        own, late = ([each[name] for each in rows] for rows in (rates, resumed))
        again = list(make(folder, 1)) == list(make(folder, 1))
        print(
            f"{name:12} {statistics.median(own):6.0f} images/s ({min(own):.0f} to {max(own):.0f}, n {rounds}), "
            f"middle of an epoch after {statistics.median(late):.3f} s ({min(late):.3f} to {max(late):.3f}), "
            f"the same order again: {again}"
        )


if __name__ == "__main__":
    run_script(shards)
