"""--student.freeze: frozen parts keep their weights and statistics, and everything else is trained."""

import pytest
import torch
from torch import nn

from famkd.errors import UserError
from famkd.models import build_model
from famkd.models.freeze import freeze_parts
from famkd.training.loop import train


@pytest.mark.parametrize(("patterns", "frozen"), [
    (["conv1", "bn1", "layer1"], ("conv1.", "bn1.", "layer1.")),
    (["layer[12]*"], ("layer1.", "layer2.")),
    (["layer1.0.conv1.weight"], ("layer1.0.conv1.weight",)),
    (["*.bn1"], ("layer1.0.bn1.", "layer2.0.bn1.", "layer3.0.bn1.")),
])  # fmt: skip
def test_patterns_name_modules_and_parameters(patterns, frozen):
    model = build_model("resnet8", 3)
    freeze_parts(model, patterns)
    kept = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert kept == {name for name, _ in model.named_parameters() if name.startswith(frozen)}


def test_frozen_batch_norms_stay_in_eval_mode_whoever_calls_train():
    import copy

    model = build_model("resnet8", 3)
    freeze_parts(model, ["layer1"])
    for each in (model, copy.deepcopy(model)):
        nn.Sequential(each).eval().train()
        assert each.training
        assert each.layer2.training
        modes = {module.training for module in each.layer1.modules()}
        assert modes == {False}
        before = each.layer1[0].bn1.running_mean.clone()
        each(torch.randn(4, 3, 8, 8))
        assert torch.equal(each.layer1[0].bn1.running_mean, before)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--optim.decay", "weights", "--optim.name", "adamw"), ("--ema", "0.9")])
def test_a_training_leaves_frozen_parts_as_they_were(small, flags):
    start = train(small("--epochs", "1"), out="start")
    weights = ("--student.weights", "start", "--student.freeze", "conv1", "bn1", "layer1")
    whole = train(small("--epochs", "2", *weights, *flags), out="whole")
    before, after = start.student_state(), whole.student_state()
    frozen = [name for name in before if name.startswith(("conv1.", "bn1.", "layer1."))]
    assert frozen
    for name in before:
        same = torch.equal(before[name], after[name])
        assert same == (name in frozen), name
    train(small("--epochs", "1", "--optim.schedule", "constant", *weights, *flags), out="cut")
    resumed = train(small("--epochs", "2", "--optim.schedule", "constant", *weights, *flags), out="cut", resume=True)
    assert all(torch.equal(resumed.student_state()[name], before[name]) for name in frozen)


def test_what_cannot_be_frozen_is_told(small, capsys):
    with pytest.raises(UserError, match=r"freeze layer9: the student has no such part\. Did you mean layer"):
        train(small("--student.freeze", "layer9"))
    with pytest.raises(UserError, match="leaves nothing of the student to train"):
        train(small("--student.freeze", "*"))
    train(small("--student.freeze", "layer1", "--epochs", "1"))
    assert "--student.freeze keeps random weights" in capsys.readouterr().err
