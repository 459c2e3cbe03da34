"""An .npz of one's own small images, with the labels of any task or none."""

from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from famkd.data.small import (
    NEEDED,
    Images,
    channel_statistics,
    check_images,
    names_of_classes,
    read_npz,
    read_part,
    stored_arrays,
    with_channels,
)
from famkd.data.targets import ALL, checked_targets, without_labels
from famkd.errors import UserError


def npz(root: str = "data.npz", task: str = "classification", *, channels: Literal[1, 3] = 3) -> Images:
    """Your own small images: an .npz with x_train, y_train, x_test, y_test[, class_names].

    y is a class for each image; for multilabel 0 or 1 for each image and label, for regression numbers. Without labels
    x is enough.

    Args:
        channels: Channels of grey images: 3 repeats them, 1 keeps them grey. Images of several channels keep theirs.
    """
    path = Path(root)
    if task == "classification":
        arrays = read_npz(path, channels)
        x_train, y_train, x_test, y_test, classes = arrays
        read_split = partial(read_part, path, x_train.shape[1:], classes)
    else:
        x_train, y_train = _part(path, "train", task, channels)
        x_test, y_test = _part(path, "test", task, channels)
        count = y_train.shape[1]
        names = stored_arrays(path, (), "class_names").get("class_names")
        numbers = np.arange(count)
        classes = names_of_classes(path, numbers if names is None or not count else names, count)[:count]
        read_split = partial(_further, path, task, x_train, y_train)
        _must_be_alike(path, "test", (x_train, y_train), (x_test, y_test))
    mean, std = channel_statistics(x_train)
    pad = max(1, x_train.shape[1] // 8)
    return Images(x_train, y_train, x_test, y_test, classes, mean, std, pad, read_split=read_split)


npz.tasks = ALL  # pyright: ignore[reportFunctionMemberAccess]


def _part(path: Path, part: str, task: str, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Images x_PART (N, H, W, C) and their targets (N, labels)."""
    wanted = NEEDED if part in ("train", "test") else (f"x_{part}", f"y_{part}")
    needed = tuple(name for name in wanted if task != "unlabelled" or name.startswith("x"))
    stored = stored_arrays(path, needed)
    x = stored[f"x_{part}"]
    labels = without_labels(x) if task == "unlabelled" else stored[f"y_{part}"]
    check_images(path, part, x, len(labels))
    if task != "unlabelled":
        labels = checked_targets(labels, task, f"{path}: y_{part} is")
    return with_channels(x, channels), labels


def _further(path: Path, task: str, x: np.ndarray, y: np.ndarray, part: str) -> tuple[np.ndarray, np.ndarray]:
    """A further split for held-out images."""
    if part in ("train", "test"):
        raise UserError(f"--data.val {part} is the {part} split: name another one of {path}, or pass a fraction.")
    found = _part(path, part, task, x.shape[-1])
    _must_be_alike(path, part, (x, y), found)
    return found


def _must_be_alike(
    path: Path, part: str, train: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]
) -> None:
    """UserError where images or targets have other shapes than those of the training images."""
    for name, one, two in zip("xy", train, other):
        if one.shape[1:] != two.shape[1:]:
            raise UserError(f"{path}: {name}_train has {one.shape[1:]} in a row and {name}_{part} {two.shape[1:]}.")
