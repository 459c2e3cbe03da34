"""A training step captured once as a CUDA graph and replayed: one launch instead of hundreds."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from famkd.training.optimizer import start_over

if TYPE_CHECKING:
    from famkd.training.step import Step

WARM_UP_STEPS = 3


class Graph:
    """A step captured on the first piece; later pieces are copied into the first one's memory."""

    def __init__(self, step: "Step", piece: Any):
        self.inputs = type(piece)(*(column.clone() for column in piece))
        warm_up(step, self.inputs, WARM_UP_STEPS)
        self.replay = _capture(lambda: step.run(self.inputs))

    def __call__(self, piece: Any) -> None:
        for held, new in zip(self.inputs, piece):
            held.copy_(new, non_blocking=True)
        self.replay()


def warm_up(step: "Step", piece: Any, times: int) -> None:
    """Run a step so that everything it allocates on first use exists, then undo all that it changed."""
    before = step.tensors()
    values = [tensor.detach().clone() for tensor in before]
    monitored = step.monitor.loss_sums is not None
    device = step.data.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), _side_stream():
        for _ in range(times):
            step.run(piece)
    with torch.no_grad():
        for tensor, value in zip(before, values):
            tensor.copy_(value)
        start_over(step.optimizer, kept=before)
    if not monitored:
        step.monitor.reset()
    step.optimizer.zero_grad(set_to_none=True)


def _capture(run: Callable[[], None]) -> Callable[[], None]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # meanwhile a loader's thread pins memory
        run()
    return graph.replay


@contextlib.contextmanager
def _side_stream() -> Iterator[None]:
    """Allocations on first use must not happen on the stream that is captured."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        yield
    torch.cuda.current_stream().wait_stream(side)
