"""WebDataset shards: tar files of samples, each an image and its class, read in place and never unpacked.

A sample is the files that share a name up to the first dot: `0042.jpg` and `0042.cls`, the class as a number. Shards
may lie on this machine, on a mounted disk or behind any address that fsspec reads (s3://, gs://, https:// and others,
each with its package), so the data set takes no space here. An index says where in its tar each image lies. It is read
from `index.npz` next to the tars, or made from their headers and saved there if that is possible.
"""

import io
import os
import tarfile
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from famkd import distributed
from famkd.data.loader import TrainTest
from famkd.data.small import MOST_CLASSES, read_arrays
from famkd.data.transforms import ENDINGS
from famkd.errors import UserError

INDEX = ("shards", "sizes", "shard", "place", "keys", "labels")  # arrays of an index
WINDOW = 16  # shards whose images are mixed with each other in an epoch
LONGEST_CLASS = 18  # digits of a .cls file that are read: what an int64 can hold


class _Sample(NamedTuple):
    """One image in a shard."""

    key: str
    start: int  # first byte in the tar
    stop: int
    label: int


class ShardSource:
    """The images in the tars of one folder.

    An epoch takes the shards in random order and mixes the images of each `WINDOW` of them, so that reading stays
    within a few files at a time. `labels` is int64 (N,).
    """

    def __init__(self, folder: str):
        self.folder = folder
        self._file_system: Any = None  # fsspec's, and the process that opened it
        self._opened_by = 0
        index = distributed.on_rank_zero(lambda: self._read_index() or self._make_index())
        self.shards = [str(name) for name in index["shards"]]
        self.labels: np.ndarray = index["labels"]
        if not 0 <= self.labels.min() <= self.labels.max() < MOST_CLASSES:
            raise UserError(f"The shards in {folder} hold a class that is no number from 0 to {MOST_CLASSES - 1:,}.")
        self._shard, self._place, self._keys = index["shard"], index["place"], index["keys"]

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Path of an image: its shard, and its key in it."""
        return f"{self.folder}/{self.shards[self._shard[index]]}:{self._keys[index]}"

    def read(self, index: int) -> bytes:
        """Content of an image file."""
        start, stop = self._place[index].tolist()
        shard = self.shards[self._shard[index]]
        return self._files().cat_file(f"{self._root()}/{shard}", start=start, end=stop)

    def order(self, draw: torch.Generator) -> Tensor:
        """Order of one epoch: random within each window of shards, the windows one after the other."""
        shuffled = torch.randperm(len(self.shards), generator=draw)
        ranked = torch.empty_like(shuffled)
        ranked[shuffled] = torch.arange(len(shuffled))
        window = ranked[torch.from_numpy(self._shard)] // WINDOW
        order = torch.randperm(len(self), generator=draw)
        return order[window[order].argsort(stable=True)]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file_system": None, "_opened_by": 0}

    def _files(self) -> Any:
        """The file system, opened once in each process: a connection does not survive a fork."""
        if self._opened_by != os.getpid():
            self._file_system, _ = file_system(self.folder)
            self._opened_by = os.getpid()
        return self._file_system

    def _root(self) -> str:
        return file_system(self.folder)[1]

    def _tars(self) -> dict[str, int]:
        """Name and bytes of each shard, in alphabetical order."""
        found = self._files().glob(f"{self._root()}/*.tar", detail=True)
        return {path.rpartition("/")[2]: found[path]["size"] for path in sorted(found)}

    def _read_index(self) -> dict[str, np.ndarray] | None:
        """The saved index; None if there is none, or if it is damaged or of other tars."""
        try:
            content = self._files().cat_file(f"{self._root()}/index.npz")
            index = read_arrays(io.BytesIO(content), INDEX)
            return index if _fits(index, self._tars()) else None
        except Exception:  # zipfile, its compression and numpy each raise their own
            return None

    def _make_index(self) -> dict[str, np.ndarray]:
        """Index the shards by their headers, and save the index next to them if that is possible."""
        shards = self._tars()
        samples: list[_Sample] = []
        numbers: list[int] = []  # the shard of each sample
        for number, shard in enumerate(shards):
            found = self._samples(shard)
            samples += found
            numbers += [number] * len(found)
        if not samples:
            raise UserError(f"The shards in {self.folder} hold no images.")
        index = {
            "shards": np.asarray(list(shards)),
            "sizes": np.asarray(list(shards.values()), np.int64),
            "shard": np.asarray(numbers, np.int64),
            "place": np.asarray([(sample.start, sample.stop) for sample in samples], np.int64),
            "keys": np.asarray([sample.key for sample in samples]),
            "labels": np.asarray([sample.label for sample in samples], np.int64),
        }
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **index)
        try:
            self._files().pipe_file(f"{self._root()}/index.npz", buffer.getvalue())
        except (OSError, NotImplementedError, ValueError):
            warnings.warn(f"Cannot save the index of {self.folder} there: it is made again each time.", stacklevel=2)
        return index

    def _samples(self, shard: str) -> list[_Sample]:
        """The images of a shard, in its order."""
        images: dict[str, tuple[int, int]] = {}
        classes: dict[str, int] = {}
        path = f"{self._root()}/{shard}"
        try:
            with self._files().open(path, "rb") as file, tarfile.open(fileobj=file) as tar:
                for member in tar:
                    if not member.isfile():
                        continue
                    folder, _, base = member.name.rpartition("/")
                    stem, _, ending = base.partition(".")
                    key = f"{folder}/{stem}"
                    if f".{ending.lower()}" in ENDINGS:
                        images[key] = (member.offset_data, member.offset_data + member.size)
                    elif ending == "cls":
                        classes[key] = _class_of(tar, member)
        except (tarfile.TarError, EOFError, ValueError) as error:
            raise UserError(f"Cannot read {self.folder}/{shard}: {' '.join(str(error).split())[:100]}.") from error
        for key in images:
            if key not in classes:
                raise UserError(f"{self.folder}/{shard}: {key.strip('/')} has no .cls file with its class.")
        return [_Sample(key.strip("/"), start, stop, classes[key]) for key, (start, stop) in images.items()]


def read_shards(root: str, splits: tuple[str, str] = ("train", "val")) -> TrainTest:
    """List training and test images in the tars of two folders.

    Names of classes come from the lines of `classes.txt` under the root, if there is one.
    """
    train, test = (ShardSource(f"{root}/{split}") for split in splits)
    count = int(max(train.labels.max(), test.labels.max())) + 1
    names = [str(n) for n in range(count)]
    files, path = file_system(root)
    if files.exists(f"{path}/classes.txt"):
        names = files.cat_file(f"{path}/classes.txt").decode().splitlines()
    if len(names) < count:
        raise UserError(f"{root}/classes.txt names {len(names)} classes but the shards use {count}.")

    def read_split(name: str) -> ShardSource:
        if name in splits:
            raise UserError(f"--data.val {name} holds the training or test images: name another folder of shards.")
        if not files.glob(f"{path}/{name}/*.tar"):
            raise UserError(f"--data.val {name}: there are no shards in {root}/{name}: name a folder of .tar files.")
        source = ShardSource(f"{root}/{name}")
        if int(source.labels.max()) >= len(names):
            raise UserError(f"The shards in {root}/{name} hold class {source.labels.max()}, which training lacks.")
        return source

    return TrainTest(train, test, names, read_split)


def file_system(root: str) -> tuple[Any, str]:
    """fsspec's file system of an address, and the path in it; UserError if a package for it is missing."""
    import fsspec

    try:
        return fsspec.core.url_to_fs(root)
    except (ImportError, ValueError) as error:
        raise UserError(f"{root} cannot be read: {' '.join(str(error).split())}.") from error


def _class_of(tar: tarfile.TarFile, member: tarfile.TarInfo) -> int:
    """The number in a .cls file; ValueError if it holds none."""
    file = tar.extractfile(member)
    if file is None:
        raise ValueError(f"{member.name} is no file")
    return int(file.read(LONGEST_CLASS))


def _fits(index: dict[str, np.ndarray], tars: dict[str, int]) -> bool:
    """Whether an index is of these tars, and each of its rows leads into one of them."""
    shards, rows = index["shards"], len(index["labels"])
    if shards.shape != index["sizes"].shape or shards.shape != (len(tars),):
        return False
    if dict(zip(shards.tolist(), index["sizes"].tolist())) != tars:
        return False
    if index["place"].shape != (rows, 2):
        return False
    if any(index[name].shape != (rows,) for name in ("labels", "shard", "keys")):
        return False
    if any(index[name].dtype != np.int64 for name in ("labels", "shard", "place")):
        return False
    shard = index["shard"]
    return bool(0 <= shard.min() <= shard.max() < len(tars))
