"""What a store says of itself: store.json."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from math import ceil, prod
from pathlib import Path
from typing import Any

import torch

from famkd.errors import UserError, one_line
from famkd.files import write_atomically

FORMAT = "1"
KINDS = ("stages", "preact", "embed", "last")  # of features, as methods ask for them
NOT_COMPARED = ("figures", "made")  # fields that may differ when a store is continued


@dataclass(frozen=True)
class Column:
    """One kind of values of every image: the logits, or the features at a tap."""

    shape: list[int]  # of one image
    dtype: str

    @property
    def bytes(self) -> int:
        """Of one image."""
        return prod(self.shape) * getattr(torch, self.dtype).itemsize


@dataclass(frozen=True)
class Header:
    """The teacher, the images and the augmentations that a store is of, and how it is laid out."""

    format: str
    model: str  # of the teacher
    weights: str  # as the recipe named them
    weights_sha256: str  # of their file; "" for a library's pretrained weights
    figures: dict[str, float]  # of the teacher on the test set
    images: int
    classes: list[str]
    labels_sha256: str  # of the class of every image
    data: dict[str, Any]  # name and options of the data set, for readers
    views: int
    views_seed: int
    precision: str
    topk: int  # logits kept of each image; 0 for all
    settings: dict[str, Any]  # of the teacher beside model and weights, such as the size of its images
    kinds: dict[str, list[str]]  # of features to the taps of each
    columns: dict[str, Column]
    rows: int  # images in a shard
    made: dict[str, Any]  # machine and versions

    @property
    def shards(self) -> int:
        """Of one view."""
        return ceil(self.images / self.rows)

    @property
    def bytes_per_image(self) -> int:
        """Under one view."""
        return sum(column.bytes for column in self.columns.values())

    @property
    def bytes(self) -> int:
        """Of all views together."""
        return self.bytes_per_image * self.images * self.views

    @property
    def identity(self) -> str:
        """SHA-256 of everything that decides what a store holds."""
        content = {name: value for name, value in asdict(self).items() if name not in NOT_COMPARED}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def taps(self, wants: str, who: str) -> list[str]:
        """The stored taps for what a method wants; UserError that names the missing option otherwise."""
        if wants == "logits":
            return []
        kinds = wants.split("+")
        missing = [kind for kind in kinds if kind not in self.kinds]
        if missing:
            options = " ".join(dict.fromkeys([*self.kinds, *kinds]))
            raise UserError(
                f"{who} needs the teacher's {' and '.join(missing)}, which this store lacks: make one by `famkd store` "
                f"with --features {options}."
            )
        return [tap for kind in kinds for tap in self.kinds[kind]]


def shard_path(folder: Path, view: int, shard: int) -> Path:
    """The file of some images under a view."""
    return folder / f"view{view:04d}" / f"{shard:06d}.safetensors"


def write_header(folder: Path, header: Header) -> None:
    write_atomically(folder / "store.json", json.dumps(asdict(header), indent=1).encode())


def read_header(folder: str | Path) -> Header:
    """The header of a store; UserError where there is none, or none that this version can read."""
    path = Path(folder) / "store.json"
    if not path.is_file():
        raise UserError(
            f"{folder} is no store of a teacher: make one by `famkd store RECIPE --views 4 --out {folder}`."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']}, this version reads {FORMAT}")
        columns = {name: Column(**column) for name, column in content.pop("columns").items()}
        header = Header(columns=columns, **content)
        _ = header.bytes, header.shards
    except Exception as error:  # a changed file can fail in any way
        reason = one_line(error)
        raise UserError(f"{path} cannot be read ({reason}): make the store again with `famkd store`.") from error
    return header


def differing(one: Header, other: Header) -> list[str]:
    """Names of the fields in which two headers differ."""
    names = [each.name for each in fields(Header) if each.name not in NOT_COMPARED]
    return [name for name in names if getattr(one, name) != getattr(other, name)]


def missing_shards(folder: Path, header: Header) -> Iterable[tuple[int, int]]:
    """View and number of each shard that is not written yet."""
    for view in range(1, header.views + 1):
        for shard in range(header.shards):
            if not shard_path(folder, view, shard).is_file():
                yield view, shard
