"""Weights that stay in their file: a safetensors file read in parts, and the response of a filter in it.

Parts are read with seek and read, not through a memory map, whose pages would count as memory of the process.
"""

import hashlib
import json
import math
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from torch import Tensor, nn

from famkd.files import CHECKSUM, damaged, must_fit
from famkd.layers.fourier import FourierFilter

TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
         "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool}  # fmt: skip
NOT_OPTIONS = ("size", "channels")  # keys of a filter's note that say how large it is
CHUNK = 4 << 20  # bytes that a checksum reads at once


class TensorFile(Mapping[str, Tensor]):
    """The tensors of a safetensors file by name. Each access reads the tensor anew.

    The file stays open, so that all parts come from one version of it, also where a training replaces it.

    Errors: those of safetensors for a header that does not fit the file; UserError where the checksum is wrong or the
    file has become shorter.
    """

    def __init__(self, path: Path):
        with safetensors.safe_open(path, "pt"):  # checks the header against the file
            pass
        self.path = path
        self.file = path.open("rb", buffering=0)  # a single filter is read as many numbers that lie far apart
        self.close = weakref.finalize(self, self.file.close)
        length = int.from_bytes(self.file.read(8), "little")
        header = json.loads(self.file.read(length))
        self.notes: dict[str, str] = header.pop("__metadata__", {})
        self.start = 8 + length
        self.entries: dict[str, dict[str, Any]] = header
        self.bytes_read = self.start
        self.checked = CHECKSUM not in self.notes

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, key: object) -> bool:
        return key in self.entries

    def __getitem__(self, key: str) -> Tensor:
        low, high = self.entries[key]["data_offsets"]
        return self.read(key, 0, (high - low) // self.dtype(key).itemsize).reshape(self.shape(key))

    def shape(self, key: str) -> tuple[int, ...]:
        return tuple(self.entries[key]["shape"])

    def dtype(self, key: str) -> torch.dtype:
        return TYPES[self.entries[key]["dtype"]]

    def read(self, key: str, first: int, count: int) -> Tensor:
        """Some numbers of a tensor that follow one another, (count,)."""
        size = self.dtype(key).itemsize
        data = self._bytes(self.entries[key]["data_offsets"][0] + first * size, count * size)
        return torch.frombuffer(data, dtype=self.dtype(key)) if count else torch.empty(0, dtype=self.dtype(key))

    def _bytes(self, at: int, count: int) -> bytearray:
        data = bytearray(count)
        self.file.seek(self.start + at)
        if self.file.readinto(data) != count:
            raise damaged(self.path, ValueError(f"it ends before byte {self.start + at + count}"))
        self.bytes_read += count
        return data

    def check(self) -> Iterator[None]:
        """Compare the checksum in the header with the contents, a few MiB a step."""
        if self.checked:
            return
        notes = {key: value for key, value in self.notes.items() if key != CHECKSUM}
        whole = hashlib.sha256(json.dumps(notes, sort_keys=True).encode())  # in the order of `famkd.files.digest`
        for key in sorted(self.entries):
            whole.update(f"{key} {self.dtype(key)} {list(self.shape(key))}".encode())
            low, high = self.entries[key]["data_offsets"]
            for at in range(low, high, CHUNK):
                whole.update(self._bytes(at, min(CHUNK, high - at)))
                yield
        if whole.hexdigest() != self.notes[CHECKSUM]:
            raise damaged(self.path, ValueError("its checksum does not match"))
        self.checked = True


class StoredResponse:
    """The frequency response (C_out, C_in, H, W // 2 + 1) of a filter, computed for some channels at a time.

    Args:
        note: what `FourierFilter.describe` returned.
        own: tensors of its state dict by name. The weight of a dense filter may be left out.
        file, key: where that weight is.
    """

    def __init__(self, note: Mapping[str, Any], own: Mapping[str, Tensor], file: TensorFile, key: str):
        self.note, self.own, self.file, self.key = note, dict(own), file, key
        height, width = note["size"]
        c_in, c_out = note["channels"]
        self.shape = (c_out, c_in, height, width // 2 + 1)
        must_fit(64 * c_in * c_out)  # a short damaged file can claim many channels
        found = {key: tuple(tensor.shape) for key, tensor in self.own.items()} | {"weight": file.shape(key)}
        wanted = {key: tuple(tensor.shape) for key, tensor in self._module((c_in, c_out)).state_dict().items()}
        if found != wanted:
            raise ValueError(f"tensors of {key} have the shapes {found} in place of {wanted}")

    @property
    def dense(self) -> bool:
        return self.note.get("filter") == "dense"

    def _module(self, channels: tuple[int, int]) -> FourierFilter:
        rank = self.file.shape(self.key)[-1]
        return empty_module(self.note, channels, rank)

    def inputs(self, start: int, stop: int) -> np.ndarray:
        """The filters of some input channels, complex64 (C_out, stop - start, H, W // 2 + 1)."""
        c_out = self.shape[0]
        return self._response(self._of_inputs(start, stop), (stop - start, c_out))

    def pairs(self, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        """The filters of some pairs of output and input channel, complex64 (N, H, W // 2 + 1)."""
        if not pairs:
            return np.zeros((0, *self.shape[2:]), np.complex64)
        if not self.dense:
            return np.stack([self.inputs(c_in, c_in + 1)[c_out, 0] for c_out, c_in in pairs])
        weight = torch.stack([self._pair(*pair) for pair in pairs], 2)[..., None]
        return self._response({**self.own, "weight": weight}, (len(pairs), 1))[0]

    def whole(self) -> np.ndarray:
        """All filters at once. ValueError where they do not fit into memory."""
        must_fit(4 * 8 * math.prod(self.shape))
        return self.inputs(0, self.shape[1])

    def _response(self, own: dict[str, Tensor], channels: tuple[int, int]) -> np.ndarray:
        """The response of a filter of these tensors, which may be those of some channels only."""
        module = self._module(channels)
        for name, value in own.items():
            setattr(module, name, value if name == "gain" else nn.Parameter(value, requires_grad=False))
        return module.response().numpy()

    def _of_inputs(self, start: int, stop: int) -> dict[str, Tensor]:
        """The state dict of a filter of some input channels only."""
        if self.dense:
            return {**self.own, "weight": self._weight(start, stop)}
        if "down" in self.own:
            return {**self.own, "down": self.own["down"][:, start:stop]}
        return {**self.own, "weight": self.own["weight"][..., start:stop], "up": self.own["up"][:, start:stop]}

    def _weight(self, start: int, stop: int) -> Tensor:
        """Weights of some input channels, (H, W // 2 + 1, stop - start, 2, C_out): a run of bytes per frequency."""
        c_out, c_in, height, columns = self.shape
        one = 2 * c_out
        count = (stop - start) * one
        weight = torch.empty(height * columns, count, dtype=self.file.dtype(self.key))
        for frequency, part in enumerate(weight):
            part.copy_(self.file.read(self.key, (frequency * c_in + start) * one, count))
        return weight.view(height, columns, stop - start, 2, c_out)

    def _pair(self, c_out: int, c_in: int) -> Tensor:
        """Weights of one pair of channels, (H, W // 2 + 1, 2)."""
        outs, ins, height, columns = self.shape
        rows = [(frequency * ins + c_in) * 2 + part for frequency in range(height * columns) for part in (0, 1)]
        return torch.cat([self.file.read(self.key, row * outs + c_out, 1) for row in rows]).view(height, columns, 2)


def empty_module(note: Mapping[str, Any], channels: tuple[int, int], rank: int) -> FourierFilter:
    """A filter of some input and output channels without values: it is on the meta device, which draws no number."""
    options = {key: value for key, value in note.items() if key not in NOT_OPTIONS}
    height, width = note["size"]
    with torch.device("meta"):
        return FourierFilter(*channels, (height, width), **options, rank=rank)
