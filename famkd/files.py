"""Write files atomically, and read them so that damage is reported: JSON lines and safetensors."""

import contextlib
import csv
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from famkd.errors import UserError, one_line

# Key in the header of a safetensors file: a SHA-256 of the other notes and of every tensor's name, type, shape, bytes.
CHECKSUM = "sha256"
ROW_CHECKSUM = "crc32"  # key of each row of metrics.jsonl and timing.jsonl in runs of older versions; dropped


def write_atomically(path: Path, data: bytes | memoryview, previous: Path | None = None) -> None:
    """Replace a file by a temporary file, fsync and rename; the old file is moved to `previous` if that is given.

    Errors: UserError where the file cannot be written; the old file is then untouched.
    """
    part = path.with_name(f".{path.name}.part")  # always this name, so that the next write overwrites what a kill left
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
    """Create a folder if it is missing; UserError where files cannot be written into it."""
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
    """Write JSON lines: one object a line."""
    lines = [json.dumps(row) + "\n" for row in rows]
    write_atomically(path, "".join(lines).encode())


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines; a missing file has no rows.

    Errors: UserError where a line is truncated or is no JSON object.
    """
    if not path.is_file():
        return []
    with reading(path):
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        return [_parse_row(line) for line in lines]


def _parse_row(line: str) -> dict[str, Any]:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError(f"{line[:20]} is no JSON object")
    row.pop(ROW_CHECKSUM, None)
    return row


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], digits: int = 0) -> None:
    """Write rows under the union of their columns.

    Args:
        digits: significant digits of floats; 0 for all of them.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        shown = {k: f"{v:.{digits}g}" if digits and isinstance(v, float) else v for k, v in row.items()}
        writer.writerow(shown)
    write_atomically(path, text.getvalue().encode())


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a header; UserError where it is missing or damaged."""
    with reading(path):
        return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; UserError where the file is damaged."""
    with reading(path):
        return dict(json.loads(path.read_text(encoding="utf-8")))


def write_tensors(path: Path, state: dict[str, Tensor], notes: dict[str, str] | None = None) -> None:
    """Write a safetensors file whose header holds the notes and a checksum; equal contents give equal bytes."""
    notes = notes or {}
    state = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    header = {**notes, CHECKSUM: digest(state, notes)}
    write_atomically(path, _with_sorted_notes(safetensors.torch.save(state, header)))


def _with_sorted_notes(data: bytes) -> bytes:
    """A safetensors file with the notes of its header in alphabetical order: the library writes them in any order."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(-(-len(text) // 8) * 8)  # a multiple of 8, as the format asks
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and notes of a safetensors file; UserError where they do not match the checksum.

    A file that another program wrote has no checksum and is read without the check.
    """
    with reading(path):
        with safetensors.safe_open(path, "pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            notes = file.metadata() or {}
        recorded = notes.pop(CHECKSUM, None)
        if recorded and recorded != digest(state, notes):
            raise ValueError("its checksum does not match")
    return state, notes


def digest(state: Mapping[str, Tensor], notes: Mapping[str, str] | None = None) -> str:
    """A SHA-256 of notes and of every tensor's name, type, shape and bytes."""
    whole = hashlib.sha256(json.dumps(notes or {}, sort_keys=True).encode())
    for key in sorted(state):
        tensor = state[key].detach().cpu()
        whole.update(f"{key} {tensor.dtype} {list(tensor.shape)}".encode())
        whole.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn every exception inside the block into a UserError that says the file is damaged."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a changed file can fail in any way
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> UserError:
    """The error to raise for a file that is missing or cannot be read."""
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path} is missing: restore a copy, or train again.")
    reason = one_line(error)
    return UserError(f"{path} is damaged ({reason}): restore a copy, or train again; --resume repairs what it can.")
