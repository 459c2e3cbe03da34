"""The samples of a WebDataset's tar: files that share a name up to the first dot, an image and its class among them."""

import json
import re
import tarfile
import warnings
from typing import IO, Any, NamedTuple

from famkd.data.pixels import ENDINGS
from famkd.data.tree import and_more, is_hidden
from famkd.data.unreadable import why_unreadable
from famkd.errors import UserError, inert, one_line

LABELS = ("cls", "class", "label", "json", "txt")  # endings of files with a class, the preferred one first
LABEL_KEYS = ("label", "class", "cls", "target", "class_id", "class_name", "label_name", "category", "y")  # of a .json
LONGEST_NAME = 200  # characters of a class: longer texts are captions
LONGEST_FILE = 1 << 20  # bytes of a file with a class
NUMBER = re.compile(r"[+-]?\d{1,18}")  # what an int64 holds


class Sample(NamedTuple):
    """One image in a tar."""

    key: str
    start: int  # first byte in the tar
    stop: int
    name: str  # its class as the files write it
    why: str  # why the image cannot be read, in a few words, or ""


class _Image(NamedTuple):
    start: int
    stop: int
    why: str


class _Files(NamedTuple):
    """The files of one sample, by their endings in lower case."""

    images: dict[str, _Image]
    texts: dict[str, bytes]  # that may hold the class
    others: list[str]

    def endings(self) -> str:
        return and_more([f".{ending}" for ending in (*self.images, *self.texts, *self.others)])


def read_samples(
    file: IO[bytes], where: str, label_key: str = "", *, whole: bool = True, labelled: bool = True
) -> list[Sample]:
    """The samples with an image of an uncompressed tar, in its order.

    Args:
        where: address of the tar, for messages.
        label_key: key of the class in a .json; "" for the class file of the sample, or one of `LABEL_KEYS`.
        whole: decode each image to see whether it can be read.
        labelled: read the classes; otherwise all are "".

    Errors: UserError for a damaged tar, and for a sample whose class is not found.
    """
    try:
        samples = _grouped(file, whole)
    except (tarfile.TarError, EOFError, ValueError) as error:
        file.seek(0)
        packed = file.read(2) == b"\x1f\x8b"
        why = "it is compressed: unpack it to a plain .tar" if packed else one_line(error)
        raise UserError(f"Cannot read {where}: {why}.") from error
    without = [key for key, files in samples.items() if not files.images]
    if without and len(without) == len(samples):
        raise UserError(f"{where} holds no images: sample {without[0]} has the files {samples[without[0]].endings()}.")
    if without:
        warnings.warn(inert(f"{where}: {len(without):,} samples have no image: {and_more(without)}."), stacklevel=2)
    found = []
    for key, files in samples.items():
        if files.images:
            image = files.images[min(files.images, key=_preference)]
            name = _class_name(files, label_key, where, key) if labelled else ""
            found.append(Sample(key, image.start, image.stop, name, image.why))
    return found


def _grouped(file: IO[bytes], whole: bool) -> dict[str, _Files]:
    """The files of a tar by sample."""
    samples: dict[str, _Files] = {}
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            folder, _, base = member.name.rpartition("/")
            if not member.isfile() or any(map(is_hidden, member.name.removeprefix("./").split("/"))):
                continue
            stem, _, ending = base.partition(".")
            ending = ending.lower()
            files = samples.setdefault(f"{folder}/{stem}".strip("/"), _Files({}, {}, []))
            content = tar.extractfile(member)
            assert content is not None  # it is a file
            if f".{_last(ending)}" in ENDINGS:
                start = member.offset_data
                files.images[ending] = _Image(start, start + member.size, why_unreadable(content, whole=whole))
            elif _last(ending) in LABELS:
                files.texts[ending] = content.read(LONGEST_FILE)
            else:
                files.others.append(ending)
    return samples


def _last(ending: str) -> str:
    return ending.rpartition(".")[2]


def _preference(ending: str) -> tuple[int, int]:
    """Which image of several counts: `jpg` before `seg.png`, and common formats before others."""
    return ending.count("."), ENDINGS.index(f".{_last(ending)}")


def _class_name(files: _Files, label_key: str, where: str, key: str) -> str:
    """The class of a sample as its files write it; UserError, which says what they hold, without one."""
    keys: list[str] = []
    for ending in sorted(files.texts, key=lambda ending: (LABELS.index(_last(ending)), ending.count("."))):
        in_table = _last(ending) == "json"
        if label_key and not in_table:
            continue
        try:
            text = files.texts[ending].decode("utf-8-sig").strip()
            if not in_table:
                return _checked(text)
            table = json.loads(text)
            value = _first(table, (label_key,) if label_key else LABEL_KEYS)
            if value is not None:
                return _checked(value)
            keys += table if isinstance(table, dict) else []
        except (ValueError, RecursionError) as error:
            why = one_line(error)
            raise UserError(f"{where}: the .{ending} of sample {key} tells no class: {why}.") from error
    wanted = f"no .json with the key {label_key!r}" if label_key else "no .cls file with its class, no .json or .txt"
    hint = f", and the keys {and_more(keys)} in its .json: name one by --data.label_key" if keys else ""
    hint = hint or ". Without labels pass --task unlabelled"
    raise UserError(f"{where}: sample {key} has {wanted}. It has the files {files.endings()}{hint}.")


def _first(table: Any, keys: tuple[str, ...]) -> Any:
    """The value of the first key that a table has; a single value stands for itself."""
    if not isinstance(table, dict):
        return table
    return next((table[key] for key in keys if table.get(key) is not None), None)


def _checked(value: Any) -> str:
    """A class as text; ValueError for what cannot be one."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"a class is a number or a name, not {str(value)[:40]}")
    text = str(value).strip()
    if not text or "\n" in text or len(text) > LONGEST_NAME:
        raise ValueError(f"{text[:40]!r} is no name of a class, in one line of at most {LONGEST_NAME} characters")
    return text
