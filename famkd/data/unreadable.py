"""Image files that cannot be read: found before training, all at once, and then refused or left out.

The header and the end of each file are checked, in worker processes. A set of few bytes is decoded whole, so that
damage in the middle of a file is found too.
"""

import contextlib
import os
import warnings
from collections.abc import Mapping
from typing import IO, Literal, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch.utils.data import Dataset

from famkd import distributed
from famkd.data.loader import Source, TrainTest, count_workers, local_processes, make_loader, without
from famkd.data.pixels import check_range, converted, opened, size_of
from famkd.data.tree import SHOWN, and_more
from famkd.data.views import batches_of
from famkd.errors import UserError, inert, one_line

Choice = Literal["refuse", "skip"]

SKIP = "--data.unreadable skip"
WHOLE = 512 << 20  # bytes; files of so many together are decoded whole
SAMPLE = 1000  # files whose sizes are looked up to estimate the bytes of all
CHUNK = 256  # files that a worker checks at a time
ALONE = 1000  # files that are checked faster without worker processes
HEAD = 64  # first bytes of a file, which tell some kinds of files
KINDS = (
    (0, b"version https://git-lfs", "a pointer of Git LFS: run `git lfs pull`"),
    (0, b"<!DOCTYPE", "a web page"),
    (0, b"<html", "a web page"),
    (4, b"ftyphei", "HEIC: convert it to JPEG or PNG"),
    (4, b"ftypmif", "HEIF: convert it to JPEG or PNG"),
)  # place and content of bytes that tell a file which Pillow does not read

_known: dict[tuple[object, ...], dict[int, str]] = {}  # what a check found, by the files as they were


class Files(Protocol):
    """Image files on this machine, by number."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Path of a file."""
        ...


class Found(NamedTuple):
    """Unreadable files among others."""

    names: Mapping[str, str]  # path to the reason
    total: int


def readable(splits: TrainTest, choice: Choice, workers: int = -1) -> TrainTest:
    """Training and test images without those that cannot be read; UserError for `refuse` if there are any."""
    one_tree = (splits.train.name(0), len(splits.train)) == (splits.test.name(0), len(splits.test))
    lost = splits.train.unreadable(workers)
    lost_test = lost if one_tree else splits.test.unreadable(workers)
    names = _by_name(splits.train, lost) | _by_name(splits.test, lost_test)
    settle(Found(names, len(splits.train) + (0 if one_tree else len(splits.test))), choice)
    train, test = without(splits.train, list(lost)), without(splits.test, list(lost_test))
    check_classes(splits.train.labels, train.labels, splits.classes)

    def read_split(name: str) -> Source:
        assert splits.read_split is not None  # otherwise no further split can be asked for
        source = splits.read_split(name)
        lost = source.unreadable(workers)
        settle(Found(_by_name(source, lost), len(source)), choice)
        return without(source, list(lost))

    return TrainTest(train, test, splits.classes, read_split if splits.read_split else None)


def _by_name(source: Source, found: dict[int, str]) -> dict[str, str]:
    return {source.name(index): why for index, why in found.items()}


def check_classes(listed: np.ndarray, left: np.ndarray, classes: list[str]) -> None:
    """UserError if no image of a class is left of the ones that were listed. Both are labels (N,)."""
    if listed.ndim > 1:  # an image has no single class
        return
    lost = [classes[label] for label in np.setdiff1d(listed, left)]
    if lost:
        raise UserError(f"No training image of {and_more(lost)} can be read: restore some, or remove the class.")


def find_unreadable(files: Files, workers: int = -1, sizes: np.ndarray | None = None) -> dict[int, str]:
    """Numbers of the files that cannot be read, each with the reason in a few words.

    Args:
        workers: processes that check; -1 for one per core, 0 to check in this process.
        sizes: (N, 2) height and width that the images must have, either as they are stored or upright.

    With several training processes one of them checks. What was found is kept while the sampled files are the same.
    """
    return distributed.on_rank_zero(lambda: _find(files, workers, sizes))


def forget() -> None:
    """Check all files again when they are asked for next."""
    _known.clear()


def settle(found: Found, choice: Choice) -> None:
    """Refuse unreadable files in one sentence, or warn that they are left out; nothing if there are none."""
    if not found.names:
        return
    shown = [f"{name} ({why})" for name, why in list(found.names.items())[:SHOWN]]
    named = and_more(shown + list(found.names)[SHOWN:])
    count = f"{len(found.names):,} of {found.total:,} images cannot be read"
    if choice == "refuse" and len(found.names) == 1:
        ((name, why),) = found.names.items()
        raise UserError(f"{name} cannot be read as an image ({why}): restore or remove it, or pass {SKIP}.")
    if choice == "refuse":
        raise UserError(f"{count}: {named}. Restore or remove them, or pass {SKIP}.")
    if len(found.names) == found.total:
        raise UserError(f"None of {found.total:,} images can be read: {named}.")
    warnings.warn(inert(f"{count} and are left out: {named}."), stacklevel=3)


def why_unreadable(file: IO[bytes], *, whole: bool, size: tuple[int, int] | None = None) -> str:
    """Why an image file cannot be read, in a few words; "" if nothing is wrong with it.

    Args:
        whole: decode it; otherwise only where header and end do not tell enough.
        size: height and width that it must have, either as it is stored or upright.
    """
    try:
        image = opened(file)
        check_range(image)
        height, width = size_of(image)
        if size is not None and size not in ((height, width), (image.height, image.width)):
            return f"it is {height}x{width}, height x width, but its annotations say {size[0]}x{size[1]}"
        if whole or not _is_complete(image, file):
            file.seek(0)
            image = opened(file)
            image.draft("L", (1, 1))  # of a JPEG an eighth, for which all of its data is read
            converted(image)
        return ""
    except Exception as error:  # every decoder raises its own
        return reason(file, error)


def reason(file: IO[bytes], error: Exception) -> str:
    """What is wrong with a file that a decoder refused, in a few words."""
    file.seek(0)
    head = file.read(HEAD)
    if not head:
        return "empty"
    for place, content, words in KINDS:
        if head[place:].startswith(content):
            return words
    if isinstance(error, UnidentifiedImageError):
        return "no image, or of a kind that Pillow does not read"
    text = one_line(error, 100)
    return "truncated" if "truncated" in text.lower() else text


def no_file(path: str, error: OSError) -> str:
    """Why a file cannot be opened, in a few words."""
    if os.path.islink(path) and not os.path.exists(path):
        return "a link to nothing"
    return error.strerror or type(error).__name__


class _Checks(Dataset):
    """Checks some files at a time, for a loader."""

    def __init__(self, files: Files, whole: bool, sizes: np.ndarray | None):
        self.files, self.whole, self.sizes = files, whole, sizes

    def __getitems__(self, keys: list[int]) -> dict[int, str]:
        reasons = {key: self._check(key) for key in keys}
        return {key: why for key, why in reasons.items() if why}

    def _check(self, key: int) -> str:
        path = self.files.name(key)
        size = None if self.sizes is None else (int(self.sizes[key][0]), int(self.sizes[key][1]))
        try:
            with open(path, "rb") as file, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return why_unreadable(file, whole=self.whole, size=size)
        except OSError as error:
            return no_file(path, error)


def _find(files: Files, workers: int, sizes: np.ndarray | None) -> dict[int, str]:
    numbers = range(0, len(files), max(1, len(files) // SAMPLE))
    stats = [_stat(files.name(number)) for number in numbers]
    key = (files.name(0), len(files), b"" if sizes is None else sizes.tobytes(), *stats) if len(files) else ()
    if key in _known:
        return _known[key]
    whole = sum(size for size, _ in stats) * len(files) <= WHOLE * len(numbers)
    if len(files) <= ALONE:
        workers = 0
    chunks = list(batches_of(range(len(files)), CHUNK))
    count = count_workers(workers, local_processes())
    found: dict[int, str] = {}
    for part in make_loader(_Checks(files, whole, sizes), chunks, count, torch.device("cpu"), keep_workers=False):
        found |= part
    _known[key] = found
    return found


def _stat(path: str) -> tuple[int, int]:
    """Bytes and time of a file; zeros for one that is not there."""
    with contextlib.suppress(OSError):
        found = os.stat(path)
        return found.st_size, found.st_mtime_ns
    return 0, 0


def _is_complete(image: Image.Image, file: IO[bytes]) -> bool:
    """Whether a file surely goes on to its end, without decoding it; False where its format does not tell."""
    size = file.seek(0, os.SEEK_END)
    if image.format == "PNG":
        try:
            image.verify()
        except Exception:  # of a checksum or the end; whether the pixels are whole shows when they are decoded
            return False
        return True
    if image.format == "WEBP":
        file.seek(4)
        return int.from_bytes(file.read(4), "little") + 8 <= size
    if image.format in ("JPEG", "MPO"):
        file.seek(max(0, size - HEAD))
        return file.read().rstrip(b"\0\r\n ").endswith(b"\xff\xd9")
    return False
