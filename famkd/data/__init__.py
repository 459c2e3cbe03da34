"""Data sets by name: `DATA` holds a builder for each, and `build_data` calls one."""

import inspect
from collections.abc import Callable
from typing import Any

import torch

from famkd.data.bands import bands
from famkd.data.coco import Coco
from famkd.data.folders import folder_in_memory
from famkd.data.imagenet import imagenet
from famkd.data.in_memory import InMemory, in_memory
from famkd.data.small import Images, cifar10, cifar100, digits, npz
from famkd.distill.types import Dataset
from famkd.errors import UserError, nearest

__all__ = ["DATA", "Images", "InMemory", "build_data", "data_options", "in_memory"]

# Each builder is called as (root, batch_size, device, seed, augment, **options) and returns a `Dataset`. Its
# keyword-only arguments are its options. An attribute `task` names the task that it is for; without one it is
# classification. A plug-in may register a function from a root to `Images` instead.
DATA: dict[str, Callable[..., Dataset | Images]] = {
    "bands": in_memory(bands),
    "cifar10": in_memory(cifar10),
    "cifar100": in_memory(cifar100),
    "coco": Coco,
    "digits": in_memory(digits),
    "folder": in_memory(folder_in_memory),
    "imagenet": imagenet,
    "npz": in_memory(npz),
}


def build_data(
    name: str,
    root: str,
    batch_size: int,
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
    augment: bool = True,
    **options: Any,
) -> Dataset:
    """Build a data set by name, on a device.

    Raises UserError, with the nearest names, for an unknown one, and for an option that the data set does not have.
    """
    if name not in DATA:
        raise UserError(f"There is no data set {name!r}.{nearest(name, DATA)} See `famkd ls data`.")
    for option in options:
        _must_have(name, option)
    return _builder(name)(root, batch_size, device, seed, augment, **options)


def data_options(name: str) -> dict[str, inspect.Parameter]:
    """The options of a data set, by name: the keyword-only arguments of its builder."""
    parameters = inspect.signature(_builder(name)).parameters
    return {key: each for key, each in parameters.items() if each.kind is each.KEYWORD_ONLY}


def _builder(name: str) -> Callable[..., Dataset]:
    """The builder of a data set, made from a plug-in's function if that takes a root only."""
    registered: Callable[..., Any] = DATA[name]
    is_builder = "batch_size" in inspect.signature(registered).parameters
    return registered if is_builder else in_memory(registered)


def _must_have(name: str, option: str) -> None:
    """UserError, naming the data sets that have an option, if this one does not."""
    if option in data_options(name):
        return
    others = " and ".join(each for each in DATA if option in data_options(each))
    if not others:
        raise UserError(f"No data set has an option {option!r}.{nearest(option, data_options(name))}")
    raise UserError(f"--data.{option} is for {others} and means nothing to {name}: leave it out.")
