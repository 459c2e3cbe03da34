"""A training step captured once as a CUDA graph and replayed: one launch instead of hundreds."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from famkd.errors import UserError, one_line
from famkd.training.optimizer import start_over

if TYPE_CHECKING:
    from famkd.training.step import Step

WARM_UP_STEPS = 3


class CannotCapture(Exception):
    """Why a step cannot be captured. Nothing has been captured yet, so that it can run in another way."""


class Graph:
    """A step captured on the first piece; later pieces are copied into the first one's memory.

    Errors: CannotCapture for a step that waits for the device; UserError where the capture itself fails.
    """

    def __init__(self, step: "Step", piece: Any):
        self.inputs = type(piece)(*(column.clone() for column in piece))
        warm_up(step, self.inputs, WARM_UP_STEPS, captured_next=True)
        try:
            self.replay = _capture(lambda: step.run(self.inputs))
        except Exception as error:  # the device may be left in a state in which nothing else runs
            raise UserError(
                f"The step was not captured ({one_line(error)}): pass --engine compile or eager."
            ) from error

    def __call__(self, piece: Any) -> None:
        for held, new in zip(self.inputs, piece):
            held.copy_(new, non_blocking=True)
        self.replay()


def warm_up(step: "Step", piece: Any, times: int, captured_next: bool = False) -> None:
    """Run a step so that everything it allocates on first use exists, then undo all that it changed.

    Args:
        captured_next: whether the step is to be captured. Errors: CannotCapture where it waits for the device.
    """
    before = step.tensors()
    values = [tensor.detach().clone() for tensor in before]
    monitored = step.monitor.loss_sums is not None
    scale = step.scaler.state_dict() if step.scaler is not None else {}
    device = step.data.device
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []), _side_stream():
            for number in range(times):
                with _refusing_waits() if captured_next and number == times - 1 else contextlib.nullcontext():
                    step.run(piece)
    finally:
        _undo(step, before, values, monitored, scale)


def _undo(step: "Step", before: list[Tensor], values: list[Tensor], monitored: bool, scale: dict[str, Any]) -> None:
    """Give everything that steps have changed the values from before."""
    with torch.no_grad():
        for tensor, value in zip(before, values):
            tensor.copy_(value)
        start_over(step.optimizer, kept=before)
    if not monitored:
        step.monitor.reset()
    if step.scaler is not None:
        step.scaler.load_state_dict(scale)
    step.optimizer.zero_grad(set_to_none=True)


@contextlib.contextmanager
def _refusing_waits() -> Iterator[None]:
    """CannotCapture where the block has waited for the device: PyTorch warns of that and names the line."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)
    for each in caught:
        if "called a synchronizing" in str(each.message):
            place = f"{Path(each.filename).name}, line {each.lineno}"
            raise CannotCapture(f"a CUDA graph cannot capture this step: it waits for the device ({place})")


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
