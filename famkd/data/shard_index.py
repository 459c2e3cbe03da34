"""An index of a WebDataset: where in which tar each image lies and its class, saved next to the tars."""

import io
from typing import NamedTuple

import numpy as np

from famkd.data.shard_samples import Sample
from famkd.data.small import read_arrays

ARRAYS = ("shards", "sizes", "shard", "place", "keys", "names", "labels", "bad", "reasons", "label_key")


class Index(NamedTuple):
    """The images in some tars, N in all."""

    tars: dict[str, int]  # name and bytes of each tar
    shard: np.ndarray  # (N,) number of the tar
    place: np.ndarray  # (N, 2) first byte in the tar, and the one after the last
    keys: np.ndarray  # (N,) names of the samples
    names: list[str]  # classes as the files write them, in alphabetical order
    labels: np.ndarray  # (N,) positions in `names`
    unreadable: dict[int, str]  # numbers of images that cannot be read, each with the reason
    label_key: str  # key of a .json that was asked for


def index_of(samples: list[list[Sample]], tars: dict[str, int], label_key: str) -> Index:
    """An index of the samples of each tar, in the order of the tars."""
    every = [sample for found in samples for sample in found]
    numbers = [number for number, found in enumerate(samples) for _ in found]
    names, labels = np.unique([sample.name for sample in every], return_inverse=True)
    return Index(
        tars=tars,
        shard=np.asarray(numbers, np.int64),
        place=np.asarray([(sample.start, sample.stop) for sample in every], np.int64),
        keys=np.asarray([sample.key for sample in every]),
        names=[str(name) for name in names],
        labels=labels.astype(np.int64),
        unreadable={n: sample.why for n, sample in enumerate(every) if sample.why},
        label_key=label_key,
    )


def index_bytes(index: Index) -> bytes:
    """An index as the .npz that `read_index` reads."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        shards=np.asarray(list(index.tars)),
        sizes=np.asarray(list(index.tars.values()), np.int64),
        shard=index.shard,
        place=index.place,
        keys=index.keys,
        names=np.asarray(index.names),
        labels=index.labels,
        bad=np.asarray(list(index.unreadable), np.int64),
        reasons=np.asarray(list(index.unreadable.values()), np.str_),
        label_key=np.asarray(index.label_key),
    )
    return buffer.getvalue()


def read_index(data: bytes, tars: dict[str, int], label_key: str) -> Index | None:
    """A saved index; None if it is damaged, or of other tars or another key."""
    try:
        arrays = read_arrays(io.BytesIO(data), ARRAYS)
        names = [str(name) for name in arrays["names"]]
        unreadable = dict(zip(arrays["bad"].tolist(), arrays["reasons"].tolist(), strict=True))
        if not _fits(arrays, tars) or str(arrays["label_key"]) != label_key:
            return None
    except Exception:  # zipfile, its compression and numpy each raise their own
        return None
    shard, place, keys = (arrays[name] for name in ("shard", "place", "keys"))
    return Index(tars, shard, place, keys, names, arrays["labels"], unreadable, label_key)


def _fits(arrays: dict[str, np.ndarray], tars: dict[str, int]) -> bool:
    """Whether arrays are of these tars, and each of their rows leads into one of them and to a class."""
    shards, rows = arrays["shards"], len(arrays["labels"])
    if shards.shape != arrays["sizes"].shape or shards.shape != (len(tars),) or not rows:
        return False
    if dict(zip(shards.tolist(), arrays["sizes"].tolist())) != tars:
        return False
    if arrays["place"].shape != (rows, 2) or arrays["names"].ndim != 1:
        return False
    if any(arrays[name].shape != (rows,) for name in ("labels", "shard", "keys")):
        return False
    if any(arrays[name].dtype != np.int64 for name in ("labels", "shard", "place", "bad")):
        return False
    shard, label, bad = arrays["shard"], arrays["labels"], arrays["bad"]
    inside = 0 <= shard.min() <= shard.max() < len(tars) and 0 <= label.min() <= label.max() < len(arrays["names"])
    return bool(inside and (not len(bad) or 0 <= bad.min() <= bad.max() < rows))
