"""Weights from files, of this package and of older code, without ever running what a file says."""

import os
import zipfile
from collections.abc import Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from famkd.errors import UserError
from famkd.files import read_tensors

# Old checkpoints keep their accuracy as a numpy number, under the name that numpy had for its maker then.
_MAKER = np.float64(0).__reduce__()[0]
_NUMPY_NUMBERS = [
    (_MAKER, "numpy.core.multiarray.scalar"),
    (_MAKER, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(code)) for code in "?bBhHiIlLqQefd"),
]


def load_weights(model: nn.Module, path: str | Path, part: str = "student") -> dict[str, str | int | float]:
    """Fill `model` from a .safetensors or torch file, and return the notes beside the weights, such as the epoch.

    Wrappers ("model", "state_dict") and prefixes ("module.", "_orig_mod.") are seen through; of a file that
    holds a whole distiller, `part` is taken. A file that cannot be read or does not fit raises UserError and
    leaves the model as it was.
    """
    content = _read(Path(path))
    notes = {}
    for wrapper in ("state_dict", "model", part):
        if isinstance(content.get(wrapper), Mapping):
            notes |= {key: note for key, value in content.items() if (note := _note(value)) is not None}
            content = content[wrapper]
    own = model.state_dict()
    state = _without_prefix(content, own, part)
    if complaint := _misfit(state, own):
        raise UserError(f"{path} does not fit the model: {complaint}.")
    model.load_state_dict(state)
    return notes


def read_torch(path: Path) -> Any:
    """What torch saved, as long as that is tensors and plain values; raises whatever reading it raises."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > os.path.getsize(path):
                raise ValueError("torch never compresses: it would unpack to more than it is")
    with torch.serialization.safe_globals(_NUMPY_NUMBERS):
        return torch.load(path, map_location="cpu", weights_only=True)


def is_plain(value: object) -> bool:
    """Whether a value is a tensor with a number of its own in memory for each element."""
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def _read(path: Path) -> Mapping:
    if not os.path.isfile(path):
        raise UserError(f"There is no file of weights at {path}.")
    if path.suffix == ".safetensors":
        state, notes = read_tensors(path)
        return {**notes, "state_dict": state}
    try:
        content = read_torch(path)
    except Exception as error:  # a damaged file can fail in any way; torch's own advice would be to run it unsafely
        reason = "it is damaged, or holds Python objects beside the weights, which are never loaded"
        raise UserError(f"{path} cannot be read as weights: {reason}.") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not weights by name.")
    return content


def _note(value: object) -> str | int | float | None:
    if isinstance(value, np.generic) or (is_plain(value) and value.numel() == 1):
        value = value.item()
    return value if isinstance(value, str | int | float) else None


def _without_prefix(content: Mapping, own: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """Drop what data parallelism, compilation or a distiller put before the names that the model knows."""
    weights = {key: value for key, value in content.items() if isinstance(key, str) and is_plain(value)}
    words = ("module.", "_orig_mod.", "model.", f"{part}.")
    prefixes = ["".join(chosen) for count in range(4) for chosen in permutations(words, count)]
    prefix = max(prefixes, key=lambda prefix: sum(prefix + name in weights for name in own))
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def _misfit(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """Say why `state` is not for the model, or ""."""
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    shapes = {key: (state[key].shape, own[key].shape) for key in own if key in state}
    misshapen = {key: pair for key, pair in shapes.items() if pair[0] != pair[1]}
    one_layer = len({key.rpartition(".")[0] for key in misshapen}) == 1
    if one_layer and not missing and not unexpected and all(a[1:] == b[1:] and a and b for a, b in misshapen.values()):
        theirs, ours = next(iter(misshapen.values()))
        return (
            f"the checkpoint has {theirs[0]} classes, the model {ours[0]}: "
            f"pass --data with {theirs[0]} classes or weights trained on {ours[0]}"
        )
    counts = ((missing, "missing"), (unexpected, "unexpected"), (list(misshapen), "of another shape"))
    found = [f"{len(keys)} {what} ({', '.join(keys[:3])}{', …' * (len(keys) > 3)})" for keys, what in counts if keys]
    return f"it is of another architecture, with keys {', '.join(found)}" if found else ""
