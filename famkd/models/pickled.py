"""Read pickles of torch.save without importing or calling anything that they name beside tensors."""

import contextlib
import os
import pickletools
import re
import sys
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

MOST_PICKLES = 5  # in a file of the old format: two numbers, the system, the content and the names of its storages
MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the first pickle of the old format

# Old checkpoints keep their accuracy as a numpy number, pickled under the name that numpy's constructor had then.
_CONSTRUCTOR: Any = np.float64(0).__reduce__()[0]
_KINDS = [np.dtype, *(type(np.dtype(code)) for code in "?bBhHiIlLqQefd")]
_NUMPY_NUMBERS: list[tuple[Any, str]] = [
    (_CONSTRUCTOR, "numpy.core.multiarray.scalar"),
    (_CONSTRUCTOR, "numpy._core.multiarray.scalar"),
    *((kind, f"{kind.__module__}.{kind.__qualname__}") for kind in _KINDS),
]

# Names of Python's own library that only hold values. Any other one could be a function that does something.
HARMLESS = re.compile(
    r"argparse\.Namespace|collections\.\w+|types\.SimpleNamespace|typing(\.\w+)+|datetime\.\w+|enum\.\w+"
    r"|pathlib(\._local)?\.(Pure)?(Posix|Windows)?Path|decimal\.Decimal|fractions\.Fraction|uuid\.UUID"
    r"|builtins\.(int|float|complex|str|bool|list|dict|tuple|set|frozenset|bytes|bytearray|object|slice|range|type)"
    r"|copyreg\._reconstructor|functools\.partial|_codecs\.encode"
)


class _Table:
    """Stands for an object that is not read: an empty table that accepts its items and attributes."""

    def __new__(cls, *args: Any) -> Any:
        return OrderedDict()  # the only kind of table whose items and attributes the reader sets


class _List:
    """Stands for a sequence that is not read."""

    def __new__(cls, *args: Any) -> Any:
        return []


class _Opaque:
    """Stands for an object that is not read and whose state may be anything."""

    def __init__(self, *args: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def read_torch(path: Path) -> Any:
    """Read a file that torch saved. Raises whatever reading it raises.

    Tensors, plain values and numbers of numpy are read. Objects of other classes, such as the options of a training
    script, become empty tables: their classes are neither imported nor called. A file that names functions of Python
    itself is refused.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > os.path.getsize(path):
                raise ValueError("it is compressed, which torch never does: it would unpack to more than its size")
    names = pickled_names(path)
    refused = [name for name in names if not _is_inert(name)]
    if refused:
        raise ValueError(f"it names the function {refused[0]}")
    try:
        return _load(path, names, _Table)
    except Exception:
        return _load(path, names, _Opaque)


def pickled_names(path: Path) -> list[str]:
    """Classes and functions that the pickles of a file name, in order, as "module.name"; nothing is imported."""
    names: dict[str, None] = {}
    with _pickles(path) as file, contextlib.suppress(Exception):  # a damaged file can fail in any way
        for _ in range(MOST_PICKLES):
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name == "GLOBAL":
                    names[_modern(*str(argument).split(" ", 1))] = None
    return list(names)


def _load(path: Path, names: list[str], stand_in: type) -> Any:
    """Read a file with a stand-in for each name that torch does not know; torch looks its own names up first."""

    def replacement(name: str) -> type:
        if name == "collections.deque":
            return _List
        return _Opaque if name.startswith("numpy.") else stand_in

    numbers = {name for _, name in _NUMPY_NUMBERS}
    inert = [(replacement(name), name) for name in names if name not in numbers]
    with torch.serialization.safe_globals([*_NUMPY_NUMBERS, *inert]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of other protocols, and of sparse tensors, which are not used
        return torch.load(path, map_location="cpu", weights_only=True)


def pickle_protocol(path: Path) -> int:
    """The protocol of the first pickle in a file; torch.save writes 2, and torch reads no other one safely."""
    with contextlib.suppress(Exception), _pickles(path) as file:
        mark, protocol = file.read(2)
        return protocol if mark == 0x80 else 0
    return 0


@contextlib.contextmanager
def _pickles(path: Path) -> Iterator[IO[bytes]]:
    """The pickle in a zip archive of torch, or the file itself, which begins with pickles in the old format."""
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive:
        name = next((name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"), None)
        if name is None:
            raise ValueError("it holds no data.pkl")
        with archive.open(name) as file:
            yield file


def _modern(module: str, name: str) -> str:
    """The name that a class or function has in Python 3; torch writes pickles of a protocol of Python 2."""
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return f"{module}.{name}"


def _is_inert(name: str) -> bool:
    """Whether a stand-in may take the place of this class: it is of no part of Python that does something."""
    return bool(HARMLESS.fullmatch(name)) or name.partition(".")[0] not in {*sys.stdlib_module_names, "builtins"}
