"""Image sets too large to hold: in folders by class, or in WebDataset shards."""

from typing import Annotated

import torch
from annotated_types import Ge, Le

from famkd.data.folders import read_folders
from famkd.data.loader import TrainTest
from famkd.data.streamed import Streamed
from famkd.data.transforms import Interpolation
from famkd.data.webdataset import file_system, read_shards


def imagenet(
    root: str,
    batch_size: int,
    device: torch.device | str = "cpu",
    seed: int = 0,
    augment: bool = True,
    *,
    size: Annotated[int, Ge(0)] = 0,
    splits: tuple[str, str] = ("train", "val"),
    workers: Annotated[int, Ge(-1)] = -1,
    gpu_decode: bool = False,
    test_crop: Annotated[float, Ge(0), Le(1)] = 0.0,
    interpolation: Interpolation = "bilinear",
) -> Streamed:
    """Images too many to hold: root/train/CLASS/*.jpg and root/val/CLASS/*.jpg, or WebDataset shards in their places.

    Args:
        size: Height and width of the images; 0 for 224.
        splits: Folders of training and test images under the root; the same one twice tests on the training images.
        workers: Processes that decode images; -1 for one per core, 0 to decode in the training process.
        gpu_decode: Decode JPEGs on the GPU, and other files on the CPU.
        test_crop: Part of the shorter side that the crop of a test image keeps, such as 0.95; 0 for 0.875, or 1 below
            128 pixels.
        interpolation: How images are scaled, in training and in tests.
    """
    images = read_imagenet(root, splits)
    return Streamed(
        images, batch_size, device, seed, augment, size=size, workers=workers, gpu_decode=gpu_decode,
        test_crop=test_crop, interpolation=interpolation,
    )  # fmt: skip


def read_imagenet(root: str, splits: tuple[str, str] = ("train", "val")) -> TrainTest:
    """List training and test images: in shards if the training split has any, otherwise in folders by class."""
    files, path = file_system(root)
    shards = files.glob(f"{path}/{splits[0]}/*.tar")
    return read_shards(root, splits) if shards else read_folders(root, splits)
