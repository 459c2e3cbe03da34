"""The image files of folders, by number: one folder per class, a CSV file with their labels, or no labels at all."""

import os
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from famkd.data.balance import drawn
from famkd.data.label_tables import find_table, read_table
from famkd.data.loader import TrainTest
from famkd.data.targets import without_labels
from famkd.data.tree import (
    and_more,
    class_folders,
    find_further,
    find_splits,
    image_files,
    match_classes,
    without_images,
)
from famkd.data.unreadable import find_unreadable
from famkd.errors import UserError, inert


class FolderSource:
    """Image files under a folder, in their order.

    Paths are kept as one array of bytes: a list of a million strings would be copied into each worker process, page by
    page.

    Args:
        names: paths of the files.
        labels: int64 (N,), or float32 (N, labels).
    """

    def __init__(self, folder: Path, names: list[str], labels: np.ndarray):
        self.folder = str(folder)
        self.labels = labels
        self._names = np.asarray([os.fsencode(os.path.relpath(name, folder)) for name in names])

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Path of an image."""
        return os.path.join(self.folder, os.fsdecode(bytes(self._names[index])))

    def read(self, index: int) -> bytes:
        """Content of an image file."""
        return Path(self.name(index)).read_bytes()

    def unreadable(self, workers: int = -1) -> dict[int, str]:
        """Numbers of the images that cannot be read, each with the reason."""
        return find_unreadable(self, workers)

    def order(self, draw: torch.Generator, weights: Tensor | None = None) -> Tensor:
        """Order of one epoch: any permutation, or draws with probabilities like weights (N,)."""
        return drawn(len(self), draw, weights)


def read_folders(
    root: str | Path, splits: tuple[str, str] = ("train", "val"), task: str = "classification", table: str = ""
) -> TrainTest:
    """List training and test images for a task; none is read yet.

    A class is a folder under each of the two splits. Several labels or numbers are in a CSV file (`table`). Without
    labels, all images under a split count.

    Errors: UserError where a folder or its images are missing.
    """
    root = Path(root)
    if task == "classification":
        train, test, classes = _by_class(root, splits)
        more = partial(_class_folder, classes=classes)
    elif task == "unlabelled":
        train, test = (_unlabelled(folder) for folder in find_splits(root, splits))
        classes, more = [], lambda _, folder: _unlabelled(folder)
    else:
        train, test, classes = _tabled(root, splits, task, table)
        more = partial(_from_table, root=root, task=task, table=table, known=classes)

    if train.folder == test.folder:
        warnings.warn(
            inert(
                f"{train.folder} holds the training images and the test images: figures on the test set say nothing "
                "about other images. Pass --data.val 0.2, and look at the figures of held-out images."
            ),
            stacklevel=2,
        )

    def read_split(name: str) -> FolderSource:
        folder = find_further(root, name)
        if str(folder) in (train.folder, test.folder):
            raise UserError(f"--data.val {name}: {folder} holds the training or test images: name another folder.")
        return more(Path(train.folder), folder)

    return TrainTest(train, test, classes, read_split)


def _by_class(root: Path, splits: tuple[str, str]) -> tuple[FolderSource, FolderSource, list[str]]:
    """Training and test images and the names of the classes."""
    folders = find_splits(root, splits)
    classes = match_classes(*folders)
    train, test = (of_classes(folder, classes) for folder in folders)
    for folder, source in zip(folders, (train, test)):
        counts = np.bincount(source.labels, minlength=len(classes))
        empty = [name for name, count in zip(classes, counts) if not count]
        if empty and source is train:
            raise UserError(without_images(folder, empty))
        if len(empty) == len(classes):
            raise UserError(f"{folder} holds no images: it needs one folder per class with image files in it.")
        if empty:
            warnings.warn(inert(f"{folder} has no images of {and_more(empty)}: these are not tested."), stacklevel=5)
    return train, test, classes


def of_classes(folder: Path, classes: list[str]) -> FolderSource:
    """The images in the folders of the classes, in alphabetical order."""
    names: list[str] = []
    labels: list[int] = []
    folders = class_folders(folder)
    for label, name in enumerate(classes):
        found = sorted(image_files(folders[name])) if name in folders else []
        names += found
        labels += [label] * len(found)
    return FolderSource(folder, names, np.asarray(labels, np.int64))


def _class_folder(train: Path, folder: Path, classes: list[str]) -> FolderSource:
    """The images of a further split; UserError if it has none, or other classes."""
    match_classes(train, folder)
    source = of_classes(folder, classes)
    if not len(source):
        raise UserError(f"{folder} holds no images: it needs one folder per class with image files in it.")
    return source


def _unlabelled(folder: Path) -> FolderSource:
    """All images under a folder, in alphabetical order."""
    names = sorted(image_files(folder))
    if not names:
        raise UserError(f"{folder} holds no images.")
    return FolderSource(folder, names, without_labels(len(names)))


def _tabled(root: Path, splits: tuple[str, str], task: str, table: str) -> tuple[FolderSource, FolderSource, list[str]]:
    """Training and test images that CSV files name, and the names of their labels."""
    folders = find_splits(root, splits)
    labels = read_table(find_table(root, folders[0], table), root, folders[0], task).labels
    train, test = (_from_table(folders[0], folder, root, task, table, labels) for folder in folders)
    return train, test, labels


def _from_table(train: Path, folder: Path, root: Path, task: str, table: str, known: list[str]) -> FolderSource:
    """The images of a folder that a CSV file names. A warning counts the others."""
    path = find_table(root, folder, table)
    found = read_table(path, root, folder, task, known)
    others = sorted(set(image_files(folder)) - set(found.files))
    if others:
        named = and_more([os.path.relpath(name, folder) for name in others])
        text = f"{path} does not name {len(others):,} images of {folder}: {named}. They are left out."
        warnings.warn(inert(text), stacklevel=2)
    return FolderSource(folder, found.files, found.targets)
