"""Large sets of image files: a folder per class, read as they are needed."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from famkd.data.loader import TrainTest
from famkd.errors import UserError

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".gif", ".tif", ".tiff")


class FolderSource:
    """The image files under one folder per class, in alphabetical order.

    `labels` is int64 (N,). Paths are kept as one array of bytes: a list of a million strings would be copied into
    each worker process, page by page.
    """

    def __init__(self, folder: Path, classes: list[str]):
        names, labels = [], []
        for label, name in enumerate(classes):
            found = sorted(_images(folder / name))
            names += found
            labels += [label] * len(found)
        self.folder, self.labels = str(folder), np.asarray(labels, np.int64)
        self._names = np.asarray([os.fsencode(os.path.relpath(name, folder)) for name in names])

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        return os.path.join(self.folder, os.fsdecode(bytes(self._names[index])))

    def read(self, index: int) -> bytes:
        return Path(self.name(index)).read_bytes()

    def order(self, draw: torch.Generator) -> Tensor:
        """One epoch's order: any."""
        return torch.randperm(len(self), generator=draw)


def read_folders(root: str, splits: tuple[str, str] = ("train", "val")) -> TrainTest:
    """Training and test images, each a folder of one folder per class; UserError with what is missing."""
    folders = [Path(root) / split for split in splits]
    for folder in folders:
        if not folder.is_dir():
            there = [name for name in ("train", "val", "test") if (Path(root) / name).is_dir()]
            hint = f"; here pass --data.splits {' '.join(there)}" if len(there) == 2 else ""
            raise UserError(
                f"There is no folder {folder}: point --data.root at a folder with {' and '.join(splits)}, or name "
                f"the two with --data.splits (. . trains and tests on the one tree of classes in the root){hint}."
            )
    classes, tested = (sorted(e.name for e in os.scandir(f) if e.is_dir() and e.name[0] != ".") for f in folders)
    if unknown := sorted(set(tested) - set(classes)):
        raise UserError(f"{folders[1]} has classes that {folders[0]} lacks: {', '.join(unknown[:3])}. Sort them alike.")
    sources = [FolderSource(folder, classes) for folder in folders]
    for folder, source in zip(folders, sources):
        if not len(source):
            raise UserError(f"{folder} holds no images: it needs one folder per class with image files in it.")
    return TrainTest(*sources, classes)


def _images(folder: Path) -> Iterator[str]:
    """Image files at any depth; sets such as Tiny-ImageNet have one more level."""
    for parent, _, names in os.walk(folder):
        yield from (os.path.join(parent, name) for name in names if name.lower().endswith(ENDINGS))
