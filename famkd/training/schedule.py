"""The learning rate of each step and the loss weights of each epoch."""

from collections.abc import Mapping
from math import cos, pi
from typing import Any

from famkd.config.recipe import Optim, Recipe

RISE = 0.3  # share of a one-cycle training in which the rate rises, unless `lr_warmup` says it
START = 25  # its first rate is lr divided by this


def learning_rate(optim: Optim, epoch: int, step: int = 0, steps: int = 1) -> float:
    """Learning rate of a step, counted from 0, in an epoch, counted from 1, of `steps` steps."""
    if optim.schedule == "onecycle":
        return _one_cycle(optim, (epoch - 1) * steps + step, optim.epochs * steps)
    if optim.per_step and epoch <= optim.lr_warmup:
        return optim.lr * ((epoch - 1) * steps + step + 1) / (optim.lr_warmup * steps)
    passed = epoch - 1 + step / steps if optim.per_step else epoch - 1
    rate = optim.lr * epoch / optim.lr_warmup if epoch <= optim.lr_warmup else _after_warm_up(optim, passed)
    if epoch == 1 and step < optim.warmup_steps:
        rate = rate * (step + 1) / optim.warmup_steps
    return rate


def _after_warm_up(optim: Optim, passed: float) -> float:
    """The rate after so many epochs, by the schedule alone."""
    done = (passed - optim.lr_warmup) / max(1, optim.epochs - optim.lr_warmup)
    if optim.schedule == "cosine":
        return _between(optim.lr, optim.min_lr, done)
    if optim.schedule == "linear":
        return optim.min_lr + (optim.lr - optim.min_lr) * (1 - done)
    if optim.schedule == "constant":
        return optim.lr
    return optim.lr * optim.gamma ** sum(passed >= after for after in optim.steps)


def _one_cycle(optim: Optim, step: int, total: int) -> float:
    """The rates of `torch.optim.lr_scheduler.OneCycleLR`, which ends at `min_lr` here."""
    share = optim.lr_warmup / optim.epochs if optim.lr_warmup else RISE
    peak = share * total - 1  # the step with the highest rate
    if step <= peak:
        return _between(optim.lr / START, optim.lr, step / peak if peak else 1.0)
    return _between(optim.lr, optim.min_lr, (step - peak) / (total - 1 - peak))


def _between(start: float, end: float, done: float) -> float:
    """A value that goes from start to end along half a cosine while `done` goes from 0 to 1."""
    return end + (start - end) * (1 + cos(pi * done)) / 2


def loss_weights(recipe: Recipe, epoch: int) -> dict[str, float]:
    """Weight of each group of losses in an epoch. A method's weight rises linearly over its warm-up."""
    return weights_of({name: recipe.section(name) for name in recipe.method_names}, epoch)


def weights_of(sections: Mapping[str, Any], epoch: int | None = None) -> dict[str, float]:
    """The same from the options of each method; None for the weights after the warm-up."""
    task = max((section.task_weight for section in sections.values()), default=1.0)
    weights: dict[str, float] = {"task": task}
    for name, section in sections.items():
        ramp = 1.0 if epoch is None else min(1.0, epoch / max(1, section.warmup))
        weights[name] = section.weight * ramp
    return weights
