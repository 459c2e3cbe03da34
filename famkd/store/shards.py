"""Read a store: rows of memory-mapped shards, each checked when it is first used."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from famkd.errors import UserError
from famkd.files import read_tensors
from famkd.store.header import Header, missing_shards, read_header, shard_path

TYPES = {"F16": torch.float16, "F32": torch.float32, "I32": torch.int32}  # of safetensors


class Store:
    """The stored outputs of a teacher. Any number of processes may read one at once.

    The shards of one view are mapped at a time, without an open file for each.

    Errors: UserError where the folder holds no store, or an unfinished one.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.header: Header = read_header(folder)
        missing = list(missing_shards(self.folder, self.header))
        if missing:
            total = self.header.views * self.header.shards
            raise UserError(
                f"{folder} is unfinished, {total - len(missing)} of {total} shards: run the same `famkd store` command "
                "again, which goes on."
            )
        self._view = 0  # whose shards are mapped
        self._maps: dict[int, dict[str, Tensor]] = {}
        self._checked: set[Path] = set()

    def reference(self) -> dict[str, Tensor]:
        """What lies beside the views: the outputs for the probe, the classifier, and images to compare with."""
        return _checked_tensors(self.folder / "reference.safetensors")

    def read(self, view: int, rows: Tensor, columns: Sequence[str], pin: bool = False) -> list[Tensor]:
        """Some columns of some images (N,) under a view, on the CPU.

        Args:
            pin: into memory from which a GPU copies without waiting.

        Errors: UserError that names a damaged shard.
        """
        if view != self._view:
            self._view, self._maps = view, {}
        shards, within = rows // self.header.rows, rows % self.header.rows
        found: list[Tensor] = []
        for name in columns:
            column = self.header.columns[name]
            dtype = getattr(torch, column.dtype)
            found.append(torch.empty(len(rows), *column.shape, dtype=dtype, pin_memory=pin))
        for shard in shards.unique().tolist():
            chosen = (shards == shard).nonzero()[:, 0]
            mapped = self._mapped(view, shard)
            for name, into in zip(columns, found):
                into[chosen] = mapped[name][within[chosen]]
        return found

    def _mapped(self, view: int, shard: int) -> dict[str, Tensor]:
        if shard not in self._maps:
            path = shard_path(self.folder, view, shard)
            if path not in self._checked:
                _checked_tensors(path)
                self._checked.add(path)
            self._maps[shard] = _mapped_tensors(path)
        return self._maps[shard]


def _checked_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file whose checksum matches; UserError otherwise."""
    try:
        return read_tensors(path)[0]
    except UserError as error:
        raise UserError(
            f"{path} is damaged: delete it and run the same `famkd store` command again, which writes it anew."
        ) from error


def _mapped_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, read from disk when they are used."""
    size = os.path.getsize(path)
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        content = json.loads(file.read(start - 8))
    whole = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
    tensors: dict[str, Tensor] = {}
    for name, place in content.items():
        if name != "__metadata__":
            first, last = place["data_offsets"]
            tensors[name] = whole[start + first : start + last].view(TYPES[place["dtype"]]).view(place["shape"])
    return tensors
