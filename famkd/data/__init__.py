"""Data sets by name: `DATA` holds a builder for each, and `build_data` calls one."""

import inspect
from collections.abc import Callable
from typing import Any

import torch

from famkd.data.archives import npz
from famkd.data.balance import Balance
from famkd.data.bands import bands
from famkd.data.coco import Coco
from famkd.data.folders import folder_in_memory
from famkd.data.imagenet import imagenet
from famkd.data.in_memory import InMemory, for_task, in_memory
from famkd.data.small import Images, cifar10, cifar100, digits
from famkd.data.targets import ALL
from famkd.data.torch_data import Datasets, TorchData
from famkd.distill.types import Dataset
from famkd.errors import UserError, nearest, one_line

# Each builder is called as (root, batch_size, device, seed, augment, **options) and returns a `Dataset`. Its
# keyword-only arguments are its options. An attribute `task` names the only task that it is for, or `tasks` several,
# of which one is passed as the argument `task`. Without these it is classification, or its images without labels. A
# plug-in may register a function from a root to `Images` instead, or to a training and a test Dataset of torch.
DATA: dict[str, Callable[..., Dataset | Images | tuple[Any, ...]]] = {
    "bands": in_memory(bands),
    "cifar10": in_memory(cifar10),
    "cifar100": in_memory(cifar100),
    "coco": Coco,
    "digits": in_memory(digits),
    "folder": in_memory(folder_in_memory),
    "imagenet": imagenet,
    "npz": in_memory(npz),
}
# Methods that a data set may lack: what they do, and the option that asks for it.
ABILITIES = {
    "hold_out": ("hold images out of training", "val"),
    "balance": ("balance classes", "balance"),
    "repeat_views": ("repeat augmentations", "views"),
}


def build_data(
    name: str,
    root: str,
    batch_size: int,
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
    augment: bool = True,
    val: str = "",
    val_seed: int = 0,
    balance: Balance = "none",
    views: int = 0,
    views_seed: int = 0,
    task: str = "",
    classes: int = 0,
    **options: Any,
) -> Dataset:
    """Build a data set by name, on a device.

    Args:
        val: the held-out split: a fraction of the training images, such as "0.1", or the name of a further split.
        val_seed: seed of that fraction; -1 for `seed`.
        balance: show each class equally often (sample), or weigh its images in the student's own loss (loss).
        views: augmentations of each training image, which the epochs use in turn; 0 draws new ones in every epoch.
        views_seed: seed of these augmentations.
        task: what the labels are for; "" for the data set's first task.
        classes: number of classes, where the images have no labels.

    Errors: UserError, with the nearest names, for an unknown data set, and for an option that it does not have.
    """
    task = _known_task(name, options, task)
    build: Callable[..., Any] = DATA[name]
    parameters = inspect.signature(build).parameters
    if "task" in parameters:
        options["task"] = task
    if "batch_size" in parameters:
        data = build(root, batch_size, device, seed, augment, **options)
    else:
        data = _from_plugin(name, _called(name, build, root, options), batch_size, device, seed, augment, task)
    if task == "unlabelled":
        data.classes = [str(number) for number in range(classes)]
    if val:
        _ability(name, data, "hold_out")(val, seed if val_seed < 0 else val_seed)
    if balance != "none":
        _ability(name, data, "balance")(balance)
    if views:
        _ability(name, data, "repeat_views")(views, views_seed)
    return data


def _known_task(name: str, options: dict[str, Any], task: str) -> str:
    """The task of a data set; UserError for an unknown name, option or task."""
    if name not in DATA:
        raise UserError(f"There is no data set {name!r}.{nearest(name, DATA)} See `famkd ls data`.")
    for option in options:
        refuse_option_of_others(name, option)
        if option not in _options(name):
            raise UserError(f"No data set has an option {option!r}.{nearest(option, _options(name))}")
    task = task or tasks_of_data(name)[0]
    if task not in tasks_of_data(name):
        raise UserError(f"The data set {name} is for {' and '.join(tasks_of_data(name))}, not for {task}.")
    return task


def _ability(name: str, data: Any, method: str) -> Callable[..., None]:
    """A method that not every data set has; UserError that names the option to leave out."""
    if not hasattr(data, method):
        what, option = ABILITIES[method]
        raise UserError(f"The data set {name} cannot {what}: leave --data.{option} out.")
    return getattr(data, method)


def _called(name: str, build: Callable[..., Any], root: str, options: dict[str, Any]) -> Any:
    """What a plug-in's function of a root returns; UserError for whatever it raises."""
    try:
        return build(root, **options)
    except UserError:
        raise
    except Exception as error:  # a user's function can raise anything
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise UserError(f"The data set {name} cannot be read from {root}: {reason}.") from error


def _from_plugin(
    name: str, made: Any, batch_size: int, device: torch.device | str, seed: int, augment: bool, task: str
) -> Dataset:
    """The data set that a plug-in's function of a root returned: `Images`, or data sets of torch."""
    if isinstance(made, Images):
        return InMemory(for_task(made, task), batch_size, device, seed, augment)
    if isinstance(made, tuple) and len(made) >= 2:
        return TorchData(Datasets(*made), batch_size, device, seed, task)
    raise UserError(
        f"The data set {name} returned a {type(made).__name__}: return famkd.data.small.Images, or a training and a "
        "test Dataset of torch, as in `return train, test`."
    )


def tasks_of_data(name: str) -> tuple[str, ...]:
    """The tasks that a data set has labels for."""
    build = DATA[name]
    if hasattr(build, "task"):
        return (build.task,)  # pyright: ignore[reportFunctionMemberAccess]
    own = "batch_size" in inspect.signature(build).parameters
    return getattr(build, "tasks", ("classification", "unlabelled") if own else ALL)


def refuse_option_of_others(name: str, option: str) -> None:
    """UserError, naming the data sets that have an option, if this one does not and others do."""
    having = [other for other in DATA if option in _options(other)]
    if having and name not in having:
        raise UserError(f"--data.{option} is an option of {' and '.join(having)}, not of {name}: leave it out.")


def _options(name: str) -> list[str]:
    """Names of a data set's options: the keyword-only arguments of its builder."""
    parameters = inspect.signature(DATA[name]).parameters.values()
    return [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
