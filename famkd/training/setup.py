"""What is printed before the first step: the sizes of what was built, and settings that have no effect on it."""

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from famkd import distributed
from famkd.config.recipe import Recipe
from famkd.console import console
from famkd.distill.distiller import Distiller
from famkd.distill.types import Dataset
from famkd.training.build import Networks
from famkd.training.optimizer import can_be_captured
from famkd.training.step import Step
from famkd.training.summary import summary


def print_setup(
    title: str, recipe: Recipe, networks: Networks, data: Dataset, distiller: Distiller, step: Step
) -> None:
    """Print what was found: data, networks and time, what is unusual about them, and settings without effect."""
    for line in summary(recipe, data, networks, distiller, step.fabric):
        console.print(f"{title}  {line}")
    for who, net in zip(("student", "teacher"), networks):
        remarks = (*net.remarks, net.new_head and f"its classifier is new: {net.new_head}") if net else ()
        for remark in filter(None, remarks):
            console.print(f"{title}  {who}: {remark}")
    hindrance = "" if can_be_captured(recipe.optim.name) else recipe.optim.name
    if step.scaler is not None:
        hindrance = "a gradient scaler"
    hindered = step.may_choose and step.engine == "compile" and hindrance
    reason = f", because a CUDA graph cannot capture {hindrance}" if hindered else ""
    console.print(f"{title}  optimizer {recipe.optim.name}, engine {step.engine}{reason}")
    if recipe.data.val:
        console.print(f"{title}  {data.n_val:,} held-out images choose the best epoch; the test set is for the end")
    if any(each.requires_grad for each in distiller.methods.parameters()):
        momentum = recipe.optim.momentum if recipe.optim.name == "sgd" else 0.0
        console.print(f"{title}  {_size_of(distiller.methods, momentum)}")
    for line in notices(recipe, data, distiller):
        console.print(f"{title}  {line}")


def notices(recipe: Recipe, data: Dataset, distiller: Distiller) -> Iterator[str]:
    """A sentence for each setting that has no effect, or another one than its name says, on what was built."""
    optim, norms = recipe.optim, _batch_norms(distiller)
    if recipe.data.batch_size > data.batch_size:
        yield f"--data.batch_size is {recipe.data.batch_size}: a step takes all {data.batch_size} images."
    if optim.warmup_steps > data.steps:
        yield f"--optim.warmup_steps {optim.warmup_steps} ends with the first epoch, after {data.steps} steps."
    if optim.accumulate > 1 and norms:
        images = data.batch_size // (optim.accumulate * distributed.world())
        yield f"--optim.accumulate {optim.accumulate}: the {norms} batch norms average over parts of {images} images."
    if recipe.sync_bn and distributed.world() == 1:
        yield "--sync_bn has no effect on one process."
    elif recipe.sync_bn and not norms:
        yield "--sync_bn has no effect: there is no batch norm."
    if recipe.student.freeze and not recipe.student.weights:
        yield "--student.freeze keeps random weights: pass --student.weights to begin with trained ones."
    for name, method in distiller.methods.items():
        for option, why in method.idle_options().items():  # pyright: ignore[reportCallIssue]  (it is a Method)
            yield f"--{name}.{option} has no effect: {why}."


def _batch_norms(module: nn.Module) -> int:
    return sum(isinstance(each, _BatchNorm) for each in module.modules())


def _size_of(method: nn.Module, momentum: float) -> str:
    """The size of a method's parameters in training: "method: N parameters, M MiB with gradient and momentum".

    Args:
        momentum: of SGD; 0 for another optimizer, whose state is not counted.
    """
    numbers = bytes_ = 0
    for parameter in method.parameters():
        if parameter.requires_grad:
            numbers += parameter.numel()
            bytes_ += parameter.numel() * parameter.element_size()
    copies = 3 if momentum else 2
    kept = "gradient and momentum" if momentum else "gradient"
    return f"method: {numbers:,} parameters, {copies * bytes_ / 2**20:,.1f} MiB with {kept}"
