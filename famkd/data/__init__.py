"""Data sets by name: each a function from a root to `Images`."""

from collections.abc import Callable

import torch

from famkd.data.bands import bands
from famkd.data.images import Images, cifar100, digits, npz
from famkd.data.resident import Resident
from famkd.data.small_folder import folder
from famkd.errors import UserError, nearest

DATA: dict[str, Callable[[str], Images]] = {
    "bands": bands,
    "cifar100": cifar100,
    "digits": digits,
    "folder": folder,
    "npz": npz,
}


def build_data(
    name: str, root: str, batch_size: int, *, device: torch.device | str = "cpu", seed: int = 0, augment: bool = True
) -> Resident:
    """A data set by name, on a device, ready to be trained on; UserError with the nearest names for an unknown one."""
    if name not in DATA:
        raise UserError(f"There is no data set {name!r}.{nearest(name, DATA)} See `famkd ls data`.")
    return Resident(DATA[name](root), batch_size, device, seed, augment)
