"""Images per second of our loader beside torchvision's and timm's, on the same files, in turn, in one process.

    python benchmarks/loader.py FOLDER [--workers 0] [--rounds 5] [--rate 5000]

FOLDER has one folder of images per class. Each loader decodes an image, takes a random resized crop of 224 px, flips it
every other time, and returns normalised batches of 64 on the CPU. With --workers 0 it is CPU time that counts, so other
programs do not disturb the figures; with more workers it is wall-clock time, and the machine must be idle.

With --rate, the images per second that a GPU trains on (`famkd bench`), the cores that would feed it are printed.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import timm.data
import torch
from PIL import features
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from tyro.conf import Positional

from famkd.command_line.main import run_script
from famkd.data import streamed
from famkd.data.folder_source import of_classes
from famkd.data.loader import TrainTest
from famkd.data.streamed import SIZE, Streamed
from famkd.data.tree import class_folders
from famkd.run.environment import environment_info

BATCH = 64
MEAN, STD = streamed.MEAN[3], streamed.STD[3]


def torchvision_batches(folder: Path, workers: int) -> Callable[[], Iterable]:
    """What torchvision's own training script does."""
    steps = [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    view = transforms.Compose([*steps, transforms.Normalize(MEAN, STD)])
    loader = DataLoader(ImageFolder(str(folder), view), BATCH, shuffle=True, num_workers=workers, drop_last=True,
                        persistent_workers=workers > 0)  # fmt: skip
    return lambda: loader


def timm_batches(folder: Path, workers: int) -> Callable[[], Iterable]:
    """timm's loader with its plainest augmentation, which normalises whole batches."""
    data: Any = timm.data  # its annotations are narrower than what it takes
    loader = data.create_loader(
        data.create_dataset("", str(folder)), (3, SIZE, SIZE), BATCH, is_training=True, no_aug=False,
        color_jitter=None, interpolation="bilinear", mean=MEAN, std=STD, num_workers=workers, pin_memory=False,
        persistent_workers=workers > 0, device=torch.device("cpu"),
    )  # fmt: skip
    return lambda: loader


def our_batches(folder: Path, workers: int) -> Callable[[], Iterable]:
    classes = list(class_folders(folder))
    source = of_classes(folder, classes)
    data = Streamed(TrainTest(source, source, classes), BATCH, workers=workers)
    epochs = itertools.count(1)
    return lambda: map(data.take, data.epoch(next(epochs)))


def images_per_second(batches: Iterable, clock: Callable[[], float]) -> float:
    """Images per second of one pass."""
    start, count = clock(), 0
    for images, *_ in batches:
        count += len(images)
    return count / (clock() - start)


def compare_loaders(folder: Positional[Path], workers: int = 0, rounds: int = 5, rate: float = 0) -> None:
    """Time the loaders in turn, and print images per second and core.

    Args:
        rate: images/s of a GPU, to print the cores that would feed it.
    """
    torch.set_num_threads(1)
    kinds = {"famkd": our_batches, "timm": timm_batches, "torchvision": torchvision_batches}
    loaders = {name: make(folder, workers) for name, make in kinds.items()}
    clock = time.perf_counter if workers else time.process_time
    for batches in loaders.values():
        images_per_second(batches(), clock)  # the files are read once before the first timing
    rates = [{name: images_per_second(batches(), clock) for name, batches in loaders.items()} for _ in range(rounds)]
    machine = environment_info("cpu")
    turbo = "libjpeg-turbo" if features.check_feature("libjpeg_turbo") else "another libjpeg"
    print(f"{machine['device']}, torch {machine['torch']}, timm {timm.__version__}, Pillow with {turbo}")
    cores = max(1, workers)
    for name in loaders:
        own = sorted(each[name] / cores for each in rates)
        ratios = sorted(each[name] / each["torchvision"] for each in rates)
        middle = statistics.median(own)
        feeding = f"; {rate / middle:.0f} cores feed {rate:.0f} images/s" if rate else ""
        against = f"{statistics.median(ratios):.2f} times torchvision ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        spread = f"{own[0]:.1f} to {own[-1]:.1f}, n {rounds}"
        print(f"{name:12} {middle:6.1f} images/s and core ({spread}), {against}{feeding}")


if __name__ == "__main__":
    run_script(compare_loaders)
