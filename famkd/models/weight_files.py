"""Open files and folders of weights: of torch.save, of safetensors, and what the Hugging Face hub holds."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from famkd.errors import UserError
from famkd.files import read_tensors
from famkd.models.file_kinds import foreign_kind, is_safetensors, is_torch
from famkd.models.pickled import MAGIC, pickle_protocol, pickled_names, read_torch

HUB_FILES = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin")
ENDINGS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar", ".pkl")
SAVE_AGAIN = "where you trust it, save its weights alone"


def read_weights(path: Path) -> Mapping[str, Any]:
    """What a file or a folder of the Hugging Face hub holds: weights by name, wrappers around them, and notes.

    Errors: UserError that names what the file is, where it is of another kind, damaged or incomplete.
    """
    if path.is_dir():
        path = _file_in(path)
    if not os.path.isfile(path):
        broken = " that exists: it is a broken link" if os.path.islink(path) else ""
        raise UserError(f"There is no file of weights at {path}{broken}.")
    if path.name.endswith(".index.json"):
        return _shards(path)
    kind = foreign_kind(path)
    if kind:
        raise UserError(f"{path} cannot be read as weights: it {kind}.")
    if is_safetensors(path) or (path.suffix == ".safetensors" and not is_torch(path)):
        state, notes = read_tensors(path)
        return {**notes, "state_dict": state}
    try:
        content = read_torch(path)
    except Exception as error:  # a damaged file can fail in any way, and torch's message advises to load it unsafely
        raise UserError(f"{path} cannot be read as weights: {_refusal(path)}.") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not weights by name.")
    if not _has_tensors(content) and (model := _pickled_model(path)):
        raise UserError(f"{path} cannot be read as weights: {model}.")
    return content


def hub_config(path: Path) -> dict[str, Any]:
    """The config.json of a folder of the Hugging Face hub, or of the folder that a file is in; {} without one."""
    file = (path if path.is_dir() else path.parent) / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def is_plain(value: object) -> TypeGuard[Tensor]:
    """Whether a value is an ordinary CPU tensor with every element in memory: not sparse, quantized or expanded."""
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def _file_in(folder: Path) -> Path:
    """The file of weights in a folder of the hub, or the only one that there is."""
    for name in (*HUB_FILES, *(f"{name}.index.json" for name in HUB_FILES)):
        if (folder / name).is_file():
            return folder / name
    if (folder / ".metadata").is_file() or any(folder.glob("*.distcp")):
        raise UserError(
            f"{folder} holds a checkpoint in parts of several processes: join them by `python -m "
            f"torch.distributed.checkpoint.format_utils dcp_to_torch {folder} weights.pt` and name weights.pt."
        )
    files = sorted(file for file in folder.iterdir() if file.suffix in ENDINGS)
    if len(files) == 1:
        return files[0]
    if not files:
        raise UserError(f"There is no file of weights at {folder}: the folder holds none.")
    names = ", ".join(file.name for file in files[:4]) + (", …" if len(files) > 4 else "")
    raise UserError(f"{folder} is a folder with several files of weights: name one of {names}.")


def _shards(index: Path) -> Mapping[str, Any]:
    """The weights of a checkpoint in several files, which a table in JSON lists."""
    try:
        table = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = sorted(set(table.values()))
        inside = all(isinstance(name, str) and Path(name).name == name for name in files)
        if not files or not inside:
            raise ValueError("it lists files outside of its folder")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{index} cannot be read as the list of a checkpoint's files: it is damaged.") from error
    state: dict[str, Any] = {}
    for name in files:
        part = read_weights(index.parent / name)
        state |= part.get("state_dict", part)
    return {"state_dict": state}


def _refusal(path: Path) -> str:
    """Why a file of torch.save was not read."""
    model = _pickled_model(path)
    if model:
        return model
    with open(path, "rb") as file:
        head = file.read(len(MAGIC))
    if head[:1] == b"\x80" and head != MAGIC:
        return f"it is a pickle that torch.save did not write; {SAVE_AGAIN} by torch.save"
    if pickle_protocol(path) > 2:
        return f"it is written with another pickle_protocol than torch.save's own; {SAVE_AGAIN} without that option"
    if any("DTensor" in name or "ShardedTensor" in name for name in pickled_names(path)):
        return "it holds a part of weights that several processes share; save the full state dict"
    return f"it is damaged, or holds Python objects as well as weights, which are never loaded; {SAVE_AGAIN}"


def _pickled_model(path: Path) -> str:
    """A sentence for a file that holds a network as a Python object, instead of its weights; "" for any other file."""
    names = pickled_names(path)
    if not any(name.startswith("torch.nn.modules.") for name in names):
        return ""
    own = next((name for name in names if not name.startswith(("torch._utils.", "collections.", "builtins."))), "")
    return (
        f"it is a whole pickled model ({own}), which would run code; {SAVE_AGAIN} by "
        'torch.save(torch.load("FILE", weights_only=False).state_dict(), "weights.pt")'
    )


def _has_tensors(content: Mapping, depth: int = 4) -> bool:
    """Whether there are tensors among the values of a table, or of tables in it."""
    for value in content.values():
        if isinstance(value, Tensor):
            return True
        if isinstance(value, Mapping) and depth and _has_tensors(value, depth - 1):
            return True
    return False
