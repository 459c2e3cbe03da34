"""The learning rate and the loss weights of each epoch."""

from math import cos, pi

from famkd.config.recipe import Optim, Recipe


def learning_rate(optim: Optim, epoch: int) -> float:
    """Learning rate of an epoch, counted from 1: linear warm-up, then the step or the cosine schedule."""
    if epoch <= optim.lr_warmup:
        return optim.lr * epoch / optim.lr_warmup
    if optim.schedule == "cosine":
        done = (epoch - 1 - optim.lr_warmup) / max(1, optim.epochs - optim.lr_warmup)
        return optim.lr * (1 + cos(pi * done)) / 2
    return optim.lr * optim.gamma ** sum(epoch > after for after in optim.steps)


def loss_weights(recipe: Recipe, epoch: int) -> dict[str, float]:
    """Weight of each group of losses in an epoch. A method's weight rises linearly over its warm-up."""
    sections = {name: recipe.section(name) for name in recipe.method_names}
    task = max((section.task_weight for section in sections.values()), default=1.0)
    ramps = {name: min(1.0, epoch / max(1, section.warmup)) for name, section in sections.items()}
    return {"task": task} | {name: section.weight * ramps[name] for name, section in sections.items()}
