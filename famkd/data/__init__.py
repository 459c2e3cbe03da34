"""Data sets by name: each a function from a root to `Images`, or to `TrainTest` too large to hold."""

from collections.abc import Callable

import torch

from famkd.data.bands import bands
from famkd.data.coco import Coco
from famkd.data.in_memory import InMemory
from famkd.data.loader import TrainTest
from famkd.data.small import Images, cifar10, cifar100, digits, npz
from famkd.data.small_folder import folder
from famkd.data.streamed import Streamed
from famkd.data.webdataset import imagenet
from famkd.errors import UserError, nearest

DATA: dict[str, Callable[..., Images | TrainTest | Coco]] = {
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
) -> InMemory | Streamed | Coco:  # fmt: skip
    """A data set by name, on a device, ready to be trained on; UserError with the nearest names for an unknown one.

    `splits` and the options of `Streamed` are for sets too large to hold, those of `boxes` for `Coco`.
    """
    if name not in DATA:
        raise UserError(f"There is no data set {name!r}.{nearest(name, DATA)} See `famkd ls data`.")
    if name == "coco":
        return Coco(root, batch_size, device, seed, augment, workers=stream.get("workers", -1), **(boxes or {}))
    if name == "imagenet":
        return Streamed(DATA[name](root, splits), batch_size, device, seed, augment, **stream)
    return InMemory(DATA[name](root), batch_size, device, seed, augment)
