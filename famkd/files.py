"""Files that are replaced at once or not at all, and that tell when they were damaged."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from famkd.errors import UserError

CHECKSUM = (
    "sha256"  # key in a safetensors header: of the other notes, and of every tensor's name, type, shape and bytes
)


def write_atomically(path: Path, data: bytes | memoryview, previous: Path | None = None) -> None:
    """Replace a file and make it last: temporary file, fsync, rename; what was there goes to `previous`, if named."""
    part = path.with_name(f".{path.name}.part")  # one name: what a killed process leaves is overwritten by the next
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if previous and path.is_file():
            os.replace(path, previous)
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        reason = error.strerror or error
        raise UserError(f"Cannot write {path}: {reason}. What was there before is untouched.") from error


def must_be_writable(folder: Path) -> None:
    """Make a folder where it is missing; UserError where files cannot be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"Cannot write into {folder}: {error.strerror or error}.") from error


def must_fit(size: int) -> None:
    """ValueError if so many bytes are more than this machine's memory."""
    total = total_memory()
    if size > total:
        raise ValueError(f"it takes {size / 2**30:,.1f} GiB, this machine's memory has {total / 2**30:,.1f}")


def total_memory() -> int:
    """Bytes of this machine's memory; a number larger than any where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 1 << 62


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """A line of JSON for each row, the last key of each a checksum of the rest."""
    write_atomically(path, "".join(f"{_sealed(row)}\n" for row in rows).encode())


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, none where it is missing; UserError where a row is not what was written."""
    if not path.is_file():
        return []
    with reading(path):
        return [_unsealed(line) for line in path.read_text(encoding="utf-8").removesuffix("\n").split("\n")]


def write_tensors(path: Path, state: dict[str, Tensor], notes: dict[str, str] | None = None) -> None:
    """A safetensors file with a checksum among the notes of its header."""
    state = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    write_atomically(path, safetensors.torch.save(state, {**(notes or {}), CHECKSUM: _digest(state, notes or {})}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and notes of a safetensors file; UserError where they are not what was written.

    Files of foreign making have no checksum and are taken as they are.
    """
    with reading(path):
        with safetensors.safe_open(path, "pt") as file:
            state, notes = {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
        seal = notes.pop(CHECKSUM, None)
        if seal and seal != _digest(state, notes):
            raise ValueError("its checksum is another")
    return state, notes


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever goes wrong inside is damage to a file; a UserError stays what it is."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a file that was changed can fail in any way
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> UserError:
    """What to say of a file that cannot be read."""
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path} is missing: restore a copy, or train again.")
    reason = " ".join(str(error).split())[:100]
    return UserError(f"{path} is damaged ({reason}): restore a copy, or train again; --resume mends what it can.")


def _sealed(row: dict[str, Any]) -> str:
    text = json.dumps(row)
    return f'{text[:-1]}, "crc32": "{crc32(text.encode()):08x}"}}'


def _unsealed(line: str) -> dict[str, Any]:
    row = json.loads(line)
    if not isinstance(row, dict) or _sealed({key: row[key] for key in row if key != "crc32"}) != line:
        raise ValueError(f"the checksum of {line[:20]}… is another")
    del row["crc32"]
    return row


def _digest(state: dict[str, Tensor], notes: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(notes, sort_keys=True).encode())
    for key in sorted(state):
        digest.update(f"{key} {state[key].dtype} {list(state[key].shape)}".encode())
        digest.update(state[key].reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
