"""A training step without a recipe and a data set."""

from collections.abc import Callable, Iterable
from types import SimpleNamespace

import torch
from lightning_fabric import Fabric
from torch import nn

from famkd.distill.types import Batch
from famkd.training.step import Step


def make_step(
    distiller: nn.Module,
    optimizer: torch.optim.Optimizer,
    take: Callable[..., Batch],
    methods: Iterable[str],
    engine: str = "eager",
    fabric: Fabric | None = None,
) -> Step:
    """A step on the CPU that makes its batches by `take`."""
    data = SimpleNamespace(take=take, device=torch.device("cpu"))
    optim, names = SimpleNamespace(accumulate=1, clip_grad=0.0), tuple(methods)
    recipe = SimpleNamespace(title="test", method_names=names, optim=optim, engine=engine)
    return Step(distiller, optimizer, data, fabric or Fabric(accelerator="cpu"), recipe, engine)
