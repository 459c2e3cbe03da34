"""The peak memory of a training step, computed without a GPU on fake tensors, which have a shape but no data.

On a real GPU the context, the workspaces of libraries and unused memory of the allocator come on top.
"""

import weakref
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from famkd.config.optimizers import optimizer_info
from famkd.config.recipe import Optim
from famkd.distill.distiller import Distiller, total_loss
from famkd.distill.types import Batch
from famkd.training.optimizer import build_optimizer

STEPS = 2  # the momentum is allocated in the first
# Optimizers that read values, which fake tensors do not have; adanw, which keeps more state than most, stands in.
READING = ("AdamP", "SGDP", "Muon", "NvNovoGrad", "Kron")
STAND_IN = Optim(name="adanw")


class StepMemory(NamedTuple):
    """Memory of a training step, in bytes."""

    kept: int  # stays allocated from step to step
    peak: int


class LiveStorages(TorchDispatchMode):
    """Counts the bytes of all storages that are alive: now, and at their peak."""

    def __init__(self):
        super().__init__()
        self.now = 0
        self.peak = 0
        self._known: set[int] = set()

    def add(self, tensor: Tensor) -> None:
        """Count a tensor's storage until it is freed, unless it is counted already."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.add(leaf)
        return out


def step_memory(distiller: Distiller, batch: Batch, optim: Optim, weights: Mapping[str, float]) -> StepMemory:
    """The memory of eager training steps under bfloat16 autocast. The distiller loses its weights.

    Args:
        distiller: on the CPU, in train mode.
        batch: of the shape of a step's batch; its values are not read.
        weights: loss weight of the task and of each method.
    """
    live = LiveStorages()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        networks = [net for net in (distiller, distiller.teacher) if net is not None]
        for net in networks:
            to_fake(net, mode)
        reads = getattr(optimizer_info(optim.name).kind, "__name__", "") in READING
        optimizer = build_optimizer(distiller, STAND_IN if reads else optim)
        batch = tree_map_only(Tensor, mode.from_tensor, batch)
        for net in networks:
            for tensor in (*net.parameters(), *net.buffers()):
                live.add(tensor)
        for image in tree_leaves(batch.images):
            live.add(image)
        with live:
            for _ in range(STEPS):
                optimizer.zero_grad()
                with torch.autocast("cpu", torch.bfloat16):
                    losses, _ = distiller(batch)
                total_loss(losses, weights).backward()
                optimizer.step()
        return StepMemory(live.now, live.peak)


def to_fake(module: nn.Module, mode: FakeTensorMode) -> None:
    """Replace a module's parameters and buffers by fake tensors."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                fake = mode.from_tensor(parameter.detach())
                part._parameters[name] = nn.Parameter(fake, parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = mode.from_tensor(buffer)
