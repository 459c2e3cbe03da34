"""What each optimizer and each learning rate schedule takes. Options without an effect are refused in words."""

from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

from famkd.config.recipe import Optim
from famkd.errors import UserError, nearest

# Options that are for some schedules only.
SCHEDULES_OF = {
    "steps": ("step",),
    "gamma": ("step",),
    "min_lr": ("cosine", "linear", "onecycle"),
    "warmup_steps": ("step", "cosine", "linear", "constant"),
    "per_step": ("step", "cosine", "linear", "constant"),  # onecycle always changes with every step
}
OWN_OPTIONS = ("momentum", "nesterov", "betas", "eps")  # that not every optimizer takes


class OptimizerInfo(NamedTuple):
    """What an optimizer is and takes."""

    name: str
    kind: Any  # its class; a dotted path, where it is in a package that may be missing
    momentum: bool
    betas: int  # how many
    eps: bool
    second_order: bool = False


def optimizer_names() -> dict[str, str]:
    """Name and description of every optimizer."""
    from timm import optim

    library: Any = optim  # it has no `__all__`
    own = {"sgd": "torch.optim.SGD, fused, with or without Nesterov momentum"}
    return dict(library.list_optimizers(with_description=True)) | own


@cache
def optimizer_info(name: str) -> OptimizerInfo:
    """An optimizer by name: `sgd`, which is PyTorch's, or one of timm's. UserError for an unknown name."""
    if name == "sgd":
        import torch

        return OptimizerInfo("sgd", torch.optim.SGD, momentum=True, betas=0, eps=False)
    from timm import optim

    names = optimizer_names()
    if name not in names:
        raise UserError(f"There is no optimizer {name!r}.{nearest(name, names)} See `famkd ls optimizers`.")
    library: Any = optim
    info = library.get_optimizer_info(name)
    betas = info.num_betas if info.has_betas else 0
    return OptimizerInfo(name, info.opt_class, info.has_momentum, betas, info.has_eps, info.second_order)


def check_optim(optim: Optim) -> None:
    """UserError for an optimizer that cannot be used, and for a changed option that has no effect on it."""
    info = optimizer_info(optim.name)
    if info.second_order:
        raise UserError(
            f"{optim.name} needs second derivatives, which are not computed here: choose another --optim.name."
        )
    default = Optim()
    changed = [name for name in (*SCHEDULES_OF, *OWN_OPTIONS) if getattr(optim, name) != getattr(default, name)]
    refuse_without_effect(changed, optim.name, optim.schedule)
    if optim.betas and len(optim.betas) != info.betas:
        raise UserError(f"{optim.name} takes {info.betas} --optim.betas, not {len(optim.betas)}.")


def refuse_without_effect(options: Iterable[str], name: str, schedule: str) -> None:
    """UserError for the first option of the section optim that has no effect on an optimizer and a schedule."""
    for option in options:
        why = _why_without_effect(option, name, schedule)
        if why:
            raise UserError(f"--optim.{option} has no effect: {why}.")


def without_effect(options: Iterable[str], name: str, schedule: str) -> list[str]:
    """Those options of the section optim that have no effect on an optimizer and a schedule."""
    return [option for option in options if _why_without_effect(option, name, schedule)]


def _why_without_effect(option: str, name: str, schedule: str) -> str:
    """Why an option has no effect, and what to do; "" for one that has."""
    if schedule not in SCHEDULES_OF.get(option, (schedule,)):
        return f"it is an option of --optim.schedule {' and '.join(SCHEDULES_OF[option])}, not of {schedule}"
    if option not in OWN_OPTIONS:
        return ""
    info = optimizer_info(name)
    if option == "momentum" and not info.momentum:
        return f"{name} has no momentum; {'pass --optim.betas instead' if info.betas else 'leave it out'}"
    if option == "nesterov" and name != "sgd":
        return "it is an option of sgd; others have it by name, such as nadamw, nmuon or nesterovw"
    if option == "betas" and not info.betas:
        return f"{name} has no betas; {'pass --optim.momentum instead' if info.momentum else 'leave it out'}"
    if option == "eps" and not info.eps:
        return f"{name} has no eps; leave it out"
    return ""
