"""Image files in one folder per class: read whole into memory, or listed and read as they are needed."""

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from famkd.data.loader import TrainTest
from famkd.data.small import Images, channel_statistics
from famkd.data.transforms import ENDINGS, opened
from famkd.errors import UserError
from famkd.files import must_fit

Size = tuple[int, int]  # height and width


def folder_in_memory(root: str) -> Images:
    """Your own images: root/train/CLASS/*.png and root/test (or val)/CLASS/*.png; PATH@64 makes them 64 x 64.

    Without @SIZE all images must have one size already. With it, the shorter side is scaled to SIZE and the middle
    is cut out.
    """
    path, size = _path_and_size(root)
    train = path / "train"
    test = next((path / part for part in ("test", "val") if (path / part).is_dir()), None)
    if not train.is_dir() or test is None:
        raise UserError(f"{path} needs the folders train and test (or val), each with a folder of images per class.")
    classes = sorted(part.name for part in train.iterdir() if part.is_dir())
    tested = {part.name for part in test.iterdir() if part.is_dir()}
    unknown = sorted(tested - set(classes))
    if unknown:
        raise UserError(f"{test} holds the class {unknown[0]!r}, which {train} lacks.")
    train_files, test_files = (_labelled_files(part, classes) for part in (train, test))
    like = train_files[0][0] if size is None else None  # without a size, all images have that of the first
    if size is None:
        size = _common_size([file for file, _ in train_files + test_files])
    try:
        must_fit(3 * size[0] * size[1] * (len(train_files) + len(test_files)))
    except ValueError as error:
        raise UserError(f"{path} is too large to be held: {error}. Make it smaller, as in --root PATH@64.") from error
    x_train, y_train = _pixels_and_labels(train_files, size)
    x_test, y_test = _pixels_and_labels(test_files, size)
    mean, std = channel_statistics(x_train)
    pad = max(1, min(size) // 8)
    arrays = (x_train, y_train, x_test, y_test)

    def read_split(name: str) -> tuple[np.ndarray, np.ndarray]:
        files = _labelled_files(further_folder(path, ("train", test.name), classes, name), classes)
        if like is not None:
            _common_size([like, *(file for file, _ in files)])
        return _pixels_and_labels(files, size)

    return Images(*arrays, classes, mean, std, pad, read_split=read_split)


def read_folders(root: str, splits: tuple[str, str] = ("train", "val")) -> TrainTest:
    """List training and test images, one folder per class under each of the two splits; none is read yet.

    Raises UserError where a folder or its images are missing.
    """
    train, test = (Path(root) / split for split in splits)
    for folder in (train, test):
        if not folder.is_dir():
            raise _no_folder(folder, root, splits)
    classes, tested = _folder_names(train), _folder_names(test)
    unknown = sorted(set(tested) - set(classes))
    if unknown:
        raise UserError(f"{test} has classes that {train} lacks: {', '.join(unknown[:3])}. Sort them alike.")
    sources = []
    for folder in (train, test):
        source = FolderSource(folder, classes)
        if not len(source):
            raise UserError(f"{folder} holds no images: it needs one folder per class with image files in it.")
        sources.append(source)

    def read_split(name: str) -> FolderSource:
        source = FolderSource(further_folder(Path(root), splits, classes, name), classes)
        if not len(source):
            raise UserError(f"{source.folder} holds no images: it needs one folder per class with image files in it.")
        return source

    return TrainTest(sources[0], sources[1], classes, read_split)


class FolderSource:
    """The image files under one folder per class, in alphabetical order.

    `labels` is int64 (N,). Paths are kept as one array of bytes: a list of a million strings would be copied into
    each worker process, page by page.
    """

    def __init__(self, folder: Path, classes: list[str]):
        names: list[str] = []
        labels: list[int] = []
        for label, name in enumerate(classes):
            found = sorted(_image_files(folder / name))
            names += found
            labels += [label] * len(found)
        self.folder = str(folder)
        self.labels = np.asarray(labels, np.int64)
        self._names = np.asarray([os.fsencode(os.path.relpath(name, folder)) for name in names])

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Path of an image."""
        return os.path.join(self.folder, os.fsdecode(bytes(self._names[index])))

    def read(self, index: int) -> bytes:
        """Content of an image file."""
        return Path(self.name(index)).read_bytes()

    def order(self, draw: torch.Generator) -> Tensor:
        """Order of one epoch: any permutation."""
        return torch.randperm(len(self), generator=draw)


def further_folder(root: Path, used: tuple[str, str], classes: list[str], name: str) -> Path:
    """A folder of held-out images next to those of training and test images; UserError if it cannot be that."""
    folder = root / name
    if name in used:
        raise UserError(f"--data.val {name}: {folder} holds the training or test images: name another folder.")
    if not folder.is_dir():
        raise UserError(f"--data.val {name}: there is no folder {folder}: name one, or pass a fraction such as 0.1.")
    unknown = sorted(set(_folder_names(folder)) - set(classes))
    if unknown:
        raise UserError(f"{folder} has classes that {root / used[0]} lacks: {', '.join(unknown[:3])}. Sort them alike.")
    return folder


def _no_folder(folder: Path, root: str, splits: tuple[str, str]) -> UserError:
    present = [name for name in ("train", "val", "test") if (Path(root) / name).is_dir()]
    hint = f"; here pass --data.splits {' '.join(present)}" if len(present) == 2 else ""
    return UserError(
        f"There is no folder {folder}: point --data.root at a folder with {' and '.join(splits)}, or name "
        f"the two with --data.splits (. . trains and tests on the one tree of classes in the root){hint}."
    )


def _folder_names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")


def _image_files(folder: Path) -> Iterator[str]:
    """Image files at any depth; sets such as Tiny-ImageNet have one more level."""
    for parent, _, names in os.walk(folder):
        for name in names:
            if name.lower().endswith(ENDINGS):
                yield os.path.join(parent, name)


def _path_and_size(root: str) -> tuple[Path, Size | None]:
    """PATH or PATH@SIZE."""
    asked = re.fullmatch(r"(.+)@([1-9][0-9]{0,4})", root)
    if asked is None:
        return Path(root), None
    side = int(asked[2])
    return Path(asked[1]), (side, side)


def _labelled_files(part: Path, classes: list[str]) -> list[tuple[Path, int]]:
    """Image files of a part with their class; UserError if there are none."""
    found = []
    for label, name in enumerate(classes):
        for file in sorted((part / name).rglob("*")):
            if file.suffix.lower() in ENDINGS and file.is_file():
                found.append((file, label))
    if not found:
        raise UserError(f"{part} holds no images: put them into one folder per class, as {', '.join(ENDINGS[:3])}.")
    return found


def _common_size(files: list[Path]) -> Size:
    """Height and width that all images share; UserError if they differ."""
    first = _width_and_height(files[0])
    for file in files:
        other = _width_and_height(file)
        if other != first:
            one, two = (" x ".join(map(str, each)) for each in (first, other))
            raise UserError(
                f"Images differ in size, {files[0]} ({one}) and {file} ({two}): "
                "say which size to make them, as in --root PATH@64."
            )
    return first[1], first[0]


def _width_and_height(file: Path) -> tuple[int, int]:
    try:
        with opened(file) as image:
            return image.size
    except Exception as error:  # every decoder raises its own
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:100]
    return UserError(f"{file} cannot be read as an image ({reason}): fix or remove it.")


def _pixels_and_labels(files: list[tuple[Path, int]], size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, H, W, 3) and classes (N,), decoded by several threads."""
    height, width = size

    def pixels(file: Path) -> np.ndarray:
        try:
            with opened(file) as stored:
                image = stored.convert("RGB")
        except Exception as error:  # every decoder raises its own
            raise _unreadable(file, error) from error
        if image.size != (width, height):
            image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
        return np.asarray(image)

    with ThreadPoolExecutor() as pool:
        arrays = list(pool.map(pixels, [file for file, _ in files]))
    return np.stack(arrays), np.array([label for _, label in files], np.int64)
