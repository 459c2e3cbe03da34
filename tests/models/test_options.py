"""Dropout, drop path and patch size reach the networks that take them, and are refused by the others."""

import pytest
import torch
from torch import nn

from famkd.errors import UserError
from famkd.models import MODELS, build_model
from famkd.models.options import BuildOptions


def build(name: str, size: int = 64, **options) -> nn.Module:
    return build_model(name, 10, size=(size, size), options=BuildOptions(**options))


def rates(network: nn.Module, kind: str) -> set[float]:
    """Rates of the modules of a kind."""
    held = [module for module in network.modules() if type(module).__name__ == kind]
    return {round(getattr(module, "p", getattr(module, "drop_prob", 0.0)) or 0.0, 3) for module in held}


def test_a_vision_transformer_of_timm_takes_all_three():
    network = build("timm:vit_tiny_patch16_224", 32, drop=0.2, drop_path=0.1, patch=4)
    assert network.patch_embed.num_patches == 64
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert max(rates(network, "DropPath")) == 0.1
    assert rates(network.head_drop, "Dropout") == {0.2}


def test_torchvision_calls_them_otherwise():
    network = build("torchvision:efficientnet_b0", drop=0.3, drop_path=0.15)
    assert rates(network, "Dropout") == {0.3}
    depths = [module.p for module in network.modules() if type(module).__name__ == "StochasticDepth"]
    assert 0.1 < max(depths) <= 0.15
    assert rates(build("torchvision:mobilenet_v2", drop=0.4), "Dropout") == {0.4}
    assert build("torchvision:densenet121", drop=0.1).features.denseblock1.denselayer1.drop_rate == 0.1


def test_a_builder_of_ones_own_names_them(monkeypatch):
    class Mine(nn.Linear):
        def __init__(self, num_classes, dropout_rate=0.0):
            super().__init__(4, num_classes)
            self.rate = dropout_rate

    monkeypatch.setitem(MODELS, "mine", Mine)
    assert build_model("mine", 10, options=BuildOptions(drop=0.25)).rate == 0.25
    with pytest.raises(UserError, match=r"mine takes no drop path: leave --student\.drop_path out"):
        build_model("mine", 10, options=BuildOptions(drop_path=0.1))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("resnet20", {"drop": 0.1}, "resnet20 takes no dropout: leave --student.drop out"),
        ("torchvision:resnet18", {"drop": 0.1}, "torchvision:resnet18 takes no dropout"),
        ("timm:vgg11", {"drop_path": 0.1}, "timm:vgg11 takes no drop path"),
        ("timm:resnet10t", {"patch": 4}, "timm:resnet10t takes no patch size"),
        ("torchvision:resnet18", {"drop": 0.1, "patch": 4}, "takes no (dropout|patch size)"),
        ("fasterrcnn_resnet18", {"drop": 0.1}, "fasterrcnn_resnet18 takes no dropout"),
    ],
)
def test_others_refuse_them(name, options, words):
    with pytest.raises(UserError, match=words):
        build(name, **options)
