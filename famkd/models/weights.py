"""Load weights from files of this package and of older code, without running any code stored in a file."""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from famkd.errors import UserError
from famkd.files import read_tensors

# Old checkpoints keep their accuracy as a numpy number, pickled under the name that numpy's constructor had then.
_CONSTRUCTOR: Any = np.float64(0).__reduce__()[0]
_NUMPY_NUMBERS: list[Any] = [
    (_CONSTRUCTOR, "numpy.core.multiarray.scalar"),
    (_CONSTRUCTOR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(code)) for code in "?bBhHiIlLqQefd"),
]


def load_weights(model: nn.Module, path: str | Path, part: str = "student") -> dict[str, str | int | float]:
    """Load the weights in a .safetensors or torch file into `model`.

    Wrappers ("model", "state_dict") and prefixes ("module.", "_orig_mod.") are removed.

    Args:
        part: which network of a file that holds a whole distiller, student or teacher.

    Returns notes that the file holds next to the weights, such as the epoch.

    Errors: UserError for a file that cannot be read or does not fit. The model then stays as it was.
    """
    content = _read(Path(path))
    notes: dict[str, str | int | float] = {}
    for wrapper in ("state_dict", "model", part):
        if isinstance(content.get(wrapper), Mapping):
            notes |= _notes(content)
            content = content[wrapper]
    own = model.state_dict()
    state = _without_prefix(content, own, part)
    complaint = _misfit(state, own)
    if complaint:
        raise UserError(f"{path} does not fit the model: {complaint}.")
    model.load_state_dict(state)
    return notes


def read_torch(path: Path) -> Any:
    """Read a file that torch saved, if it holds tensors and plain values only. Raises whatever reading it raises."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > os.path.getsize(path):
                raise ValueError("it is compressed, which torch never does: it would unpack to more than its size")
    with torch.serialization.safe_globals(_NUMPY_NUMBERS):
        return torch.load(path, map_location="cpu", weights_only=True)


def is_plain(value: object) -> TypeGuard[Tensor]:
    """Whether a value is an ordinary CPU tensor with every element in memory: not sparse, quantized or expanded."""
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
    except Exception as error:  # a damaged file can fail in any way, and torch's message advises to load it unsafely
        reason = "it is damaged, or holds Python objects as well as weights, which are never loaded"
        raise UserError(f"{path} cannot be read as weights: {reason}.") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not weights by name.")
    return content


def _notes(content: Mapping) -> dict[str, str | int | float]:
    """The entries of a checkpoint that are a text or a single number."""
    notes = {}
    for key, value in content.items():
        if isinstance(value, np.generic) or (is_plain(value) and value.numel() == 1):
            value = value.item()
        if isinstance(value, str | int | float):
            notes[key] = value
    return notes


def _without_prefix(content: Mapping, own: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """Remove what data parallelism, compilation or a distiller put in front of the names that the model knows.

    Prefixes are removed one at a time, along with the weights that lack them. Of all steps on the way, the one with the
    most names of the model counts, because the names of a model may themselves begin with such a word.
    """
    weights = {key: value for key, value in content.items() if isinstance(key, str) and is_plain(value)}
    words = (f"{part}.", "module.", "_orig_mod.", "model.")
    steps = [weights]
    for _ in words:
        found = [word for word in words if any(key.startswith(word) for key in steps[-1])]
        if not found:
            break
        named = {key: value for key, value in steps[-1].items() if key.startswith(found[0])}
        steps.append({key.removeprefix(found[0]): value for key, value in named.items()})
    return max(steps, key=lambda state: len(state.keys() & own.keys()))


def _misfit(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """Return why `state` does not fit the model, or ""."""
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    misshapen = [key for key in own if key in state and state[key].shape != own[key].shape]
    if not missing and not unexpected and _only_classes_differ(misshapen, state, own):
        theirs, ours = len(state[misshapen[0]]), len(own[misshapen[0]])
        return (
            f"the checkpoint has {theirs} classes, the model {ours}: "
            f"pass --data with {theirs} classes or weights trained on {ours}"
        )
    groups = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    found = [_listed(keys, what) for what, keys in groups.items() if keys]
    return f"it is of another architecture, with keys {', '.join(found)}" if found else ""


def _only_classes_differ(misshapen: list[str], state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    """Whether the tensors of another shape belong to one layer and differ in their first size only."""
    if len({key.rpartition(".")[0] for key in misshapen}) != 1:
        return False
    shapes = [(state[key].shape, own[key].shape) for key in misshapen]
    return all(theirs and ours and theirs[1:] == ours[1:] for theirs, ours in shapes)


def _listed(keys: list[str], what: str) -> str:
    """The number of keys, and the first three of them."""
    more = ", …" if len(keys) > 3 else ""
    return f"{len(keys)} {what} ({', '.join(keys[:3])}{more})"
