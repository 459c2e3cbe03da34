"""Folding a teacher's batch norms and rounding its weights once keep its function."""

import pytest
import torch
import torchvision
from torch import nn

from famkd.distill.distiller import Distiller
from famkd.distill.types import Batch
from famkd.methods import METHODS
from famkd.models import build_model
from famkd.models.fold import fold_batch_norms, round_weights
from famkd.tasks import Classification

FOLDABLE = {  # model -> batch norms that directly follow a convolution
    "resnet8": 9, "resnet56": 57, "resnet8x4": 10, "vgg8": 5, "wrn_16_2": 7, "MobileNetV2": 53, "ShuffleV1": 49,
    "ResNet50": 53,
}  # fmt: skip


def worn(name: str) -> nn.Module:
    """A model whose batch norms have seen something, so that folding has something to get wrong."""
    torch.manual_seed(0)
    model = build_model(name, 10) if ":" not in name else torchvision.models.get_model(name.split(":")[1], weights=None)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    return model.eval()


@pytest.mark.parametrize("name", [*FOLDABLE, "torchvision:resnet18", "torchvision:mobilenet_v3_small"])
def test_folding_keeps_the_function(name):
    model, x = worn(name), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before = model(x)
        folded = fold_batch_norms(model, x)
        after = model(x)
    assert (after - before).abs().max() <= 1e-4 * before.abs().max()
    assert not torch.equal(after, before)
    assert len(folded) == FOLDABLE.get(name, len(folded)) > 0
    assert all(isinstance(model.get_submodule(path), nn.Identity) for path in folded)


def test_folding_leaves_alone_what_somebody_else_reads():
    class Shared(nn.Module):
        """The batch norm's input is read a second time, by no module that a hook could see."""

        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x):
            y = self.conv(x)
            return (self.bn(y) + y).mean((2, 3))

    model, x = Shared().eval(), torch.randn(2, 3, 8, 8)
    nn.init.constant_(model.bn.running_mean, 1.0)
    with torch.no_grad():
        before = model(x)
        assert fold_batch_norms(model, x) == []
        assert torch.equal(model(x), before)
    assert isinstance(model.bn, nn.BatchNorm2d)


@pytest.mark.parametrize(
    ("tap", "kept"), [("conv1", "bn1"), ("layer1.-1.conv2", "layer1.0.bn2"), ("layer2.0.bn1:in", "layer2.0.bn1")]
)
def test_folding_keeps_what_is_tapped(tap, kept):
    folded = fold_batch_norms(worn("resnet8"), torch.randn(2, 3, 32, 32), keep=(tap,))
    assert kept not in folded
    assert len(folded) == FOLDABLE["resnet8"] - 1


def test_weights_rounded_once_are_those_that_autocast_rounds():
    student, teacher, x = build_model("resnet8x0.5", 10), worn("resnet8"), torch.randn(4, 3, 16, 16)
    batch = Batch(x, torch.arange(4), torch.arange(4))
    fold_batch_norms(teacher, x)
    distiller = Distiller(Classification(), student, teacher, {"catkd": METHODS["catkd"]}, probe=batch)
    answers = []
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            answers.append(distiller(batch))
        round_weights(distiller.teacher, {distiller.teacher.head})
    (before, sums), (after, others) = answers
    assert torch.equal(before["catkd"]["catkd"], after["catkd"]["catkd"])
    assert all(torch.equal(sums[name], others[name]) for name in sums)
    assert teacher.conv1.weight.dtype == torch.bfloat16
    assert teacher.fc.weight.dtype == torch.float32
