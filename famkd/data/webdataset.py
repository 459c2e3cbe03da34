"""WebDataset shards: tar files of samples, each an image and its class, read in place and never unpacked.

A sample is the files that share a name up to the first dot: `0042.jpg` and `0042.cls`, the class as a number or a name,
which may also be in `0042.json` or `0042.txt`. Shards may lie on this machine, on a mounted disk or behind any address
that fsspec reads (s3://, gs://, https:// and others, each with its package), so the data set takes no space here. An
index says where in its tar each image lies. It is read from `index.npz` next to the tars, or made from their headers
and saved there if that is possible.
"""

import re
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from famkd import distributed
from famkd.data.balance import drawn
from famkd.data.loader import TrainTest
from famkd.data.shard_cache import ShardCache
from famkd.data.shard_files import TarFolder, file_system, find_tars, listing, place_of
from famkd.data.shard_index import Index, index_bytes, index_of, read_index
from famkd.data.shard_samples import NUMBER, read_samples
from famkd.data.small import MOST_CLASSES
from famkd.data.targets import without_labels
from famkd.data.tree import and_more
from famkd.data.unreadable import WHOLE
from famkd.errors import UserError

WINDOW = 16  # shards whose images are mixed with each other in an epoch
CAPTIONS = 50  # from so many images on, names that are nearly all different are captions and not classes


class Reading(NamedTuple):
    """How the samples of tars are read.

    Args:
        label_key: key of the class in the samples' .json; "" to find the class.
        labelled: read the classes; otherwise there are none.
        cache: where copies of the tars are kept; None to read them in place.
    """

    label_key: str = ""
    labelled: bool = True
    cache: ShardCache | None = None


USUAL = Reading()


class ShardSource:
    """The images in the tars of one folder.

    An epoch takes the shards in random order and mixes the images of each `WINDOW` of them, so that reading stays
    within a few files at a time. `labels` is int64 (N,), `names` the classes as the samples write them.

    Args:
        folder: address of the folder.
        pattern: names of the tars in it, with * and ? or with braces, as in `train-{0000..0146}.tar`.
        reading: how the samples are read. Without labels `labels` is (N, 0).
    """

    def __init__(self, folder: str, pattern: str = "*.tar", reading: Reading = USUAL):
        self.folder, self._reading = folder, reading
        self._tars = TarFolder(folder, reading.cache)
        index = distributed.on_rank_zero(lambda: self._index(pattern))
        self.shards = list(index.tars)
        self.names: list[str] = index.names
        self._class = index.labels  # (N,) positions in `names`
        self.number_classes(_numbers(self.names) or {name: number for number, name in enumerate(self.names)})
        self._shard, self._place, self._keys = index.shard, index.place, index.keys
        self._unreadable: dict[int, str] = index.unreadable

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Path of an image: its shard, and its key in it."""
        return f"{self.folder}/{self.shards[self._shard[index]]}:{self._keys[index]}"

    def read(self, index: int) -> bytes:
        """Content of an image file."""
        start, stop = self._place[index].tolist()
        return self._tars.read(self.shards[self._shard[index]], start, stop)

    def unreadable(self, workers: int = -1) -> dict[int, str]:
        """Numbers of the images that cannot be read, each with the reason, as the index says."""
        return self._unreadable

    def order(self, draw: torch.Generator, weights: Tensor | None = None) -> Tensor:
        """Order of one epoch: random within each window of shards, the windows one after the other.

        With weights (N,), images are drawn with probabilities like these.
        """
        shuffled = torch.randperm(len(self.shards), generator=draw)
        ranked = torch.empty_like(shuffled)
        ranked[shuffled] = torch.arange(len(shuffled))
        window = ranked[torch.from_numpy(self._shard)] // WINDOW
        order = drawn(len(self), draw, weights)
        return order[window[order].argsort(stable=True)]

    def number_classes(self, numbers: dict[str, int]) -> None:
        """Set `labels` by the number of each class, by its name in the samples."""
        if not self._reading.labelled:
            self.labels = without_labels(self._class)
            return
        self.labels = np.asarray([numbers[name] for name in self.names], np.int64)[self._class]

    def _index(self, pattern: str) -> Index:
        """The saved index, or a new one, which is saved next to the shards if that is possible."""
        files, root = self._tars.place()
        tars = find_tars(files, root, pattern)
        slug = "" if pattern == "*.tar" else re.sub(r"\W+", "-", pattern.removesuffix(".tar")).strip("-") + "."
        slug += "" if self._reading.labelled else "unlabelled."
        name, label_key = f"{slug}index.npz", self._reading.label_key
        for data in self._tars.saved(name):
            saved = read_index(data, tars, label_key)
            if saved is not None:
                return saved
        index = index_of([self._samples(shard, tars) for shard in tars], tars, label_key)
        if not self._tars.save(name, index_bytes(index)):
            warnings.warn(f"Cannot save the index of {self.folder} there: it is made again each time.", stacklevel=2)
        return index

    def _samples(self, shard: str, tars: dict[str, int]) -> list[Any]:
        label_key, labelled, _ = self._reading
        with self._tars.open(shard) as file:
            whole = sum(tars.values()) <= WHOLE
            return read_samples(file, f"{self.folder}/{shard}", label_key, whole=whole, labelled=labelled)


def has_shards(root: str, split: str) -> bool:
    """Whether a split under a root is in shards."""
    return place_of(root, split) is not None


def read_shards(root: str, splits: tuple[str, str] = ("train", "val"), reading: Reading = USUAL) -> TrainTest:
    """List training and test images in tars.

    A split is the name of a folder of tars, the names of tars under the root with * or with braces, or a word in the
    names of the tars in the root. Names of classes come from the lines of `classes.txt` under the root if there is one,
    otherwise from the samples.
    """
    train, test = (shard_source(root, split, reading) for split in splits)
    if not reading.labelled:
        return TrainTest(train, test, [], lambda name: _further_split(root, name, reading, (train, test)))
    files, path = file_system(root)
    listed = None
    if files.exists(f"{path}/classes.txt"):
        listed = files.cat_file(f"{path}/classes.txt").decode().splitlines()
    by_name = not _numbers([*train.names, *test.names])
    classes = _named(root, listed, train) if by_name else _numbered(root, listed, train, test)
    where = f"{root}/classes.txt" if listed else train.folder
    for source in (train, test):
        _number(source, classes, by_name, where)

    def read_split(name: str) -> ShardSource:
        source = _further_split(root, name, reading, (train, test))
        _number(source, classes, by_name, where)
        return source

    return TrainTest(train, test, classes, read_split)


def _further_split(root: str, name: str, reading: Reading, used: tuple[ShardSource, ShardSource]) -> ShardSource:
    """The held-out images of a further split; UserError if there is none, or if it is one of those in use."""
    place = place_of(root, name)
    if place is None:
        raise UserError(f"--data.val {name}: there are no shards in {root}/{name}: name a folder of .tar files.")
    source = ShardSource(*place, reading)
    if (source.folder, source.shards) in [(each.folder, each.shards) for each in used]:
        raise UserError(f"--data.val {name} holds the training or test images: name another folder of shards.")
    return source


def shard_source(root: str, split: str, reading: Reading = USUAL) -> ShardSource:
    """The images of one split; UserError, which says what is there, if it has no tars."""
    place = place_of(root, split)
    if place is None:
        raise UserError(
            f"There are no shards of {split} under {root}: it holds {and_more(sorted(listing(root))) or 'nothing'}. "
            "Name a folder of .tar files, or the files, by --data.splits, as in val-{0000..0063}.tar."
        )
    return ShardSource(*place, reading)


def _numbers(names: list[str]) -> dict[str, int]:
    """The classes as numbers, where all of them are written as numbers; otherwise nothing."""
    return {name: int(name) for name in names} if all(map(NUMBER.fullmatch, names)) else {}


def _numbered(root: str, listed: list[str] | None, train: ShardSource, test: ShardSource) -> list[str]:
    """Names of the classes of shards that write numbers."""
    for source in (train, test):
        if not 0 <= source.labels.min() <= source.labels.max() < MOST_CLASSES:
            raise UserError(
                f"The shards in {source.folder} hold a class that is no number from 0 to {MOST_CLASSES - 1:,}."
            )
    count = int(max(train.labels.max(), test.labels.max())) + 1
    if listed is not None and len(listed) < count:
        raise UserError(f"{root}/classes.txt names {len(listed)} classes but the shards use {count}.")
    return listed or [str(n) for n in range(count)]


def _named(root: str, listed: list[str] | None, train: ShardSource) -> list[str]:
    """Names of the classes of shards that write names."""
    if len(train.names) >= CAPTIONS and len(train) < 2 * len(train.names):
        raise UserError(
            f"The {len(train):,} samples in {train.folder} have {len(train.names):,} classes, such as "
            f"{train.names[0]!r}: these are captions. Name the class by --data.label_key, or add .cls files."
        )
    classes = listed or sorted(train.names)
    if len(classes) > MOST_CLASSES:
        raise UserError(f"The shards in {root} have {len(classes):,} classes: give at most {MOST_CLASSES:,}.")
    return classes


def _number(source: ShardSource, classes: list[str], by_name: bool, where: str) -> None:
    """Number the classes of a source; UserError, which names them, for those that are not among the classes.

    `where` says where the classes are listed, for the message.
    """
    numbers = {name: number for number, name in enumerate(classes)} if by_name else _numbers(source.names)
    unknown = [name for name in source.names if not 0 <= numbers.get(name, -1) < len(classes)]
    if unknown:
        raise UserError(f"The shards in {source.folder} have classes that {where} lacks: {and_more(unknown)}.")
    source.number_classes(numbers)
