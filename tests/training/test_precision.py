"""float16 with a gradient scaler, on a CPU as far as torch offers it there."""

import pytest
import torch
from helpers.run_files import Killed, kill_after_each_epoch, same

from famkd.errors import UserError
from famkd.models import build_model
from famkd.run.directory import Run
from famkd.training.build import build_fabric, build_step, build_training
from famkd.training.loop import train

KD = ("--method", "kd", "--teacher.model", "resnet8", "--teacher.weights", "teacher.pt")
HALF = ("--precision", "16-mixed", "--accelerator", "cpu")


@pytest.fixture
def pair(small):
    torch.manual_seed(5)
    torch.save(build_model("resnet8", 3).state_dict(), "teacher.pt")
    return lambda *flags: small(*HALF, *flags)


def stepper(recipe):
    torch.manual_seed(0)
    fabric = build_fabric(recipe)
    training = build_training(recipe, fabric.device, "runs")
    step = build_step(recipe, training.data, training.distiller, training.optimizer, fabric)
    step.set_epoch(0.05, {"task": 1.0, "kd": 1.0})
    return step, list(training.data.epoch(1))


@pytest.mark.parametrize("flags", [(), ("--optim.clip_grad", "0.1")])
def test_steps_go_where_those_of_single_precision_go(pair, flags):
    (half, pieces), (single, _) = stepper(pair(*KD, *flags)), stepper(pair(*KD, *flags, "--precision", "32-true"))
    assert half.scaler is not None
    assert single.scaler is None
    start, scale = flat(half), half.scaler.get_scale()
    assert torch.equal(start, flat(single))
    for piece in pieces:
        half(piece)
        single(piece)
    assert half.scaler.get_scale() == scale  # nothing overflowed
    one, two = flat(half) - start, flat(single) - start
    assert torch.cosine_similarity(one, two, dim=0) > 0.95
    assert float(one.norm()) == pytest.approx(float(two.norm()), rel=0.1)
    assert not torch.equal(one, two)


def flat(step) -> torch.Tensor:
    """All trained numbers in one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in step.distiller.parameters()])


def test_a_step_whose_gradients_overflow_is_left_out_and_the_scale_halved(pair):
    step, pieces = stepper(pair(*KD))
    step(pieces[0])
    before = [parameter.detach().clone() for parameter in step.distiller.parameters()]
    scale = step.scaler.get_scale()
    parameter = next(step.distiller.parameters())
    handle = parameter.register_hook(lambda gradient: gradient * float("inf"))
    step(pieces[1])
    handle.remove()
    assert all(torch.equal(a, b) for a, b in zip(before, step.distiller.parameters()))
    assert step.scaler.get_scale() == scale / 2
    step(pieces[2])
    assert not all(torch.equal(a, b) for a, b in zip(before, step.distiller.parameters()))


def test_a_resumed_training_keeps_the_scale(pair, monkeypatch):
    recipe = pair(*KD, "--epochs", "3")
    whole = train(recipe, out="whole")
    assert whole.read_resume()["scaler"]["_growth_tracker"] == 9  # steps
    with monkeypatch.context() as killing:
        kill_after_each_epoch(killing)
        with pytest.raises(Killed):
            train(recipe, out="cut")
    same(whole, train(recipe, out="cut", resume=True))
    assert Run("cut").read_resume()["scaler"] == whole.read_resume()["scaler"]


def test_a_graph_cannot_hold_a_scaler(pair):
    with pytest.raises(UserError, match="cannot capture the gradient scaler of 16-mixed"):
        train(pair("--engine", "graph"))
