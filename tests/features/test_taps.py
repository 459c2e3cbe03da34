"""Features by module path: of our networks, of torchvision's, of a network made here."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models

from famkd.errors import UserError
from famkd.features.taps import Tapped, default_head, default_taps, discover, find_module
from famkd.models import build_model

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class ConvNet(nn.Module):
    """Two stages, a sequence, a module that is never called, and an activation in place."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks = nn.Sequential(nn.Conv2d(4, 5, 3, 2, 1), nn.BatchNorm2d(5), nn.ReLU(inplace=True))
        self.named = nn.ModuleDict({"-1": nn.Conv2d(5, 6, 3, 2, 1)})
        self.idle = nn.Linear(1, 1)
        self.classify = nn.Linear(6, 3)

    def forward(self, x):
        x = self.named["-1"](self.blocks(self.first(x)))
        return self.classify(x.mean((2, 3)))


PATHS = {  # path -> the module it means
    "": lambda m: m,
    "first": lambda m: m.first,
    "blocks": lambda m: m.blocks,
    "blocks.0": lambda m: m.blocks[0],
    "blocks.-1": lambda m: m.blocks[2],
    "blocks.-3": lambda m: m.blocks[0],
    "named.-1": lambda m: m.named["-1"],  # a child's own name comes before counting
    "-1": lambda m: m.classify,
}


@pytest.mark.parametrize("path", PATHS)
def test_paths(path):
    model = ConvNet()
    assert find_module(model, path) is PATHS[path](model)


WRONG = {
    "block": "Did you mean blocks",
    "frist": "Did you mean first",
    "blocks.3": "has no module 'blocks.3'",
    "blocks.-4": "has no module 'blocks.-4'",
    "blocks.x": "has no module 'blocks.x'",
    "blocks.--1": "has no module 'blocks.--1'",
    "blocks.0.weight": "has no module 'blocks.0.weight'",
    "blocks..0": "has no module",
}


@pytest.mark.parametrize("path", WRONG)
def test_a_path_that_does_not_exist_is_reported_with_the_nearest(path):
    with pytest.raises(UserError, match=WRONG[path]) as caught:
        Tapped(ConvNet(), [path])
    assert "ConvNet" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_features_come_in_the_order_of_the_taps_each_what_it_says():
    model = ConvNet().eval()
    first = model.first(IMAGES)
    normed = model.blocks[1](model.blocks[0](first))
    tapped = Tapped(model, ["blocks.-1", "first", "blocks.0:in", "blocks.-1:in", "classify:in"])
    logits, feats = tapped(IMAGES)
    deep = model.named["-1"](F.relu(normed)).mean((2, 3))
    for got, expected in zip(feats, (F.relu(normed), first, first, normed, deep), strict=True):
        torch.testing.assert_close(got, expected)
    torch.testing.assert_close(logits, model.classify(deep))
    assert feats[3].min() < 0  # what entered the activation, although that was in place


def test_a_module_that_is_never_called_is_reported():
    with pytest.raises(UserError, match="never reached the tap 'idle'"):
        Tapped(ConvNet(), ["first", "idle"])(IMAGES)


def test_features_of_one_forward_do_not_stay_for_the_next():
    tapped = Tapped(ConvNet(), ["first"])
    tapped(IMAGES)
    tapped.model.forward = lambda x: x
    with pytest.raises(UserError, match="never reached"):
        tapped(IMAGES)


def test_remove_takes_every_hook_off():
    model = ConvNet()
    tapped = Tapped(model, ["first", "blocks.0:in"])
    assert tapped.remove() is model
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert set(model.state_dict()) == set(ConvNet().state_dict())


def test_gradients_pass_through_a_tap():
    tapped = Tapped(ConvNet(), ["first"])
    tapped(IMAGES)[1][0].square().mean().backward()
    assert tapped.model.first.weight.grad.abs().sum() > 0


def test_a_preactivation_of_torchvision_is_not_overwritten_in_place():
    torch.manual_seed(0)
    model = models.resnet18(num_classes=5).eval()
    expected = model.bn1(model.conv1(IMAGES))
    plain = model(IMAGES)
    logits, (before, bn, after) = Tapped(model, ["relu:in", "bn1", "relu"])(IMAGES)
    for got in (before, bn):
        torch.testing.assert_close(got, expected)
    torch.testing.assert_close(after, F.relu(expected))
    torch.testing.assert_close(logits, plain)
    assert before.min() < 0


# torchvision's and our own names of the stages that a probe finds on 64 x 64 images -> channels and size of each
FOUND = {
    "resnet18": (lambda: models.resnet18(num_classes=5), [(64, 16), (128, 8), (256, 4), (512, 2)], "fc"),
    "mobilenet_v3_small": (
        lambda: models.mobilenet_v3_small(num_classes=5),
        [(16, 16), (24, 8), (48, 4), (576, 2)],
        "classifier.3",
    ),
    "ConvNet": (ConvNet, [(4, 64), (5, 32), (6, 16)], "classify"),
    "resnet20": (lambda: build_model("resnet20", 5), [(16, 64), (32, 32), (64, 16)], "fc"),
}


@pytest.mark.parametrize("name", FOUND)
def test_stages_of_an_unknown_model_are_found(name):
    make, expected, head = FOUND[name]
    model = make().train()
    images = torch.randn(2, 3, 64, 64)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    places, found = discover(model, images)
    assert found == head
    assert places["embed"] == (f"{head}:in",)
    with torch.no_grad():
        _, feats = Tapped(model.eval(), [*places["stages"], *places["embed"]])(images)
    assert [(f.shape[1], f.shape[-1]) for f in feats[:-1]] == expected
    assert feats[-1].shape == (2, find_module(model, head).in_features)
    state = model.state_dict()
    assert all(torch.equal(state[key], before[key]) for key in state)  # running statistics among them


def test_looking_leaves_mode_and_hooks_as_they_were():
    for training in (True, False):
        model = ConvNet().train(training)
        discover(model, IMAGES)
        assert model.training == training
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_the_last_module_of_a_size_is_the_stage():
    places, _ = discover(models.resnet18(num_classes=5), torch.randn(2, 3, 64, 64))
    assert places["stages"] == ("layer1", "layer2", "layer3", "layer4")


def test_a_model_without_maps_asks_for_taps():
    with pytest.raises(UserError, match=r"shows no feature maps: name its taps with --student\.taps"):
        discover(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2)), IMAGES)


WANTS = [  # what a method wants -> taps of resnet8, which names its own, and of torchvision's resnet18
    ("logits", [], []),
    ("stages", ["layer1", "layer2", "layer3"], ["layer1", "layer2", "layer3", "layer4"]),
    ("embed", ["avgpool"], ["fc:in"]),
    ("last", ["avgpool:in"], ["avgpool:in"]),
    ("stages+embed", ["layer1", "layer2", "layer3", "avgpool"], ["layer1", "layer2", "layer3", "layer4", "fc:in"]),
]


@pytest.mark.parametrize(("wants", "own", "foreign"), WANTS)
def test_default_taps(wants, own, foreign):
    images = torch.randn(2, 3, 64, 64)
    assert default_taps(build_model("resnet8", 5), wants, images) == own
    assert default_taps(models.resnet18(num_classes=5), wants, images) == foreign


def test_the_classifier_of_a_model():
    assert default_head(build_model("resnet8", 5), IMAGES) == "fc"
    assert default_head(ConvNet(), IMAGES) == "classify"
    assert Tapped(build_model("resnet8", 5)).head.out_features == 5
    assert Tapped(ConvNet(), head="classify").head.out_features == 3
    assert Tapped(ConvNet()).head is None


def test_a_foreign_classifier_that_is_called_head_is_no_path():
    class Swin(ConvNet):
        def __init__(self):
            super().__init__()
            self.classify, self.head = nn.Identity(), nn.Linear(6, 3)

        def forward(self, x):
            return self.head(super().forward(x))

    assert Tapped(Swin()).head is None
    assert Tapped(Swin(), head="head").head.out_features == 3
    assert find_module(Swin(), default_head(Swin(), IMAGES)).out_features == 3


def test_a_forward_of_the_plain_model_leaves_nothing_in_the_taps():
    """SimKD puts a second set of taps on the student, which must not keep features and their graph."""
    model = build_model("resnet8", 3)
    mine, other = Tapped(model, ["layer1"]), Tapped(model, ["layer2", "avgpool:in"])
    _, feats = mine(torch.randn(2, 3, 32, 32))
    assert feats[0].requires_grad
    assert other._seen is None
    assert mine._seen is None
    assert len(other(torch.randn(2, 3, 32, 32))[1]) == 2
