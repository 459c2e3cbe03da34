"""A training step captured once as a CUDA graph and replayed: one launch in place of hundreds."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Graph:
    """A step captured once and replayed: one launch in place of hundreds."""

    def __init__(self, step: Any, piece: NamedTuple, warmup: int = 3):
        self.inputs = type(piece)(*(t.clone() for t in piece))
        rehearse(step, self.inputs, warmup)
        self.replay = _capture(lambda: step._run(self.inputs))

    def __call__(self, piece: NamedTuple) -> None:
        for held, fresh in zip(self.inputs, piece):
            held.copy_(fresh, non_blocking=True)
        self.replay()


def rehearse(step: Any, piece: NamedTuple, times: int) -> None:
    """Run a step so that everything it allocates lazily exists, and leave no trace of having done so."""
    state = _mutable(step)
    kept = [t.detach().clone() for t in state]
    here = step._at.device
    with torch.random.fork_rng([here] if here.type == "cuda" else []), _side_stream():
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
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # a loader's thread pins memory meanwhile
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


def _mutable(step: Any) -> list[Tensor]:
    """Every tensor that a step writes in place."""
    moments = [t for state in step.optimizer.state.values() for t in state.values() if isinstance(t, Tensor)]
    notes = [] if step.sums is None else [step.sums, step._broke]
    return [*step.distiller.parameters(), *step.distiller.buffers(), *moments, step._at, *notes]
