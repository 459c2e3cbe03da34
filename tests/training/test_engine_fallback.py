"""Networks that a CUDA graph cannot capture, or that cannot be compiled, run on the next engine. Without a GPU.

Stand-ins play the device: a stream, a capture that only runs the step, and PyTorch's warnings of a wait.
"""

import contextlib
import warnings
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from helpers.steps import make_step
from torch import Tensor, nn

from famkd.distill.distiller import Distiller
from famkd.distill.types import Batch
from famkd.errors import UserError
from famkd.tasks import Classification
from famkd.training import cuda_graph
from famkd.training.step import Step

IMAGES = torch.randn(24, 3, 8, 8, generator=torch.Generator().manual_seed(1))
WAIT = "called a synchronizing CUDA operation (Triggered internally)"


class Piece(NamedTuple):
    index: Tensor


class Net(nn.Module):
    """A network with running statistics and random draws, which may wait for the device."""

    def __init__(self, waits: bool):
        super().__init__()
        self.waits = waits
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten())
        self.fc = nn.Linear(144, 4)

    def forward(self, x):
        if self.waits and torch.cuda.get_sync_debug_mode():
            warnings.warn(WAIT, stacklevel=1)
        return self.fc(self.layers(x))


def take(piece: Piece) -> Batch:
    return Batch(IMAGES[piece.index], piece.index % 4, piece.index)


def make(engine: str, waits: bool = False, chooses: bool = False) -> Step:
    torch.manual_seed(0)
    distiller = Distiller(Classification(), Net(waits), None, {}, probe=take(Piece(torch.arange(4))))
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.1, momentum=0.9)
    step = make_step(distiller.train(), optimizer, take, (), "eager")
    step.engine, step.may_choose = engine, chooses
    step.set_epoch(0.1, {"task": 1.0})
    return step


def trained(step: Step) -> dict[str, Tensor]:
    torch.manual_seed(3)
    for start in (0, 8, 16):
        step(Piece(torch.arange(start, start + 8)))
    return step.distiller.state_dict() | {"loss": torch.tensor(step.monitor.means(3)["task.ce"])}


@pytest.fixture(autouse=True)
def device(monkeypatch):
    """What PyTorch does on a GPU, as far as an engine asks for it."""
    mode = SimpleNamespace(now=0)
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: mode.now)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda to: setattr(mode, "now", to and to != "default"))
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(cuda_graph, "_side_stream", contextlib.nullcontext)
    monkeypatch.setattr(cuda_graph, "_capture", lambda run: run)
    return mode


def test_a_step_that_can_be_captured_is(capsys):
    step = make("graph", chooses=True)
    trained(step)
    assert step.engine == "graph"
    assert step._graph is not None
    assert capsys.readouterr().err == ""


def test_a_network_that_waits_for_the_device_is_compiled_only(capsys, device):
    step = make("graph", waits=True, chooses=True)
    after, wanted = trained(step), trained(make("eager"))
    line = Net.forward.__code__.co_firstlineno + 2
    place = f"test_engine_fallback.py, line {line}"
    said = f"engine compile, because a CUDA graph cannot capture this step: it waits for the device ({place})"
    assert capsys.readouterr().err.splitlines() == [f"test  {said}"]
    assert step.engine == "compile"
    assert not device.now
    assert all(torch.equal(after[name], wanted[name]) for name in wanted)


def test_a_network_that_cannot_be_compiled_runs_eagerly(capsys, monkeypatch):
    class BackendError(Exception):
        """As a compiler raises."""

    def compiled(step: Step):
        def forward(batch):
            step._forward(batch)  # a part may run before the compiler fails
            raise BackendError("no lowering\nfor this")

        return step._forward if step.engine == "eager" else forward

    monkeypatch.setattr(Step, "_compiled", lambda step, device: compiled(step))
    step = make("graph", chooses=True)
    step._forward_or_compiled = compiled(step)
    after = trained(step)
    monkeypatch.undo()
    wanted = trained(make("eager"))
    assert capsys.readouterr().err.splitlines() == [
        "test  engine compile, because graph failed: no lowering for this",
        "test  engine eager, because compile failed: no lowering for this",
    ]
    assert all(torch.equal(after[name], wanted[name]) for name in wanted)


def test_an_engine_that_was_asked_for_is_not_replaced():
    with pytest.raises(UserError, match=r"--engine graph: .* waits for the device \(.*\): pass --engine compile or"):
        trained(make("graph", waits=True))


@pytest.mark.parametrize("chooses", [False, True])
def test_a_capture_that_fails_ends_the_training(monkeypatch, chooses):
    """The device may be left in a state in which nothing else runs."""

    def fail(run):
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(cuda_graph, "_capture", fail)
    with pytest.raises(UserError, match=r"was not captured \(CUDA error: .* more\): pass --engine compile or eager"):
        trained(make("graph", chooses=chooses))


def test_what_the_user_can_fix_is_not_taken_for_a_hindrance(monkeypatch):
    def refuse(step, piece):
        raise UserError("There is no such file.")

    monkeypatch.setattr(Step, "run", refuse)
    with pytest.raises(UserError, match="no such file"):
        trained(make("graph", chooses=True))
