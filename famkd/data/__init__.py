"""Data sets by name: each a function from a root to `Images`, or to `Splits` too large to hold."""

from collections.abc import Callable

import torch

from famkd.data.bands import bands
from famkd.data.coco import Coco
from famkd.data.images import Images, cifar10, cifar100, digits, npz
from famkd.data.items import Splits
from famkd.data.resident import Resident
from famkd.data.shards import imagenet
from famkd.data.small_folder import folder
from famkd.data.stream import Stream
from famkd.errors import UserError, nearest

DATA: dict[str, Callable[..., Images | Splits | Coco]] = {
    "bands": bands,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "coco": Coco,
    "digits": digits,
    "folder": folder,
    "imagenet": imagenet,
    "npz": npz,
}


def build_data(
    name: str, root: str, batch_size: int, *, device: torch.device | str = "cpu", seed: int = 0, augment: bool = True,
    splits: tuple[str, str] = ("train", "val"), boxes: dict | None = None, **stream,
) -> Resident | Stream | Coco:  # fmt: skip
    """A data set by name, on a device, ready to be trained on; UserError with the nearest names for an unknown one.

    `splits` and the options of `Stream` are for sets too large to hold, those of `boxes` for `Coco`.
    """
    if name not in DATA:
        raise UserError(f"There is no data set {name!r}.{nearest(name, DATA)} See `famkd ls data`.")
    if name == "coco":
        return Coco(root, batch_size, device, seed, augment, workers=stream.get("workers", -1), **(boxes or {}))
    if name == "imagenet":
        return Stream(DATA[name](root, splits), batch_size, device, seed, augment, **stream)
    return Resident(DATA[name](root), batch_size, device, seed, augment)
