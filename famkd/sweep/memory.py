"""What a training step holds at most, computed without a GPU on tensors that have a shape and no content.

A GPU adds its context, its libraries' workspaces and what its allocator leaves unused.
"""

import weakref
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from famkd.config.recipe import Optim
from famkd.distill.distiller import Distiller, total_loss
from famkd.distill.types import Batch
from famkd.training.build import build_optimizer


class StepMemory(NamedTuple):
    """Bytes that stay from step to step, and the most that a step holds at once."""

    kept: int
    peak: int


class LiveStorages(TorchDispatchMode):
    """Bytes of the storages that are alive, now and at most."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.add(leaf)
        return out


def step_memory(distiller: Distiller, batch: Batch, optim: Optim, weights: Mapping[str, float]) -> StepMemory:
    """What two steps hold, run eagerly under bfloat16 autocast; the distiller loses its content.

    Args:
        distiller: on the CPU, in train mode.
        batch: of the shape of a step's; what it holds is not looked at.
        weights: of the task and each method in the total that is minimised.
    """
    live = LiveStorages()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        to_fake(distiller, mode)
        if distiller.teacher is not None:
            to_fake(distiller.teacher, mode)
        optimizer = build_optimizer(distiller, optim)
        batch = tree_map_only(Tensor, mode.from_tensor, batch)
        for net in (distiller, distiller.teacher or nn.Identity()):
            for tensor in (*net.parameters(), *net.buffers()):
                live.add(tensor)
        live.add(batch.images)
        with live:
            for _ in range(2):  # momentum comes with the first
                optimizer.zero_grad()
                with torch.autocast("cpu", torch.bfloat16):
                    losses, _ = distiller(batch)
                total_loss(losses, weights).backward()
                optimizer.step()
        return StepMemory(live.now, live.peak)


def to_fake(module: nn.Module, mode: FakeTensorMode) -> None:
    """Take the content out of a module's parameters and buffers."""
    for part in module.modules():
        for name, p in part._parameters.items():
            if p is not None:
                part._parameters[name] = nn.Parameter(mode.from_tensor(p.detach()), p.requires_grad)
        for name, b in part._buffers.items():
            if b is not None:
                part._buffers[name] = mode.from_tensor(b)
