"""One step, however it is run: the sums it keeps, the rate and weights it reads, and compiled as eager."""

import copy
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from helpers.on_device import DeviceOnly
from helpers.steps import make_step
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from famkd.cli import doctor
from famkd.distill.distiller import Distiller
from famkd.distill.types import Batch
from famkd.errors import UserError
from famkd.layers import convolution, native
from famkd.methods import METHODS
from famkd.tasks import Classification
from famkd.training.build import Autocast
from famkd.training.monitor import Monitor
from famkd.training.step import Step, choose_engine

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Piece(NamedTuple):
    index: Tensor


class Net(nn.Module):
    """A convolution, a norm with running statistics, a classifier."""

    def __init__(self, width):
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.Linear(width, 4)

    def forward(self, x):
        return self.fc(F.relu(self.bn(self.conv(x))).mean((2, 3)))


class FastNet(Net):
    """With a second convolution, which the C++ kernels take."""

    def __init__(self, width):
        super().__init__(16)
        self.inner = nn.Conv2d(16, 16, 3, 1, 1)
        self.to(memory_format=torch.channels_last)

    def forward(self, x):
        return self.fc(F.relu(self.inner(self.bn(self.conv(x)))).mean((2, 3)))


IMAGES = torch.randn(24, 3, 8, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(24) % 4


def take(piece: Piece) -> Batch:
    return Batch(IMAGES[piece.index], LABELS[piece.index], piece.index)


def make(engine: str, methods=("kd",), half=False, net=Net) -> Step:
    torch.manual_seed(0)
    student, teacher = net(4), net(6)
    distiller = Distiller(Classification(), student, teacher if methods else None, {n: METHODS[n] for n in methods},
                          probe=take(Piece(torch.arange(4))), labels=LABELS)  # fmt: skip
    optimizer = torch.optim.SGD(distiller.parameters(), lr=1.0, momentum=0.9, weight_decay=1e-3)
    if half:
        fabric = Fabric(accelerator="cpu", plugins=Autocast("cpu"))
        wrapped, optimizer = fabric.setup(distiller.train(), optimizer)
        return make_step(wrapped, optimizer, take, methods, engine, fabric)
    return make_step(distiller.train(), optimizer, take, methods, engine)


def pieces(seed: int) -> list[Piece]:
    order = torch.randperm(24, generator=torch.Generator().manual_seed(seed))
    return [Piece(order[start : start + 8]) for start in (0, 8, 16)]


def test_steps_are_those_of_a_loop_written_out():
    step = make("eager")
    reference = make("eager").distiller
    student, teacher, kd = reference.student.model, reference.teacher.model, reference.methods["kd"]
    optimizer = torch.optim.SGD(student.parameters(), lr=1.0, momentum=0.9, weight_decay=1e-3)
    for epoch, (lr, weights) in enumerate([(0.1, {"task": 0.3, "kd": 2.0}), (0.02, {"task": 1.0, "kd": 0.0})]):
        step.set_epoch(lr, weights)
        seen = []
        for piece in pieces(epoch):
            step(piece)
            batch = take(piece)
            logits, others = student(batch.images), teacher(batch.images).detach()
            ce = F.cross_entropy(logits, batch.targets)
            soft = F.kl_div(
                (logits / kd.temperature).log_softmax(1), (others / kd.temperature).softmax(1), reduction="batchmean"
            )
            soft = soft * kd.temperature**2
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.zero_grad()
            (weights["task"] * ce + weights["kd"] * soft).backward()
            optimizer.step()
            seen.append((ce.item(), soft.item()))
        means = torch.tensor(seen).mean(0).tolist()
        assert step.monitor.means(step.count) == pytest.approx({"task.ce": means[0], "kd.kd": means[1]}, rel=1e-4)
    for key, value in student.state_dict().items():
        torch.testing.assert_close(step.distiller.student.model.state_dict()[key], value)


def test_sums_start_over_with_an_epoch_and_are_not_weighted():
    step = make("eager")
    figures = []
    for weights in ({"task": 1.0, "kd": 1.0}, {"task": 7.0, "kd": 0.0}):
        step.set_epoch(0.0, weights)  # a rate of 0: every pass sees the same student
        for piece in pieces(3):
            step(piece)
        figures.append(step.monitor.means(step.count))
    assert figures[0] == pytest.approx(figures[1], rel=1e-6)
    assert list(figures[0]) == ["task.ce", "kd.kd"]


def test_a_rate_kept_in_a_tensor_is_written_in_place():
    step = make("eager")
    rate = torch.tensor(1.0)
    step.optimizer.param_groups[0]["lr"] = rate
    step.set_epoch(0.25, {"task": 1.0, "kd": 1.0})
    assert rate.item() == 0.25
    assert step.optimizer.param_groups[0]["lr"] is rate


def test_weights_are_written_in_place_in_the_order_of_the_groups():
    step = make("eager")
    held = step.weights
    step.set_epoch(0.1, {"kd": 3.0, "task": 2.0})
    assert step.weights is held
    assert held.tolist() == [2.0, 3.0]


def test_plain_training_has_one_group():
    step = make("eager", ())
    step.set_epoch(0.1, {"task": 1.0})
    step(pieces(0)[0])
    assert list(step.monitor.means(step.count)) == ["task.ce"]


@pytest.mark.parametrize("net", [Net, FastNet])
def test_compiled_steps_are_eager_steps(net):
    eager, compiled = make("eager", net=net), make("compile", net=net)
    for epoch in range(2):
        figures = []
        for step in (eager, compiled):
            step.set_epoch(0.1 / (epoch + 1), {"task": 0.5 + epoch, "kd": 1.0 - epoch / 2})
            for piece in pieces(epoch):
                step(piece)
            figures.append(step.monitor.means(step.count))
        assert figures[1] == pytest.approx(figures[0], rel=1e-5, abs=1e-5)
    assert list(figures[1]) == ["task.ce", "kd.kd"]
    trained = compiled.distiller.student.model.state_dict()
    for key, value in eager.distiller.student.model.state_dict().items():
        torch.testing.assert_close(trained[key], value, rtol=1e-5, atol=1e-5)
    start = make("eager", net=net).distiller.student.model.state_dict()
    assert not torch.allclose(trained["fc.weight"], start["fc.weight"], atol=1e-3)


def test_student_and_teacher_use_fast_convolutions_if_the_step_is_compiled(monkeypatch):
    convolve, calls = convolution.convolve, []
    monkeypatch.setattr(convolution, "convolve", lambda x, *others: (calls.append(len(x)), convolve(x, *others))[1])
    for engine, expected in [("eager", 0), ("compile", 2), ("eager", 0)]:
        step = make(engine, net=FastNet)
        if engine == "compile" and not native.in_use():
            pytest.skip("no compiler here makes the kernels")
        step.set_epoch(0.1, {"task": 1.0, "kd": 1.0})
        calls.clear()
        step(pieces(0)[0])
        assert calls == [8] * expected


@pytest.mark.sample(1)
@pytest.mark.parametrize("half", [False, True], ids=["single", "half"])
@pytest.mark.parametrize("methods", [("kd",), ("fam_review", "crd"), ("fam", "sp")], ids="+".join)
def test_the_whole_step_is_one_graph_to_the_compiler(methods, half):
    """As on a GPU: traced without a break and run by its own backward, the losses are those of the eager step."""
    step = make("eager", methods, half)
    step.set_epoch(0.1, dict.fromkeys(("task", *methods), 1.0))
    state, batch, answers = copy.deepcopy(step.distiller.state_dict()), take(pieces(0)[0]), []
    whole = torch.compile(step._forward, dynamic=False, fullgraph=True, backend="aot_eager")
    for forward in (step._forward, whole):
        step.distiller.load_state_dict(state)
        torch.manual_seed(1)
        step.optimizer.zero_grad()
        total, losses, outputs = forward(batch)
        total.backward()
        gradients = [p.grad.clone() for p in step.distiller.parameters() if p.grad is not None]
        answers.append((total.detach(), losses, outputs, *gradients))
    assert len(answers[0]) > 5
    for eager, compiled in zip(*answers, strict=True):
        torch.testing.assert_close(compiled, eager, **({"rtol": 0.02, "atol": 1e-3} if half else {}))


@pytest.fixture
def python_headers(tmp_path, monkeypatch):
    """The file that Triton compiles against, as where Python's headers are installed."""
    file = tmp_path / "Python.h"
    file.touch()
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"include": str(tmp_path)})
    return file


@pytest.mark.parametrize(
    ("asked", "device", "answer"),
    [
        ("auto", CPU, "eager"),
        ("auto", CUDA, "eager"),
        ("eager", CPU, "eager"),
        ("eager", CUDA, "eager"),
        ("compile", CPU, "compile"),
        ("compile", CUDA, "compile"),
        ("graph", CUDA, "graph"),
    ],
)
def test_which_engine(python_headers, asked, device, answer):
    assert choose_engine(asked, device, 10) == answer


@pytest.mark.parametrize("device", [CPU, torch.device("mps")])
def test_a_graph_needs_cuda(device):
    with pytest.raises(UserError, match="engine graph needs a CUDA device: use --engine compile or eager"):
        choose_engine("graph", device, 10)


@pytest.mark.parametrize(("device", "answer"), [(CPU, "compile"), (CUDA, "graph"), (torch.device("mps"), "eager")])
def test_which_engine_of_a_long_run(python_headers, device, answer):
    assert choose_engine("auto", device, 100_000) == answer


@pytest.mark.parametrize("captured", [False, True])
def test_an_optimizer_that_cannot_be_captured_is_compiled(python_headers, captured):
    assert choose_engine("auto", CUDA, 100_000, captured) == ("graph" if captured else "compile")


def test_a_gpu_without_a_compiler_runs_eager(monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert choose_engine("auto", CUDA, 100_000) == "eager"
    with pytest.raises(UserError, match="engine graph needs a compiler: install gcc and Python's headers"):
        choose_engine("graph", CUDA, 10)


def test_a_gpu_without_pythons_headers_runs_eager(python_headers):
    assert choose_engine("auto", CUDA, 100_000) == "graph"
    python_headers.unlink()
    assert choose_engine("auto", CUDA, 100_000) == "eager"


@pytest.mark.parametrize(
    ("variables", "installed", "engine"),
    [
        ({}, "c++", "compile"),
        ({"CC": "gcc"}, "gcc", "eager"),
        ({"CXX": "g++-12"}, "g++-12", "compile"),
        ({"CXX": "ccache g++"}, "ccache", "compile"),
        ({"CXX": "g++-12"}, "g++", "eager"),
    ],
)
def test_a_compiler_of_c_is_none_of_cpp(monkeypatch, variables, installed, engine):
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}" if name == installed else None)
    assert choose_engine("auto", CPU, 100_000) == engine
    assert (doctor._compilers()["C++"].startswith("missing")) == (engine == "eager")


def test_compiling_needs_a_compiler_and_a_long_run(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/g++" if name == "g++" else None)
    assert [choose_engine("auto", CPU, steps) for steps in (1, 100_000)] == ["eager", "compile"]
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert choose_engine("auto", CPU, 100_000) == "eager"
    with pytest.raises(UserError, match=r"engine compile needs a compiler: .*eager"):
        choose_engine("compile", CPU, 10)


def test_the_monitor_copies_nothing_to_or_from_the_device():
    """As a CUDA graph needs; the tensors are fake ones, so no GPU is needed."""
    with FakeTensorMode():
        monitor = Monitor(CUDA)
        losses, outputs = torch.rand(2, device="cuda"), torch.rand(3, device="cuda")
        monitor.note(losses, outputs, 1)
        with DeviceOnly():
            monitor.step += 1
            monitor.note(losses, outputs, 2)


def test_the_monitor_names_the_first_step_that_was_not_finite():
    monitor = Monitor(CPU)
    for bad in (None, 1, 0, 1):
        monitor.step += 1
        outputs = {"a": torch.tensor(1.0), "b": torch.tensor(2.0)}
        if bad is not None:
            outputs["ab"[bad]] = torch.tensor(float("nan"))
        packed = monitor.pack({"task": {"ce": torch.tensor(3.0)}}, outputs)
        monitor.note(*packed, 1)
    assert monitor.first_bad() == ("b", 2)
    assert monitor.means(4) == {"task.ce": 3.0}
    monitor.reset()
    assert monitor.first_bad() is None
