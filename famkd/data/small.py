"""Small images held whole in memory: `Images`, and functions that load them from a root."""

import contextlib
import math
import os
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from famkd.errors import UserError, one_line
from famkd.files import must_fit

MOST_CHANNELS = 64  # of an image: a larger last axis is its width
MOST_NAMED = 8  # arrays of a file in a message
MOST_CLASSES = 100_000  # larger labels are some other numbers, and would make a classifier of gigabytes
# Mean and deviation of the training images, cut to 4 digits; for CIFAR-10 the values in common use.
CIFAR_MEAN, CIFAR_STD = (0.5070, 0.4865, 0.4409), (0.2673, 0.2564, 0.2761)
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
NEEDED = ("x_train", "y_train", "x_test", "y_test")  # arrays of an .npz


@dataclass(frozen=True)
class Images:
    """Training and test images with their classes, and how they may be augmented.

    Pixels are uint8 (N, H, W, C), labels int64 (N,). `mean` and `std` are per channel, for pixels in 0..1. Training
    crops from the image with a black border of `pad` pixels. `flip` is whether a mirrored image keeps its class.
    `read_split` reads the images and labels of a further split by its name, where the data set can have one.
    `test_files` are the paths of the test images, where each is a file.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: list[str]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pad: int = 4
    flip: bool = True
    read_split: Callable[[str], tuple[np.ndarray, np.ndarray]] | None = None
    test_files: Sequence[str] = ()


class _Arrays(NamedTuple):
    """Images and labels as an archive stores them."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: list[str]


def digits(root: str = "") -> Images:
    """scikit-learn's handwritten digits, 1,797 real scans of 8 x 8 pixels; every fifth image is for testing."""
    from sklearn.datasets import load_digits

    scans, target = load_digits(return_X_y=True)
    grey = (scans.reshape(-1, 8, 8) * (255 / 16)).round().astype(np.uint8)
    x, y = with_channels(grey, 3), target.astype(np.int64)
    test = np.arange(len(x)) % 5 == 0
    mean, std = channel_statistics(x[~test])
    classes = [str(n) for n in range(10)]
    return Images(x[~test], y[~test], x[test], y[test], classes, mean, std, pad=1, flip=False)


def cifar100(root: str = "data") -> Images:
    """CIFAR-100: `cifar100.npz` under the root, or torchvision's official files, downloaded if they are missing."""
    return Images(*_cifar(Path(root), "CIFAR100"), mean=CIFAR_MEAN, std=CIFAR_STD)


def cifar10(root: str = "data") -> Images:
    """CIFAR-10: `cifar10.npz` under the root, or torchvision's official files, downloaded if they are missing."""
    return Images(*_cifar(Path(root), "CIFAR10"), mean=CIFAR10_MEAN, std=CIFAR10_STD)


def read_part(path: Path, shape: tuple[int, ...], classes: list[str], part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images x_PART and labels y_PART of an .npz, checked against the shape and the classes of the training images."""
    needed = (f"x_{part}", f"y_{part}")
    if part in ("train", "test"):
        raise UserError(f"--data.val {part} is the {part} split: name another one of {path}, or pass a fraction.")
    stored = stored_arrays(path, needed)
    x, y = (stored[name] for name in needed)
    _check(path, part, x, y)
    x = with_channels(x, shape[-1])
    if x.shape[1:] != shape or int(y.max()) >= len(classes):
        raise UserError(
            f"{path}: x_{part} and y_{part} must hold images of {shape[0]} x {shape[1]} and classes below "
            f"{len(classes)}, as the training images do."
        )
    return x, y.astype(np.int64)


def read_arrays(file: str | os.PathLike[str] | IO[bytes], names: Iterable[str]) -> dict[str, np.ndarray]:
    """Those of the named arrays that an .npz file holds.

    Errors: ValueError, or an error of `zipfile`, for a damaged file, for arrays of Python objects (which could run
    code), and, before anything is allocated, for arrays that claim more than they hold or than the memory holds.
    """
    with zipfile.ZipFile(file) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        chosen = {name: members[name] for name in names if name in members}
        must_fit(sum(info.file_size for info in chosen.values()))  # a small file can unpack to gigabytes
        for info in chosen.values():
            _check_claim(archive, info)
    if not isinstance(file, str | os.PathLike):
        file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in chosen}


def channel_statistics(x: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel, for pixels in 0..1; the deviation is at least 0.001, to divide by."""
    mean = x.mean((0, 1, 2)) / 255
    std = np.maximum(x.std((0, 1, 2)) / 255, 1e-3)
    return tuple(mean.tolist()), tuple(std.tolist())


def _check_claim(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """ValueError if an array's header claims more than its file holds: numpy would allocate the claim first."""
    headers = np.lib.format
    with archive.open(info) as member:
        version = headers.read_magic(member)
        read_header = headers.read_array_header_1_0 if version == (1, 0) else headers.read_array_header_2_0
        shape, _, dtype = read_header(member)
    claimed = math.prod(shape) * max(1, dtype.itemsize)
    if claimed > info.file_size and not dtype.hasobject:  # numpy refuses objects without allocating
        raise ValueError(f"{info.filename} claims to be {shape} {dtype} but is shorter")


def _cifar(path: Path, name: str) -> _Arrays:
    archive = f"{name.lower()}.npz"
    if path.suffix == ".npz":
        return read_npz(path)
    if (path / archive).is_file():
        return read_npz(path / archive)

    from torchvision import datasets

    kind, made = getattr(datasets, name), not path.exists()
    try:
        train, test = (kind(str(path), train=part, download=True) for part in (True, False))
    except (OSError, RuntimeError) as error:
        if made:  # by the download; an empty folder PATH@64 would hide that PATH is meant
            with contextlib.suppress(OSError):
                path.rmdir()
        reason = one_line(error)
        raise UserError(
            f"{name.replace('CIFAR', 'CIFAR-')} is not under {path} and could not be downloaded ({reason}): "
            f"point --data.root at a folder with {kind.base_folder} or {archive}."
        ) from error
    y_train, y_test = (np.asarray(part.targets, np.int64) for part in (train, test))
    return _Arrays(train.data, y_train, test.data, y_test, list(train.classes))


def read_npz(path: Path, channels: int = 3) -> _Arrays:
    """Checked arrays of an .npz file; UserError, one sentence, for what cannot be trained on."""
    stored = stored_arrays(path, NEEDED, "class_names")
    for part in ("train", "test"):
        _check(path, part, stored[f"x_{part}"], stored[f"y_{part}"])
    y_train, y_test = (stored[f"y_{part}"].astype(np.int64) for part in ("train", "test"))
    count = int(max(y_train.max(), y_test.max())) + 1
    classes = names_of_classes(path, stored.get("class_names", np.arange(count)), count)
    x_train, x_test = (with_channels(stored[f"x_{part}"], channels) for part in ("train", "test"))
    if x_train.shape[1:] != x_test.shape[1:]:
        raise UserError(f"{path}: training images are {x_train.shape[1:]} and test images {x_test.shape[1:]}.")
    return _Arrays(x_train, y_train, x_test, y_test, classes)


def stored_arrays(path: Path, needed: tuple[str, ...], *optional: str) -> dict[str, np.ndarray]:
    """Some arrays of an .npz file; UserError, one sentence, where one that is needed is missing or damaged."""
    if not os.path.isfile(path):
        raise UserError(f"There is no file {path}: point --data.root at an .npz with x_train, y_train, x_test, y_test.")
    try:
        stored = read_arrays(path, (*needed, *optional))
    except Exception as error:  # zipfile, zlib and numpy each raise their own
        raise UserError(f"Cannot read {path}: {one_line(error)}.") from error
    missing = [key for key in needed if key not in stored]
    if missing:
        *first, last = needed
        unlabelled = ", or pass --task unlabelled" if all(key.startswith("y_") for key in missing) else ""
        raise UserError(
            f"{path} lacks {', '.join(missing)}: it needs {', '.join(first)} and {last}{unlabelled}. It holds "
            f"{_names_in(path)}."
        )
    return stored


def _names_in(path: Path) -> str:
    """What an .npz file calls its arrays."""
    with zipfile.ZipFile(path) as archive:
        return ", ".join(name.removesuffix(".npy") for name in archive.namelist()[:MOST_NAMED]) or "nothing"


def names_of_classes(path: Path, names: np.ndarray, count: int) -> list[str]:
    """Names of at least `count` classes."""
    if names.ndim != 1 or names.dtype.kind not in "USiu":
        raise UserError(f"{path}: class_names is {names.dtype} {names.shape}; it must be a row of texts.")
    if len(names) > MOST_CLASSES:
        raise UserError(f"{path}: class_names has {len(names):,} names; give at most {MOST_CLASSES:,}.")
    if len(names) < count:
        raise UserError(f"{path} names {len(names)} classes but labels run to {count - 1}: fix class_names or labels.")
    return [str(name) for name in names]


def _check(path: Path, part: str, x: np.ndarray, y: np.ndarray) -> None:
    """UserError unless x is uint8 images and y one class index for each."""
    if y.ndim != 1:
        raise UserError(
            f"{path}: y_{part} has shape {y.shape}; give one label each, (N,), or pass --task multilabel or regression."
        )
    check_images(path, part, x, len(y))
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= MOST_CLASSES:
        raise UserError(f"{path}: y_{part} must hold class indices from 0, as integers below {MOST_CLASSES:,}.")


def check_images(path: Path, part: str, x: np.ndarray, labels: int) -> None:
    """UserError unless x is uint8 images, as many as there are labels."""
    grey = x.ndim == 3
    several = x.ndim == 4 and x.shape[-1] <= MOST_CHANNELS and not _channels_first(x)
    if x.dtype != np.uint8 or not (grey or several):
        raise UserError(
            f"{path}: x_{part} is {x.dtype} {x.shape}; it must be uint8 of 1 to {MOST_CHANNELS} channels, such as "
            f"(N, H, W) or (N, H, W, 3){_conversion(x)}."
        )
    if x.size == 0 or len(x) != labels:
        raise UserError(
            f"{path}: x_{part} holds {len(x)} images, {x.shape[1:]} each, and y_{part} {labels} labels; give one or "
            "more images with one label each."
        )


def _conversion(x: np.ndarray) -> str:
    """A hint with the numpy expression that converts an array to what is asked for, or "" if none is sure to."""
    expression = "x"
    if x.dtype.kind in "fiu" and x.dtype != np.uint8 and x.size > 0:
        low, high = x.min(), x.max()
        if x.dtype.kind == "f" and low >= 0 and high <= 1:
            expression = '(x * 255).round().astype("uint8")'
        elif low >= 0 and high <= 255:
            expression = 'x.round().astype("uint8")'
    if _channels_first(x):
        expression += ".transpose(0, 2, 3, 1)"
    return "" if expression == "x" else f": save {expression}"


def _channels_first(x: np.ndarray) -> bool:
    """Whether images are probably (N, 1 or 3, H, W)."""
    return x.ndim == 4 and x.shape[1] in (1, 3) and x.shape[-1] not in (1, 3)


def with_channels(x: np.ndarray, channels: int) -> np.ndarray:
    """(N, H, W) or (N, H, W, C) to (N, H, W, C): grey images are repeated to so many channels, others are kept."""
    if x.ndim == 3:
        x = x[..., None]
    return np.repeat(x, channels, -1) if x.shape[-1] == 1 else x
