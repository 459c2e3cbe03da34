"""Run a network once to look at what it does, and leave it as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parameter import is_lazy

from famkd.errors import UserError, one_line


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """At the end of the block, modes, buffers and random number generators are what they were at its start."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    devices = {parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"}
    try:
        with torch.random.fork_rng(list(devices)):
            yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for module, name, buffer, value in buffers:
                module._buffers[name] = buffer if torch.equal(buffer, value) else buffer.copy_(value)


def run_in_eval_mode(model: nn.Module, images: Tensor, who: str = "") -> Any:
    """What a network returns in eval mode. UserError if it cannot run on the images."""
    with undisturbed(model), torch.no_grad():
        model.eval()
        return run_or_explain(model, images, who)


def run_in_training_mode(model: nn.Module, images: Tensor, who: str = "") -> Any:
    """What a network returns in training mode, with gradients. UserError if it cannot run on the images.

    Norms, dropout and other single layers are in eval mode, so that the values are those of eval mode wherever the
    network takes the same way in both.
    """
    with undisturbed(model), torch.enable_grad():
        model.train()
        for module in model.modules():
            if module is not model and (not list(module.children()) or isinstance(module, _NormBase | _DropoutNd)):
                module.eval()
        return run_or_explain(model, images, f"{who or 'network'} in training mode")


def run_or_explain(model: nn.Module, images: Tensor, who: str = "") -> Any:
    """`model(images)`, with a UserError for whatever it raises. `who` says which network this is, for the sentence."""
    try:
        return model(images)
    except UserError:
        raise
    except Exception as error:  # a network of the user can raise anything
        shape = "x".join(map(str, getattr(images, "shape", ())[1:]))
        reason = one_line(error)
        hint = _hint(model, images)
        name = f"{type(model).__name__}, the {who}," if who else type(model).__name__
        raise UserError(f"{name} does not run on images of {shape}: {hint or reason}.") from error


def initialize_lazy(model: nn.Module, images: Tensor) -> None:
    """Give lazy layers their shapes, which they learn from their first input."""
    if any(is_lazy(each) for each in (*model.parameters(), *model.buffers())):
        training = model.training
        with torch.no_grad():
            run_or_explain(model.eval(), images)
        model.train(training)


def _hint(model: nn.Module, images: Tensor) -> str:
    """A likely cause in words, for the failures that people meet most; "" for others."""
    kinds = {each.dtype for each in model.parameters() if each.is_floating_point()}
    if kinds and images.dtype not in kinds:
        found = str(next(iter(kinds))).removeprefix("torch.")
        return f"its weights are {found}, but the images are float32: end its builder with .float()"
    convs = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    if convs and images.ndim == 4 and convs[0].in_channels != images.shape[1]:
        return (
            f"its first convolution takes {convs[0].in_channels} channels and the images have {images.shape[1]}: "
            "build it for those"
        )
    made_for = (getattr(model, "pretrained_cfg", None) or {}).get("input_size")
    if made_for and tuple(made_for[1:]) != tuple(images.shape[2:]):
        height, width = made_for[1:]
        return f"it is made for images of {height} x {width}: pass images of that size"
    return ""
