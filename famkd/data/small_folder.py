"""Your own small images in folders, one per class, read whole into memory."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from famkd.data.arrays import must_fit
from famkd.data.small import Images, channel_statistics
from famkd.data.transforms import opened
from famkd.errors import UserError

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".tif", ".tiff")


def folder(root: str) -> Images:
    """Your own images: root/train/CLASS/*.png and root/test (or val)/CLASS/*.png; PATH@64 makes them 64 x 64.

    Without @SIZE all images must be of one size already. With it, the shorter side is scaled to SIZE and the middle
    is cut out.
    """
    path, size = _path_and_size(root)
    test = next((path / part for part in ("test", "val") if (path / part).is_dir()), None)
    if not (path / "train").is_dir() or test is None:
        raise UserError(f"{path} needs the folders train and test (or val), each with a folder of images per class.")
    classes = sorted(part.name for part in (path / "train").iterdir() if part.is_dir())
    unknown = sorted({part.name for part in test.iterdir() if part.is_dir()} - set(classes))
    if unknown:
        raise UserError(f"{test} holds the class {unknown[0]!r}, which {path / 'train'} lacks.")
    files = [_files(part, classes) for part in (path / "train", test)]
    size = size or _common_size([file for part in files for file, _ in part])
    try:
        must_fit(3 * size[0] * size[1] * sum(map(len, files)))
    except ValueError as error:
        raise UserError(f"{path} is too large to be held: {error}. Make it smaller, as in --root PATH@64.") from error
    (x_train, y_train), (x_test, y_test) = (_read(part, size) for part in files)
    mean, std = channel_statistics(x_train)
    return Images(x_train, y_train, x_test, y_test, classes, mean, std, pad=max(1, min(size) // 8))


def _path_and_size(root: str) -> tuple[Path, tuple[int, int] | None]:
    asked = re.fullmatch(r"(.+)@([1-9][0-9]{0,4})", root)
    return (Path(asked[1]), (int(asked[2]),) * 2) if asked else (Path(root), None)


def _files(part: Path, classes: list[str]) -> list[tuple[Path, int]]:
    """Images of a part with their class; UserError where there are none."""
    found = [
        (file, label)
        for label, name in enumerate(classes)
        for file in sorted((part / name).rglob("*"))
        if file.suffix.lower() in ENDINGS and file.is_file()
    ]
    if not found:
        raise UserError(f"{part} holds no images: put them into one folder per class, as {', '.join(ENDINGS[:3])}.")
    return found


def _common_size(files: list[Path]) -> tuple[int, int]:
    """Height and width that all images share."""
    first = _open(files[0]).size
    other = next((file for file in files if _open(file).size != first), None)
    if other:
        one, two = (f"{file} ({' x '.join(map(str, _open(file).size))})" for file in (files[0], other))
        raise UserError(f"Images differ in size, {one} and {two}: say which to make of them, as in --root PATH@64.")
    return first[1], first[0]


def _open(file: Path) -> Image.Image:
    try:
        return opened(file)
    except Exception as error:  # every decoder has its own
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:100]
    return UserError(f"{file} cannot be read as an image ({reason}): mend or remove it.")


def _read(files: list[tuple[Path, int]], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, H, W, 3) and classes (N,), decoded by several threads."""

    def pixels(file: Path) -> np.ndarray:
        try:
            image = _open(file).convert("RGB")
        except Exception as error:  # a header may be fine and the rest cut off
            raise _unreadable(file, error) from error
        fitting = image.size == (size[1], size[0])
        return np.asarray(image if fitting else ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BICUBIC))

    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(pixels, [file for file, _ in files]))), np.array([n for _, n in files], np.int64)
