"""Image sets too large to hold: in folders by class, or in WebDataset shards."""

from pathlib import Path
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le

from famkd.data.folder_source import read_folders
from famkd.data.loader import TrainTest
from famkd.data.pixels import colour
from famkd.data.shard_cache import ShardCache
from famkd.data.shard_files import reachable
from famkd.data.streamed import SIZE, Streamed
from famkd.data.targets import ALL
from famkd.data.transforms import Interpolation, Preprocessing, size_from
from famkd.data.unreadable import Choice, readable
from famkd.data.webdataset import Reading, has_shards, read_shards
from famkd.errors import UserError


def imagenet(
    root: str,
    batch_size: int,
    device: torch.device | str = "cpu",
    seed: int = 0,
    augment: bool = True,
    task: str = "classification",
    *,
    size: int | str = 0,
    splits: tuple[str, str] = ("train", "val"),
    workers: Annotated[int, Ge(-1)] = -1,
    gpu_decode: bool = False,
    background: str = "white",
    unreadable: Choice = "refuse",
    label_key: str = "",
    channels: Literal[1, 3, 4] = 3,
    test_crop: Annotated[float, Ge(0), Le(1)] = 0.0,
    interpolation: Interpolation = "bilinear",
    table: str = "",
    cache: str = "",
    cache_gib: Annotated[float, Ge(0)] = 0.0,
) -> Streamed:
    """Images too many to hold: root/train/CLASS/*.jpg and root/val/CLASS/*.jpg, or WebDataset shards in their places.

    Without labels, or with several labels or numbers for each image in a CSV file, images lie in root/train/*.jpg.

    Args:
        size: Height and width of the images, as 224, or as 96x64 for height x width; 0 for 224.
        splits: Folders of training and test images under the root, or names of tars, as in `train-{000..146}.tar`. The
            same one twice tests on the training images.
        workers: Processes that decode images; -1 for one per core, 0 to decode in the training process.
        gpu_decode: Decode JPEGs on the GPU, and other files on the CPU.
        background: Colour behind transparent pixels: a name such as white or black, or #rrggbb.
        unreadable: Refuse a data set with image files that cannot be read, or skip these files.
        channels: 1 makes all images grey, 3 RGB, 4 RGBA, which keeps transparency.
        label_key: Key of the class in the .json files of WebDataset shards. By default it is found.
        test_crop: Part of the shorter side that a test image keeps, such as 0.95; 0 for 0.875, or 1 below 128 pixels.
        interpolation: How images are scaled, in training and in tests.
        table: CSV file of the labels in folders, for multilabel and regression: its name in each of the two folders, or
            its path under the root for both. By default the only one in the folder, or beside it with its name.
        cache: Folder on this machine for copies of the shards that are read, for roots such as s3://BUCKET/PATH.
        cache_gib: GiB of copies to keep: the least recently used ones are removed. 0 keeps all.
    """
    shape, behind = size_from(size) or (SIZE, SIZE), colour(background)
    source = read_imagenet(root, splits, label_key, task, table, _cache(cache, cache_gib))
    return Streamed(
        readable(source, unreadable, workers), batch_size, device, seed, augment, size=shape, workers=workers,
        gpu_decode=gpu_decode, background=behind, skip=unreadable == "skip", channels=channels,
        preprocessing=Preprocessing(test_crop, interpolation),
    )  # fmt: skip


imagenet.tasks = ALL  # pyright: ignore[reportFunctionMemberAccess]


def read_imagenet(
    root: str,
    splits: tuple[str, str] = ("train", "val"),
    label_key: str = "",
    task: str = "classification",
    table: str = "",
    cache: ShardCache | None = None,
) -> TrainTest:
    """List training and test images: in shards if the training split has any, otherwise in folders."""
    if "://" in root or has_shards(root, splits[0]):
        if task not in ("classification", "unlabelled"):
            raise UserError(f"Shards are read for classification and unlabelled, not for {task}: unpack them.")
        with reachable(root):
            return read_shards(root, splits, Reading(label_key, task == "classification", cache))
    if cache:
        raise UserError("--data.cache keeps copies of shards, and these images lie in folders: leave it out.")
    return read_folders(root, splits, task, table)


def _cache(folder: str, gib: float) -> ShardCache | None:
    if gib and not folder:
        raise UserError("--data.cache_gib limits the copies in a folder: name it by --data.cache.")
    return ShardCache(Path(folder).expanduser(), gib) if folder else None
