"""One training step, and how it is run: eager, compiled, or captured once as a CUDA graph.

Compiled means the whole step on a GPU. On a CPU it means the attention kernels alone: measured, that is faster.
"""

import contextlib
import os
import shutil
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from famkd import distributed
from famkd.distill.types import Batch
from famkd.errors import UserError
from famkd.layers.fusion import use_kernels
from famkd.training.cuda_graph import Graph

Engine = Literal["auto", "eager", "compile", "graph"]

LAST = 2**62  # later than any step
COMPILE_PAYS = 500  # steps on a CPU; compiling the kernels of a CIFAR pair takes up to a minute, once per machine


class Step:
    """Batch in, weights moved, losses added to a running sum on the device: nothing waits for anything.

    What is not finite is noted on the device too, with the step in which it first was not.

    Args:
        take: makes a `Batch` of what the data set yields; inside the step, so that a graph captures augmentation too.
        backward: `Fabric.backward`.
        names: groups of losses in the order of `weights`: "task", then each method.
        engine: what `choose_engine` answered.
        accumulate: parts that a piece is cut into, whose gradients are averaged: less memory, the same step.
        unsynced: context in which a backward leaves the gradients of other processes alone.
    """

    def __init__(
        self,
        distiller: nn.Module,
        optimizer: torch.optim.Optimizer,
        take: Callable[..., Batch],
        backward: Callable[[Tensor], None],
        names: list[str],
        device: torch.device,
        engine: Engine,
        accumulate: int = 1,
        unsynced: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
    ):
        self.distiller, self.optimizer, self.take, self.backward = distiller, optimizer, take, backward
        self.names = names
        self.engine, self.accumulate, self.unsynced = engine, accumulate, unsynced
        self.weights = torch.zeros(len(names), device=device)
        self.sums: Tensor | None = None  # of each loss, since `set_epoch`
        self.labels: list[str] = []
        self._watched: list[str] = []
        self._at = torch.zeros((), dtype=torch.int64, device=device)  # number of the step
        self._broke: Tensor | None = None  # LAST less the step in which each thing watched was first not finite, or 0
        self.count = 0
        self._losses = self._weighed
        if self.engine != "eager":
            torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)
        torch.backends.cudnn.benchmark = self.engine != "eager" and device.type == "cuda"  # every step has one shape
        kernels_alone = self.engine == "compile" and device.type == "cpu"
        use_kernels(compiled=kernels_alone)
        if self.engine != "eager" and not kernels_alone:
            self._losses = torch.compile(self._weighed, dynamic=False)
        self._graph: Graph | None = None

    def set_epoch(self, lr: float, weights: dict[str, float]) -> None:
        """New learning rate and loss weights, written in place where a graph reads them; sums start over."""
        self.weights.copy_(torch.tensor([weights[name] for name in self.names]))
        self.set_lr(lr)
        self.count = 0
        self._at.zero_()
        if self.sums is not None:
            self.sums.zero_()
            self._broke.zero_()

    def set_lr(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr

    def __call__(self, piece: NamedTuple) -> None:
        self.count += 1
        if self.engine == "graph":
            self._graph = self._graph or Graph(self, piece)
            self._graph(piece)
        else:
            self._run(piece)

    def state(self) -> dict[str, Any]:
        """What an epoch has come to so far in all processes, for `set_state` after `set_epoch` to go on from."""
        draws = {name: generator.get_state() for name, generator in _generators(self._at.device).items()}
        return {
            "count": self.count,
            "each": distributed.all_gather_objects((self.sums.cpu(), self._broke.cpu(), draws)),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` answered; what each process had of its own is the mean if there are others now."""
        self.count, each = state["count"], state["each"]
        self._at.fill_(self.count)
        same = len(each) == distributed.world()
        sums, broke, draws = each[distributed.rank()] if same else (sum(e[0] for e in each) / len(each), each[0][1], {})
        self.sums, self._broke = sums.to(self._at.device), broke.to(self._at.device)
        generators = _generators(self._at.device)
        if draws.keys() == generators.keys():
            for name, generator in generators.items():
                generator.set_state(draws[name])

    def broken(self) -> tuple[str, int] | None:
        """What was the first not to be finite since `set_epoch`, and in which step; None if all was."""
        left, place = self._broke.max(0)
        return (self._watched[int(place)], LAST - int(left)) if left else None

    def means(self) -> dict[str, float]:
        """Mean of each loss since `set_epoch` over all processes; the one place that waits for the device."""
        return dict(zip(self.labels, distributed.all_reduce_mean(self.sums / self.count).tolist(), strict=True))

    def _run(self, piece: NamedTuple) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self._at += 1
        parts = split(piece, self.accumulate)
        for n, part in enumerate(parts, 1):
            with self.unsynced() if n < len(parts) else contextlib.nullcontext():
                with several_values(len(part[0])):
                    total, losses, shown = self._losses(self.take(part))
                self.backward(total / len(parts) if len(parts) > 1 else total)
            self._note(losses / len(parts) if len(parts) > 1 else losses, torch.cat((shown, losses)))
        self.optimizer.step()

    def _note(self, losses: Tensor, watched: Tensor) -> None:
        if self.sums is None:
            self.sums = torch.zeros_like(losses)
            self._broke = torch.zeros_like(watched, dtype=torch.int64)
        self.sums += losses
        self._broke.clamp_(min=(LAST - self._at) * ~watched.isfinite())

    def _weighed(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The total that is minimised, every loss unweighted, and the sums that tell whether a network is sound.

        The total is w.task sum(own) + w.method sum(extra).
        """
        losses, shown = self.distiller(batch)
        self.labels = [f"{group}.{name}" for group, terms in losses.items() for name in terms]
        self._watched = [*shown, *(f"the loss {label}" for label in self.labels)]
        total = sum(self.weights[self.names.index(group)] * sum(terms.values()) for group, terms in losses.items())
        each = torch.stack([loss.detach().float() for terms in losses.values() for loss in terms.values()])
        return total, each, torch.stack(list(shown.values())) if shown else each[:0]


def _generators(device: torch.device) -> dict[str, torch.Generator]:
    """Those that a step on a device may draw from."""
    cuda = {"cuda": torch.cuda.default_generators[device.index or 0]} if device.type == "cuda" else {}
    return {"cpu": torch.default_generator} | cuda


@contextlib.contextmanager
def several_values(images: int) -> Iterator[None]:
    """Say what to do where batch norm has a single value of a channel to average over."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            f"Batch norm cannot average over a single pixel of {images} image: pass a larger --data.batch_size, or "
            "fewer parts as --optim.accumulate."
        ) from error


def split(piece: NamedTuple, parts: int) -> list[NamedTuple]:
    """A piece of a data set as consecutive parts of one length."""
    length = len(piece[0]) // parts
    return [type(piece)(*(t[n * length : (n + 1) * length] for t in piece)) for n in range(parts)]


def choose_engine(engine: Engine, device: torch.device, steps: int) -> Engine:
    """`auto` is graph on a CUDA device; elsewhere compile where the run is long enough to pay for compiling.

    Of several processes it is eager. UserError for a graph without CUDA or of several processes, and for what is
    compiled without a compiler.
    """
    if distributed.world() > 1 and engine in ("auto", "graph"):
        if engine == "graph":
            raise UserError("engine graph is for one device: use --engine eager or compile on several.")
        return "eager"
    names = ("gcc", "clang") if device.type == "cuda" else ("c++", "g++", "clang++", "cl")  # Triton's, Inductor's
    compiler = "CC" in os.environ or any(map(shutil.which, names))
    if device.type == "cuda":  # Triton compiles against it
        compiler = compiler and Path(sysconfig.get_paths()["include"], "Python.h").is_file()
    if engine == "auto" and device.type == "cuda":
        return "graph" if compiler else "eager"
    if engine == "auto":
        return "compile" if compiler and steps >= COMPILE_PAYS else "eager"
    if engine == "graph" and device.type != "cuda":
        raise UserError("engine graph needs a CUDA device: use --engine compile or eager here.")
    if engine in ("compile", "graph") and not compiler:
        needed = "gcc and Python's headers (python3-dev)" if device.type == "cuda" else "g++ or clang"
        raise UserError(f"engine {engine} needs a compiler: install {needed}, or use --engine eager.")
    return engine
