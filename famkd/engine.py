"""One training step, and how it is run: eager, compiled, or captured once as a CUDA graph.

Compiled means the whole step on a GPU. On a CPU it means the attention kernels alone: measured, that is faster.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from famkd import ranks
from famkd.errors import UserError
from famkd.layers.fusion import use_kernels
from famkd.method import Batch

Engine = Literal["auto", "eager", "compile", "graph"]

COMPILE_PAYS = 500  # steps on a CPU; compiling the kernels of a CIFAR pair takes up to a minute, once per machine


class Step:
    """Batch in, weights moved, losses added to a running sum on the device: nothing waits for anything.

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
        self.sums: Tensor | None = None
        self.labels: list[str] = []
        self._count = 0
        self._losses = self._weighed
        if self.engine != "eager":
            torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)
        kernels_alone = self.engine == "compile" and device.type == "cpu"
        use_kernels(compiled=kernels_alone)
        if self.engine != "eager" and not kernels_alone:
            self._losses = torch.compile(self._weighed, dynamic=False)
        self._graph: _Graph | None = None

    def set_epoch(self, lr: float, weights: dict[str, float]) -> None:
        """New learning rate and loss weights, written in place where a graph reads them; sums start over."""
        self.weights.copy_(torch.tensor([weights[name] for name in self.names]))
        self.set_lr(lr)
        self._count = 0
        if self.sums is not None:
            self.sums.zero_()

    def set_lr(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr

    def __call__(self, piece: NamedTuple) -> None:
        self._count += 1
        if self.engine == "graph":
            self._graph = self._graph or _Graph(self, piece)
            self._graph(piece)
        else:
            self._run(piece)

    def means(self) -> dict[str, float]:
        """Mean of each loss since `set_epoch` over all processes; the one place that waits for the device."""
        return dict(zip(self.labels, ranks.averaged(self.sums / self._count).tolist(), strict=True))

    def _run(self, piece: NamedTuple) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        parts = split(piece, self.accumulate)
        for n, part in enumerate(parts, 1):
            with self.unsynced() if n < len(parts) else contextlib.nullcontext():
                total, each = self._losses(self.take(part))
                self.backward(total / len(parts) if len(parts) > 1 else total)
            if self.sums is None:
                self.sums = torch.zeros_like(each)
            self.sums += each / len(parts) if len(parts) > 1 else each
        self.optimizer.step()

    def _weighed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The total that is minimised, and every loss unweighted: w.task sum(own) + w.method sum(extra)."""
        losses = self.distiller(batch)
        self.labels = [f"{group}.{name}" for group, terms in losses.items() for name in terms]
        total = sum(self.weights[self.names.index(group)] * sum(terms.values()) for group, terms in losses.items())
        return total, torch.stack([loss.detach().float() for terms in losses.values() for loss in terms.values()])


def split(piece: NamedTuple, parts: int) -> list[NamedTuple]:
    """A piece of a data set as consecutive parts of one length."""
    length = len(piece[0]) // parts
    return [type(piece)(*(t[n * length : (n + 1) * length] for t in piece)) for n in range(parts)]


class _Graph:
    """A step captured once and replayed: one launch in place of hundreds."""

    def __init__(self, step: Step, piece: NamedTuple, warmup: int = 3):
        self.inputs = type(piece)(*(t.clone() for t in piece))
        rehearse(step, self.inputs, warmup)
        self.replay = _capture(lambda: step._run(self.inputs))

    def __call__(self, piece: NamedTuple) -> None:
        for held, fresh in zip(self.inputs, piece):
            held.copy_(fresh, non_blocking=True)
        self.replay()


def rehearse(step: Step, piece: NamedTuple, times: int) -> None:
    """Run a step so that everything it allocates lazily exists, and leave no trace of having done so."""
    state = _mutable(step)
    kept = [t.detach().clone() for t in state]
    with _side_stream():
        for _ in range(times):
            step._run(piece)
    known = {id(t) for t in state}
    with torch.no_grad():
        for tensor, value in zip(state, kept):
            tensor.copy_(value)
        for tensor in _mutable(step):  # momentum and sums that the rehearsal made: a first step starts from zero
            if id(tensor) not in known:
                tensor.zero_()
    step.optimizer.zero_grad(set_to_none=True)


def _capture(run: Callable[[], None]) -> Callable[[], None]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


@contextlib.contextmanager
def _side_stream() -> Iterator[None]:
    """Lazy initialisation must not happen on the stream that is captured."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        yield
    torch.cuda.current_stream().wait_stream(side)


def _mutable(step: Step) -> list[Tensor]:
    """Every tensor that a step writes in place."""
    moments = [t for state in step.optimizer.state.values() for t in state.values() if isinstance(t, Tensor)]
    sums = [] if step.sums is None else [step.sums]
    return [*step.distiller.parameters(), *step.distiller.buffers(), *moments, *sums]


def choose_engine(engine: Engine, device: torch.device, steps: int) -> Engine:
    """`auto` is graph on a CUDA device; elsewhere compile where the run is long enough to pay for compiling.

    Of several processes it is eager. UserError for a graph without CUDA or of several processes, and for compile
    without a C++ compiler.
    """
    if ranks.world() > 1 and engine in ("auto", "graph"):
        if engine == "graph":
            raise UserError("engine graph is for one device: use --engine eager or compile on several.")
        return "eager"
    compiler = device.type == "cuda" or any(map(shutil.which, ("c++", "g++", "clang++", "cl")))
    if engine == "auto":
        return "graph" if device.type == "cuda" else "compile" if compiler and steps >= COMPILE_PAYS else "eager"
    if engine == "graph" and device.type != "cuda":
        raise UserError("engine graph needs a CUDA device: use --engine compile or eager here.")
    if engine == "compile" and not compiler:
        raise UserError("engine compile needs a C++ compiler: install g++ or clang, or use --engine eager.")
    return engine
