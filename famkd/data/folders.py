"""Image files in one folder per class: read whole into memory, or listed and read as they are needed."""

import io
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from famkd.data.folder_source import read_folders
from famkd.data.loader import Source
from famkd.data.pixels import Colour, colour, decoded, opened, size_of
from famkd.data.small import Images, channel_statistics
from famkd.data.targets import ALL
from famkd.data.transforms import Size
from famkd.data.unreadable import Choice, Found, check_classes, no_file, reason, settle
from famkd.errors import UserError
from famkd.files import must_fit


class _Form(NamedTuple):
    """How the images of a folder are held."""

    size: Size
    fits: bool  # whether they are scaled and cut to the size; otherwise all have it already
    background: Colour
    channels: int


def folder_in_memory(
    root: str,
    task: str = "classification",
    *,
    splits: tuple[str, str] = ("train", "test"),
    background: str = "white",
    unreadable: Choice = "refuse",
    channels: Literal[1, 3, 4] = 3,
    table: str = "",
) -> Images:
    """Your own images: root/train/CLASS/*.png and root/test (or val)/CLASS/*.png; PATH@64 makes them 64 x 64.

    Without labels, or with several labels or numbers for each image in a CSV file, images lie in root/train/*.png.
    PATH@96x64 makes them 96 high and 64 wide. Without a size all images must have one size already. With it, an image
    is scaled until it covers that size, and the middle is cut out.

    Args:
        splits: Folders of training and test images under the root; the same one twice tests on the training images.
        background: Colour behind transparent pixels: a name such as white or black, or #rrggbb.
        unreadable: Refuse a data set with image files that cannot be read, or skip these files.
        channels: 1 makes all images grey, 3 RGB, 4 RGBA, which keeps transparency.
        table: CSV file of the labels, for multilabel and regression: its name in each of the two folders, or its path
            under the root for both. By default the only one in the folder, or beside it with its name.
    """
    path, size = path_and_size(root)
    train, test, classes, read_more = read_folders(path, splits, task, table)
    form = _Form(size or _common_size((train, test)), size is not None, colour(background), channels)
    total = len(train) + len(test)
    try:
        must_fit(channels * form.size[0] * form.size[1] * total)
    except ValueError as error:
        raise UserError(f"{path} is too large to be held: {error}. Make it smaller, as in --root PATH@64.") from error
    x_train, y_train, failed = _pixels_and_labels(train, form)
    x_test, y_test, failed_test = _pixels_and_labels(test, form)
    settle(Found(failed | failed_test, total), unreadable)
    check_classes(train.labels, y_train, classes)
    mean, std = channel_statistics(x_train)

    def read_split(name: str) -> tuple[np.ndarray, np.ndarray]:
        assert read_more is not None  # folders can have further splits
        source = read_more(name)
        pixels, labels, failed = _pixels_and_labels(source, form)
        settle(Found(failed, len(source)), unreadable)
        return pixels, labels

    pad = max(1, min(form.size) // 8)
    files = [name for name in map(test.name, range(len(test))) if name not in failed_test]
    return Images(x_train, y_train, x_test, y_test, classes, mean, std, pad, read_split=read_split, test_files=files)


folder_in_memory.tasks = ALL  # pyright: ignore[reportFunctionMemberAccess]


def path_and_size(root: str) -> tuple[Path, Size | None]:
    """PATH, PATH@SIZE or PATH@HEIGHTxWIDTH; UserError for another end behind the @."""
    path, at, asked = root.rpartition("@")
    if not at or os.sep in asked or os.path.exists(root):
        return Path(root), None
    found = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", asked)
    if found is None or not path:
        raise UserError(f"{root} does not end in a size: write PATH@64, or PATH@96x64 for height x width.")
    return Path(path), (int(found[1]), int(found[2] or found[1]))


def _common_size(sources: Sequence[Source]) -> Size:
    """Height and width that all readable images share; UserError if they differ."""
    first: tuple[str, Size] | None = None
    for source in sources:
        for index in range(len(source)):
            name = source.name(index)
            try:
                with opened(name) as image:
                    size = size_of(image)
            except Exception:  # every decoder raises its own; such a file is reported when all are decoded
                continue
            first = first or (name, size)
            if size != first[1]:
                raise _differ(first, (name, size))
    return first[1] if first else (1, 1)


def _differ(*found: tuple[str, Size]) -> UserError:
    one, two = (f"{name} ({height} high, {width} wide)" for name, (height, width) in found)
    return UserError(f"Images differ in size, {one} and {two}: say which size to make them, as in --root PATH@64.")


def _pixels_and_labels(source: Source, form: _Form) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """Pixels (N, H, W, C) and classes (N,) of the readable images, decoded by several threads, and why others fail."""
    height, width = form.size
    pixels = np.empty((len(source), height, width, form.channels), np.uint8)

    def decode(index: int) -> str:
        try:
            data = source.read(index)
        except OSError as error:
            return no_file(source.name(index), error)
        try:
            image = decoded(data, form.channels, form.background)
        except Exception as error:  # every decoder raises its own
            return reason(io.BytesIO(data), error)
        if image.size != (width, height):
            if not form.fits:
                raise _differ((source.name(0), form.size), (source.name(index), (image.height, image.width)))
            image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
        pixels[index] = np.asarray(image).reshape(height, width, form.channels)
        return ""

    with ThreadPoolExecutor() as pool:
        reasons = list(pool.map(decode, range(len(source))))
    failed = {source.name(index): why for index, why in enumerate(reasons) if why}
    readable = np.asarray([not why for why in reasons])
    return (pixels[readable] if failed else pixels), source.labels[readable], failed
