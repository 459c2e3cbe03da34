"""WebDataset shards: tar files of samples, each an image and its class, read in place and never unpacked.

A sample is the files that share a name up to the first dot: `0042.jpg` and `0042.cls`, the class as a number. Shards
may lie on this machine, on a mounted disk or behind any address that fsspec reads (s3://, gs://, https:// and others,
each with its package), so a set needs no room here. The index, which tells where in its tar each image lies, is read
from `index.npz` beside the tars, or made from their headers and left there where that can be written.
"""

import io
import os
import tarfile
import warnings

import numpy as np
import torch
from torch import Tensor

from famkd import distributed
from famkd.data.arrays import read_arrays
from famkd.data.folders import ENDINGS, read_folders
from famkd.data.loader import TrainTest
from famkd.data.small import MOST_CLASSES
from famkd.errors import UserError

INDEX = ("shards", "sizes", "shard", "place", "keys", "labels")
WINDOW = 16  # shards whose images are mixed with each other in an epoch


class ShardSource:
    """The images in the tars of one folder.

    An epoch takes the shards in random order and mixes the images of each `WINDOW` of them, so that reading stays
    within a few files at a time. `labels` is int64 (N,).
    """

    def __init__(self, folder: str):
        self.folder, self._opened = folder, (0, None)
        index = distributed.on_rank_zero(lambda: self._read_index() or self._make_index())
        self.shards, self.labels = [str(name) for name in index["shards"]], index["labels"]
        if not 0 <= self.labels.min() <= self.labels.max() < MOST_CLASSES:
            raise UserError(f"The shards in {folder} hold a class that is no number from 0 to {MOST_CLASSES - 1:,}.")
        self._shard, self._place, self._keys = index["shard"], index["place"], index["keys"]

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        return f"{self.folder}/{self.shards[self._shard[index]]}:{self._keys[index]}"

    def read(self, index: int) -> bytes:
        start, stop = self._place[index].tolist()
        return self._files().cat_file(f"{self._root()}/{self.shards[self._shard[index]]}", start=start, end=stop)

    def order(self, draw: torch.Generator) -> Tensor:
        """One epoch's order."""
        shuffled = torch.randperm(len(self.shards), generator=draw)
        ranked = torch.empty_like(shuffled)
        ranked[shuffled] = torch.arange(len(shuffled))
        window = ranked[torch.from_numpy(self._shard)] // WINDOW
        order = torch.randperm(len(self), generator=draw)
        return order[window[order].argsort(stable=True)]

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_opened": (0, None)}

    def _files(self):
        """The file system, opened once in each process: a connection does not survive a fork."""
        if self._opened[0] != os.getpid():
            self._opened = (os.getpid(), file_system(self.folder)[0])
        return self._opened[1]

    def _root(self) -> str:
        return file_system(self.folder)[1]

    def _tars(self) -> dict[str, int]:
        """Name and bytes of each shard, in alphabetical order."""
        found = self._files().glob(f"{self._root()}/*.tar", detail=True)
        return {path.rpartition("/")[2]: found[path]["size"] for path in sorted(found)}

    def _read_index(self) -> dict | None:
        """The index beside the tars, unless it is of other tars."""
        try:
            index = read_arrays(io.BytesIO(self._files().cat_file(f"{self._root()}/index.npz")), INDEX)
            return index if _is_whole(index, self._tars()) else None
        except Exception:  # a zip, its compression and numpy each have their own
            return None

    def _make_index(self) -> dict:
        shards = self._tars()
        rows = [(n, *row) for n, shard in enumerate(shards) for row in self._samples(shard)]
        if not rows:
            raise UserError(f"The shards in {self.folder} hold no images.")
        shard, keys, start, stop, labels = zip(*rows)
        place = np.stack((np.asarray(start, np.int64), np.asarray(stop, np.int64)), 1)
        index = {
            "shards": np.asarray(list(shards)), "sizes": np.asarray(list(shards.values()), np.int64),
            "shard": np.asarray(shard, np.int64), "place": place, "keys": np.asarray(keys),
            "labels": np.asarray(labels, np.int64),
        }  # fmt: skip
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **index)
        try:
            self._files().pipe_file(f"{self._root()}/index.npz", buffer.getvalue())
        except (OSError, NotImplementedError, ValueError):
            warnings.warn(f"The index of {self.folder} cannot be kept there: it is made again each time.", stacklevel=2)
        return index

    def _samples(self, shard: str) -> list[tuple[str, int, int, int]]:
        """Key, first and last byte and class of each image of a shard."""
        images: dict[str, tuple[int, int]] = {}
        classes: dict[str, int] = {}
        try:
            with self._files().open(f"{self._root()}/{shard}", "rb") as file, tarfile.open(fileobj=file) as tar:
                for member in filter(tarfile.TarInfo.isfile, tar):
                    folder, _, base = member.name.rpartition("/")
                    key, _, ending = base.partition(".")
                    if f".{ending.lower()}" in ENDINGS:
                        images[f"{folder}/{key}"] = (member.offset_data, member.offset_data + member.size)
                    elif ending == "cls":
                        classes[f"{folder}/{key}"] = int(tar.extractfile(member).read(18))  # an int64
        except (tarfile.TarError, EOFError, ValueError) as error:
            raise UserError(f"Cannot read {self.folder}/{shard}: {' '.join(str(error).split())[:100]}.") from error
        lacking = next((key for key in images if key not in classes), None)
        if lacking is not None:
            raise UserError(f"{self.folder}/{shard}: {lacking.strip('/')} has no .cls file that tells its class.")
        return [(key.strip("/"), *place, classes[key]) for key, place in images.items()]


def _is_whole(index: dict[str, np.ndarray], tars: dict[str, int]) -> bool:
    """Whether an index is of these tars, and each of its rows leads into one of them."""
    rows, known = len(index["labels"]), dict(zip(index["shards"].tolist(), index["sizes"].tolist()))
    shapes = {name: index[name].shape for name in ("labels", "shard", "keys")} | {"place": index["place"].shape[:-1]}
    shard, numbers = index["shard"], (index["labels"], index["shard"], index["place"])
    return (
        known == tars
        and set(shapes.values()) == {(rows,)}
        and index["place"].shape[1] == 2
        and all(each.dtype == np.int64 for each in numbers)
        and 0 <= shard.min() <= shard.max() < len(tars)
    )


def read_shards(root: str, splits: tuple[str, str] = ("train", "val")) -> TrainTest:
    """Training and test images in tars in two folders; names of classes from `classes.txt`, a line each, if there."""
    train, test = (ShardSource(f"{root}/{split}") for split in splits)
    count = int(max(train.labels.max(), test.labels.max())) + 1
    files, place = file_system(root)
    names = [str(n) for n in range(count)]
    if files.exists(f"{place}/classes.txt"):
        names = files.cat_file(f"{place}/classes.txt").decode().splitlines()
    if len(names) < count:
        raise UserError(f"{root}/classes.txt names {len(names)} classes but the shards use {count}.")
    return TrainTest(train, test, names)


def imagenet(root: str, splits: tuple[str, str] = ("train", "val")) -> TrainTest:
    """Images too many to hold: root/train/CLASS/*.jpg and root/val/CLASS/*.jpg, or WebDataset shards in their places.

    Args:
        splits: the two folders under the root in place of train and val; twice the same tests on what is trained on.
    """
    files, place = file_system(root)
    shards = files.glob(f"{place}/{splits[0]}/*.tar")
    return read_shards(root, splits) if shards else read_folders(root, splits)


def file_system(root: str):
    """fsspec's file system of an address, and the path in it; UserError where a package for it lacks."""
    import fsspec

    try:
        return fsspec.core.url_to_fs(root)
    except (ImportError, ValueError) as error:
        raise UserError(f"{root} cannot be read: {' '.join(str(error).split())}.") from error
