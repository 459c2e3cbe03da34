"""Run a network and leave it as it was."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from famkd.features.answer import Wanted, logits_in
from famkd.features.taps import Tapped


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """At the end of the block each module is in the mode that it was in before, and in place if it was."""
    kept = [(module, module.training, getattr(module, "inplace", None)) for module in model.modules()]
    try:
        yield
    finally:
        for module, training, inplace in kept:
            module.training = training
            if inplace is not None:
                module.inplace = inplace


@contextmanager
def returning_logits(model: nn.Module, output: str = "") -> Iterator[None]:
    """Inside the block the network returns its logits (B, classes), whatever it returns elsewhere.

    Args:
        output: where they are, such as `logits` or `1`, if more than one part can be the logits.
    """
    wanted = Wanted(output=output, for_losses=False)
    with model.register_forward_hook(lambda module, args, out: logits_in(out, wanted)):
        yield


@contextmanager
def tapping(model: nn.Module, taps: Sequence[str]) -> Iterator[Tapped]:
    """The network in eval mode, without gradients, which returns its features at some taps; then it is as it was."""
    with untouched(model), torch.no_grad():
        tapped = Tapped(model.eval(), taps)
        try:
            yield tapped
        finally:
            tapped.remove()


def logits_of(out: Any) -> Tensor:
    """The logits (B, classes) in the output of a network, as famkd finds them.

    UserError, one sentence with what was returned, if no part or more than one can be the logits.
    """
    return logits_in(out, Wanted(for_losses=False, can_be_named=False))


def device_of(model: nn.Module) -> torch.device:
    """The device of the first parameter or buffer of a network; the CPU if it has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")
