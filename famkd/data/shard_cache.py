"""Copies of shards on this machine, for data sets that lie behind a network and are larger than the disk."""

import contextlib
import errno
import hashlib
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import filelock

from famkd.errors import UserError
from famkd.files import must_be_writable

GIB = 2**30
FIRST = ".copying"  # begins the names of unfinished copies
FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))  # Windows has no quota of its own


class ShardCache(NamedTuple):
    """A folder of whole shards, shared by all processes of this machine; the least recently used ones are removed.

    Args:
        folder: where the copies lie.
        gib: GiB that they may take, apart from copies that other processes are making; 0 for no limit.
    """

    folder: Path
    gib: float = 0.0

    def name(self, files: Any, path: str) -> str:
        """Name of the copy of a file; another one where its content changes, as far as the file system tells."""
        return f"{digest(files.unstrip_protocol(path), files.ukey(path))}.tar"

    def copy(self, name: str, files: Any, path: str) -> Path:
        """The copy of this name of a file of an fsspec file system; it is made if there is none.

        Errors: UserError if the disk is full or cannot be written; otherwise what the file system raises.
        """
        copy = self.folder / name
        if not copy.exists():
            must_be_writable(self.folder)
            with filelock.FileLock(copy.with_suffix(".lock"), is_singleton=False):
                if not copy.exists():  # another process may have made it in the meantime
                    self._download(files, path, copy)
        with contextlib.suppress(OSError):  # another process may remove it: the caller asks again
            now = time.time_ns()  # finer than the clock of the file system
            os.utime(copy, ns=(now, now))
        return copy

    def beside(self, files: Any, path: str) -> Path:
        """Where to keep a small file that belongs to one of a file system; it does not count and is not removed."""
        return self.folder / f"{digest(files.unstrip_protocol(path))}-{path.rpartition('/')[2]}"

    def _download(self, files: Any, path: str, copy: Path) -> None:
        part = copy.with_name(f"{FIRST}-{copy.name}")  # under the lock, so there is one of each
        try:
            self._make_room(files.size(path))
            files.get_file(path, str(part))
            os.replace(part, copy)
        except OSError as error:
            if error.errno not in FULL:
                raise
            hint = "Free some space, or pass a smaller --data.cache_gib."
            raise UserError(f"Cannot copy {path} to {self.folder}: {error.strerror}. {hint}") from error
        finally:
            part.unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        """Remove the least recently used shards until there is room for so many bytes more."""
        if not self.gib:
            return
        with filelock.FileLock(self.folder / ".room.lock", is_singleton=False):
            copies = [(found.stat(), found) for found in self.folder.glob("*.tar")]
            taken = sum(stat.st_size for stat, _ in copies) + size
            for stat, found in sorted(copies, key=lambda pair: pair[0].st_mtime_ns):
                if taken <= self.gib * GIB:
                    return
                with contextlib.suppress(OSError):  # Windows keeps files that are open
                    found.unlink()
                    taken -= stat.st_size


def digest(*parts: str) -> str:
    """A short name that differs for other parts."""
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:32]
