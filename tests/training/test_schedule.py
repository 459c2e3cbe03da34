"""The learning rate of each step, against PyTorch's own schedulers and by hand."""

import pytest
import torch

from famkd.config.recipe import Optim
from famkd.training.schedule import learning_rate


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
