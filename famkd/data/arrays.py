"""Arrays from .npz files of anyone's making, looked at before they are read."""

import math
import os
import zipfile
from collections.abc import Iterable
from typing import IO

import numpy as np

HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_arrays(file: str | os.PathLike | IO[bytes], names: Iterable[str]) -> dict[str, np.ndarray]:
    """Those of the named arrays that an .npz holds.

    Raises ValueError, or whatever a zip raises, for a damaged file, for arrays that would run code, and before
    anything is allocated for what claims to hold more than it does, or more than fits into memory.
    """
    with zipfile.ZipFile(file) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        chosen = {name: members[name] for name in names if name in members}
        must_fit(sum(info.file_size for info in chosen.values()))
        return {name: _read(archive, info) for name, info in chosen.items()}


def must_fit(size: int) -> None:
    """ValueError where so many bytes are more than this machine's memory."""
    if size > memory():
        raise ValueError(f"it takes {size / 2**30:,.1f} GiB, this machine's memory has {memory() / 2**30:,.1f}")


def memory() -> int:
    """Bytes of this machine's memory; where it does not tell, none is too much."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 1 << 62


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as member:
        shape, _, dtype = HEADERS[np.lib.format.read_magic(member)](member)
    if dtype.hasobject:
        raise ValueError(f"{info.filename} holds Python objects, which are never loaded")
    if math.prod(shape) * max(1, dtype.itemsize) > info.file_size:
        raise ValueError(f"{info.filename} claims to be {shape} {dtype} but is shorter")
    with archive.open(info) as member:
        return np.lib.format.read_array(member, allow_pickle=False)
