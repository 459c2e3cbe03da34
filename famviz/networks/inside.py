"""Run a network and leave it as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


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


def logits_of(out: Any) -> Tensor:
    """The logits (B, classes) in the output of a network: the output, or its first part if it has several."""
    return out[0] if isinstance(out, tuple | list) else out


def device_of(model: nn.Module) -> torch.device:
    """The device of the first parameter or buffer of a network; the CPU if it has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")
