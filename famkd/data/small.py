"""Small images, whole in memory: what a data set is before anything trains on it."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from famkd.data.arrays import read_arrays
from famkd.errors import UserError

MOST_CLASSES = 100_000  # labels beyond are some other numbers
# of training images, cut to 4 digits; CIFAR-10's are the common ones
CIFAR_MEAN, CIFAR_STD = (0.5070, 0.4865, 0.4409), (0.2673, 0.2564, 0.2761)
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


@dataclass(frozen=True)
class Images:
    """Training and test images with their classes, and how they may be augmented.

    Pixels are uint8 (N, H, W, 3), labels int64 (N,), `mean` and `std` of channels in 0..1; `pad` pixels of black
    border to crop from, `flip` whether a mirrored image keeps its class.
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


def digits(root: str = "") -> Images:
    """scikit-learn's handwritten digits, 1,797 real scans of 8 x 8 pixels; every fifth image is for testing."""
    from sklearn.datasets import load_digits

    scans = load_digits()
    x = np.repeat((scans.images * (255 / 16)).round().astype(np.uint8)[..., None], 3, -1)
    y, test = scans.target.astype(np.int64), np.arange(len(x)) % 5 == 0
    mean, std = channel_statistics(x[~test])
    return Images(x[~test], y[~test], x[test], y[test], [str(n) for n in range(10)], mean, std, pad=1, flip=False)


def cifar100(root: str = "data") -> Images:
    """CIFAR-100: a `cifar100.npz` under the root, or torchvision's official files, fetched when they are missing."""
    return Images(*_cifar(Path(root), "CIFAR100"), CIFAR_MEAN, CIFAR_STD)


def cifar10(root: str = "data") -> Images:
    """CIFAR-10: a `cifar10.npz` under the root, or torchvision's official files, fetched when they are missing."""
    return Images(*_cifar(Path(root), "CIFAR10"), CIFAR10_MEAN, CIFAR10_STD)


def npz(root: str = "data.npz") -> Images:
    """Your own small images: an .npz with x_train, y_train, x_test, y_test[, class_names]."""
    x_train, y_train, x_test, y_test, classes = _read_npz(Path(root))
    mean, std = channel_statistics(x_train)
    return Images(x_train, y_train, x_test, y_test, classes, mean, std, pad=max(1, x_train.shape[1] // 8))


def _cifar(path: Path, name: str):
    from torchvision import datasets

    kind, archive = getattr(datasets, name), f"{name.lower()}.npz"
    if path.suffix == ".npz" or (path / archive).is_file():
        return _read_npz(path if path.suffix == ".npz" else path / archive)
    try:
        train, test = (kind(str(path), train=part, download=True) for part in (True, False))
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"{name.replace('CIFAR', 'CIFAR-')} is not under {path} and could not be fetched ({reason}): "
            f"point --data.root at a folder with {kind.base_folder} or {archive}."
        ) from error
    arrays = [a for part in (train, test) for a in (part.data, np.asarray(part.targets, np.int64))]
    return *arrays, list(train.classes)


def _read_npz(path: Path):
    if not os.path.isfile(path):
        raise UserError(f"There is no file {path}: point --data.root at an .npz with x_train, y_train, x_test, y_test.")
    try:
        stored = read_arrays(path, ("x_train", "y_train", "x_test", "y_test", "class_names"))
    except Exception as error:  # zip, zlib and numpy each have their own
        raise UserError(f"Cannot read {path}: {' '.join(str(error).split())[:200]}") from error
    missing = [key for key in ("x_train", "y_train", "x_test", "y_test") if key not in stored]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}: it needs x_train, y_train, x_test and y_test.")
    for part in ("train", "test"):
        _check(path, part, stored[f"x_{part}"], stored[f"y_{part}"])
    y_train, y_test = (stored[f"y_{part}"].astype(np.int64) for part in ("train", "test"))
    count = int(max(y_train.max(), y_test.max())) + 1
    names = stored.get("class_names", np.arange(count))
    if names.ndim != 1 or names.dtype.kind not in "USiu":
        raise UserError(f"{path}: class_names is {names.dtype} {names.shape}; it must be a row of texts.")
    classes = [str(name) for name in names]
    if len(classes) < count:
        raise UserError(
            f"{path} names {len(classes)} classes but labels run to {count - 1}: mend class_names or labels."
        )
    return _rgb(stored["x_train"]), y_train, _rgb(stored["x_test"]), y_test, classes


def _check(path: Path, part: str, x: np.ndarray, y: np.ndarray) -> None:
    if y.ndim != 1:
        raise UserError(f"{path}: y_{part} has shape {y.shape}; give one label each, (N,).")
    grey_or_rgb = x.ndim == 3 or (x.ndim == 4 and x.shape[-1] in (1, 3))
    if x.dtype != np.uint8 or not grey_or_rgb:
        raise UserError(
            f"{path}: x_{part} is {x.dtype} {x.shape}; it must be uint8, (N, H, W) or (N, H, W, 3){_mend(x)}."
        )
    if x.size == 0 or len(x) != len(y):
        raise UserError(
            f"{path}: x_{part} holds {len(x)} images, {x.shape[1:]} each, and y_{part} {len(y)} labels; give one or "
            "more images with one label each."
        )
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= MOST_CLASSES:
        raise UserError(f"{path}: y_{part} must hold class indices from 0, as integers below {MOST_CLASSES:,}.")


def _mend(x: np.ndarray) -> str:
    """How to make of an array what is asked for, where its values tell."""
    how, numbers = "x", x.dtype.kind in "fiu" and x.size > 0
    if numbers and x.dtype.kind == "f" and x.min() >= 0 and x.max() <= 1:
        how = '(x * 255).round().astype("uint8")'
    elif numbers and x.dtype != np.uint8 and x.min() >= 0 and x.max() <= 255:
        how = 'x.round().astype("uint8")'
    if x.ndim == 4 and x.shape[1] in (1, 3) and x.shape[-1] not in (1, 3):
        how += ".transpose(0, 2, 3, 1)"
    return f": save {how}" if how != "x" else ""


def _rgb(x: np.ndarray) -> np.ndarray:
    x = x[..., None] if x.ndim == 3 else x
    return x if x.shape[-1] == 3 else np.repeat(x, 3, -1)


def channel_statistics(x: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel in 0..1; a constant channel counts as nearly so."""
    mean, std = x.mean((0, 1, 2)) / 255, x.std((0, 1, 2)) / 255
    return tuple(mean.tolist()), tuple(np.maximum(std, 1e-3).tolist())
