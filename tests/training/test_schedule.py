"""The learning rate of each step and the weights of losses, against PyTorch's own schedulers and by hand."""

import pytest
import torch
from helpers.runs import FAM

from famkd.config.load import load_recipe
from famkd.config.recipe import Optim
from famkd.training import loop as training
from famkd.training.loop import train
from famkd.training.schedule import learning_rate, loss_weights


def rates(optim: Optim, steps: int) -> list[float]:
    """Of all steps of a training."""
    places = [(epoch, step) for epoch in range(1, optim.epochs + 1) for step in range(steps)]
    return [learning_rate(optim, epoch, step, steps) for epoch, step in places]


def of_pytorch(kind, total, **options) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.4)
    scheduler = getattr(torch.optim.lr_scheduler, kind)(optimizer, **options)
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(("epochs", "steps", "rise"), [(5, 4, 0), (15, 3, 0), (10, 7, 2), (1, 2, 0)])
def test_one_cycle_is_pytorchs(epochs, steps, rise):
    optim = Optim(epochs=epochs, lr=0.4, schedule="onecycle", lr_warmup=rise, min_lr=0.0016)
    wanted = of_pytorch(
        "OneCycleLR", epochs * steps, max_lr=0.4, total_steps=epochs * steps, cycle_momentum=False, div_factor=25,
        pct_start=rise / epochs if rise else 0.3, final_div_factor=0.016 / 0.0016,
    )  # fmt: skip
    assert rates(optim, steps) == pytest.approx(wanted, rel=1e-9)


def test_cosine_with_every_step_is_pytorchs():
    optim = Optim(epochs=6, lr=0.4, schedule="cosine", per_step=True, min_lr=0.1)
    assert rates(optim, 5) == pytest.approx(of_pytorch("CosineAnnealingLR", 30, T_max=30, eta_min=0.1), rel=1e-9)


def test_linear_with_every_step_is_pytorchs():
    optim = Optim(epochs=6, lr=0.4, schedule="linear", per_step=True, min_lr=0.1)
    wanted = of_pytorch("LinearLR", 30, start_factor=1.0, end_factor=0.25, total_iters=30)
    assert rates(optim, 5) == pytest.approx(wanted, rel=1e-9)


TABLE = [  # epochs of two steps each
    (Optim(epochs=4, lr=0.8, schedule="constant"), [0.8] * 8),
    (Optim(epochs=3, lr=0.8, schedule="constant", lr_warmup=2), [0.4, 0.4, 0.8, 0.8, 0.8, 0.8]),
    (Optim(epochs=3, lr=0.8, schedule="constant", lr_warmup=2, per_step=True), [0.2, 0.4, 0.6, 0.8, 0.8, 0.8]),
    (Optim(epochs=2, lr=0.8, schedule="constant", warmup_steps=2), [0.4, 0.8, 0.8, 0.8]),
    (Optim(epochs=4, lr=0.8, schedule="linear"), [0.8, 0.8, 0.6, 0.6, 0.4, 0.4, 0.2, 0.2]),
    (Optim(epochs=3, lr=0.8, schedule="linear", min_lr=0.4, lr_warmup=1), [0.8, 0.8, 0.8, 0.8, 0.6, 0.6]),
    (Optim(epochs=3, lr=0.8, schedule="cosine", min_lr=0.4, lr_warmup=1), [0.8, 0.8, 0.8, 0.8, 0.6, 0.6]),
    (Optim(epochs=3, lr=0.8, steps=(1,), gamma=0.5, warmup_steps=1), [0.8, 0.8, 0.4, 0.4, 0.4, 0.4]),
]


@pytest.mark.parametrize(("optim", "wanted"), TABLE)
def test_rates_by_hand(optim, wanted):
    assert rates(optim, 2) == pytest.approx(wanted, rel=1e-12)


# by hand ----------------------------------------------------------------------------------------------------------

STEP = Optim(epochs=240, lr=0.05, steps=(150, 180, 210), gamma=0.1)
RISING = Optim(epochs=20, lr=0.1, steps=(10,), gamma=0.5, lr_warmup=4)
COSINE = Optim(epochs=8, lr=0.2, schedule="cosine")
RATES = [
    (STEP, 1, 0.05), (STEP, 150, 0.05), (STEP, 151, 0.005), (STEP, 180, 0.005), (STEP, 181, 0.0005),
    (STEP, 210, 0.0005), (STEP, 211, 0.00005), (STEP, 240, 0.00005),
    (RISING, 1, 0.025), (RISING, 2, 0.05), (RISING, 4, 0.1), (RISING, 5, 0.1), (RISING, 10, 0.1), (RISING, 11, 0.05),
    (COSINE, 1, 0.2), (COSINE, 3, 0.17071067811865476), (COSINE, 5, 0.1), (COSINE, 7, 0.02928932188134524),
    (Optim(epochs=6, lr=0.2, schedule="cosine", lr_warmup=2), 2, 0.2),
    (Optim(epochs=6, lr=0.2, schedule="cosine", lr_warmup=2), 3, 0.2),
    (Optim(epochs=6, lr=0.2, schedule="cosine", lr_warmup=2), 5, 0.1),
]  # fmt: skip


@pytest.mark.parametrize(("optim", "epoch", "rate"), RATES)
def test_learning_rate(optim, epoch, rate):
    assert learning_rate(optim, epoch) == pytest.approx(rate, rel=1e-12)


RAMP = ("--fam_review.weight", "0.8", "--fam_review.warmup", "20")
WEIGHTS = [
    (("--method", "none"), 1, {"task": 1.0}),
    (("--method", "kd", "--kd.weight", "0.9", "--kd.task_weight", "0.1", "--kd.warmup", "0"), 1,
     {"task": 0.1, "kd": 0.9}),
    (("--method", "fam_review", *RAMP), 1, {"task": 1.0, "fam_review": 0.04}),
    (("--method", "fam_review", *RAMP), 10, {"task": 1.0, "fam_review": 0.4}),
    (("--method", "fam_review", *RAMP), 20, {"task": 1.0, "fam_review": 0.8}),
    (("--method", "fam_review", *RAMP), 240, {"task": 1.0, "fam_review": 0.8}),
    (("--method", "fam_review+kd", "--fam_review.weight", "2", "--fam_review.warmup", "4", "--kd.weight", "0.5",
      "--kd.task_weight", "0.1", "--kd.warmup", "0"), 3, {"task": 1.0, "fam_review": 1.5, "kd": 0.5}),
]  # fmt: skip


@pytest.mark.parametrize(("flags", "epoch", "weights"), WEIGHTS)
def test_loss_weights(flags, epoch, weights):
    assert loss_weights(load_recipe("quickstart", *flags), epoch) == pytest.approx(weights, rel=1e-12)


def test_the_loop_uses_both_tables(pair, monkeypatch):
    used = []
    real = training.Step.set_epoch
    monkeypatch.setattr(training.Step, "set_epoch", lambda s, lr, w: (used.append((lr, w)), real(s, lr, w)))
    run = train(pair(*FAM, "--fam_review.warmup", "2", "--fam_review.weight", "3"), out="run")
    assert [lr for lr, _ in used] == pytest.approx([0.05, 0.05, 0.005])
    assert [row["lr"] for row in run.metrics()] == [lr for lr, _ in used]
    assert [weights["fam_review"] for _, weights in used] == [1.5, 3, 3]


def test_a_rate_of_zero_moves_nothing_and_a_weight_of_zero_teaches_nothing(pair):
    torch.manual_seed(0)
    still = train(pair("--lr", "0", "--epochs", "1"), out="still")
    whole = train(pair("--lr", "0", "--epochs", "2", "--optim.steps"), out="whole")
    for key in ("conv1.weight", "fc.weight"):
        assert torch.equal(still.student_state()[key], whole.student_state()[key])
    alone = train(pair(), out="alone")
    mute = train(pair("--method", "kd", *FAM[2:], "--kd.weight", "0", "--kd.task_weight", "1"), out="mute")
    for key, value in alone.student_state().items():
        torch.testing.assert_close(mute.student_state()[key], value)
