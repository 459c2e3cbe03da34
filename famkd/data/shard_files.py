"""Where the tars of a WebDataset lie: in a folder for each split, or by their names, behind any address of fsspec."""

import contextlib
import math
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import product
from typing import IO, Any

from famkd.data.shard_cache import ShardCache
from famkd.data.tree import and_more, find_either, is_hidden
from famkd.errors import UserError, one_line
from famkd.files import write_atomically

MOST_SHARDS = 100_000  # that a pattern with braces may stand for


TRIES = 10  # to open a copy that other processes may remove


class TarFolder:
    """A folder of tars behind an address, read in place or from copies on this machine."""

    def __init__(self, address: str, cache: ShardCache | None = None):
        self.address, self._cache = address, cache
        self._opened: tuple[int, Any, str] | None = None  # the process, its file system, and the path in it
        self._names: dict[str, str] = {}  # of the copies, by tar: a server is asked for them once

    def read(self, tar: str, start: int, stop: int) -> bytes:
        """Some bytes of a tar."""
        if not self._cache:
            files, root = self.place()
            data = files.cat_file(f"{root}/{tar}", start=start, end=stop)
            if len(data) > stop - start:
                raise UserError(f"{self.address} does not send parts of files: pass --data.cache FOLDER.")
            return data
        with self.open(tar) as file:
            file.seek(start)
            return file.read(stop - start)

    def open(self, tar: str) -> AbstractContextManager[IO[bytes]]:
        """A tar, opened for reading."""
        files, root = self.place()
        path = f"{root}/{tar}"
        if not self._cache:
            return files.open(path, "rb")
        if tar not in self._names:
            self._names[tar] = self._cache.name(files, path)
        for _ in range(TRIES):
            with contextlib.suppress(FileNotFoundError):  # removed after it was found, to make room for another
                return open(self._cache.copy(self._names[tar], files, path), "rb")
        raise UserError(f"Copies in {self._cache.folder} are removed again and again: raise --data.cache_gib.")

    def saved(self, name: str) -> Iterator[bytes]:
        """What was saved under a name, next to the tars or with their copies."""
        files, root = self.place()
        with contextlib.suppress(Exception):  # every file system raises its own where there is no such file
            yield files.cat_file(f"{root}/{name}")
        if self._cache:
            with contextlib.suppress(OSError):
                yield self._cache.beside(files, f"{root}/{name}").read_bytes()

    def save(self, name: str, data: bytes) -> bool:
        """Save data next to the tars, or with their copies where that is impossible; whether it was saved."""
        files, root = self.place()
        try:
            files.pipe_file(f"{root}/{name}", data)
        except (OSError, NotImplementedError, ValueError):
            if not self._cache:
                return False
            write_atomically(self._cache.beside(files, f"{root}/{name}"), data)
        return True

    def place(self) -> tuple[Any, str]:
        """The file system and the path in it, opened once in each process: a connection does not survive a fork."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), *file_system(self.address))
        return self._opened[1:]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}


def file_system(root: str) -> tuple[Any, str]:
    """fsspec's file system of an address, and the path in it; UserError if a package for it is missing."""
    import fsspec

    try:
        return fsspec.core.url_to_fs(root)
    except (ImportError, ValueError) as error:
        raise UserError(f"{root} cannot be read: {one_line(error)}.") from error


@contextlib.contextmanager
def reachable(root: str) -> Iterator[None]:
    """Turn what a server or its package raises into a UserError; errors of folders on this machine stay as they are."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # every file system raises its own
        if "://" not in root:
            raise
        reason = one_line(error)
        raise UserError(f"{root} cannot be read: {reason}. Check the address, the network and your account.") from error


def find_tars(files: Any, root: str, pattern: str) -> dict[str, int]:
    """Name under the root and bytes of each tar of a pattern, in alphabetical order; UserError for missing ones."""
    found: dict[str, int] = {}
    missing = []
    for name in _without_braces(pattern):
        path = f"{root}/{name}"
        try:
            paths = files.glob(path, detail=True) if re.search("[*?]", name) else {path: files.info(path)}
        except FileNotFoundError:
            missing.append(name)
            continue
        for path, info in paths.items():
            if not is_hidden(path.rpartition("/")[2]):
                size = info["size"]  # web servers list files without it
                found[path.removeprefix(root).lstrip("/")] = files.size(path) if size is None else size
    if missing or not found:
        raise UserError(f"There is no {and_more(missing or [pattern])} in {root}.")
    return dict(sorted(found.items()))


def place_of(root: str, split: str) -> tuple[str, str] | None:
    """Address of the folder of a split's tars, and the pattern of their names; None if there are none."""
    if re.search(r"[*?{]|\.tar$", split):
        folder, _, pattern = split.rpartition("/")
        return (f"{root}/{folder}" if folder else root), pattern
    files, path = file_system(root)
    if files.glob(f"{path}/{split}/*.tar"):
        return f"{root}/{split}", "*.tar"
    present = listing(root)
    folder = find_either(split, [name for name, is_folder in present.items() if is_folder], root)
    if folder:
        return (f"{root}/{folder}", "*.tar") if files.glob(f"{path}/{folder}/*.tar") else None
    words = [word for name in present if name.endswith(".tar") for word in re.findall("[A-Za-z]+", name)]
    word = find_either(split, words, root)
    return (root, f"*{word}*.tar") if word else None


def listing(root: str) -> dict[str, bool]:
    """What lies in a folder, and whether each is a folder; nothing where the address cannot be listed."""
    files, path = file_system(root)
    try:
        entries = files.ls(path, detail=True)
    except Exception:  # every file system raises its own
        return {}
    return {entry["name"].rstrip("/").rpartition("/")[2]: entry["type"] == "directory" for entry in entries}


def _without_braces(pattern: str) -> Iterator[str]:
    """The names that a pattern with braces stands for: {a,b} for each of several, {0000..0146} for a range."""
    parts = re.split(r"\{([^{}]*)\}", pattern)
    choices = []
    for place, part in enumerate(parts):
        span = re.fullmatch(r"(\d+)\.\.(\d+)", part)
        if place % 2 == 0:
            choices.append([part])
        elif span and int(span[2]) - int(span[1]) < MOST_SHARDS:
            choices.append([f"{n:0{len(span[1])}}" for n in range(int(span[1]), int(span[2]) + 1)])
        else:
            choices.append(part.split(","))
    if math.prod(map(len, choices)) > MOST_SHARDS:
        raise UserError(f"{pattern} stands for more than {MOST_SHARDS:,} files: name fewer.")
    return map("".join, product(*choices))
