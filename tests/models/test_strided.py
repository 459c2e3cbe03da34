"""Strided 1x1 convolutions of few channels give the gradients of the definition, by way of no kernel that crashes."""

import copy
import pickle

import pytest
import torch
from torch import nn

from famkd.models import build_model
from famkd.models.strided import skip_pixels_first

CASES = [((1, 1), 2, 8), ((1, 1), (3, 2), 3), ((1, 1), 2, 15)]  # kernel, stride and channels


def strides(monkeypatch) -> list:
    """The strides of the convolutions that are called from now on."""
    real, seen = torch.nn.functional.conv2d, []

    def convolve(x, weight, bias=None, stride=1, *more):
        seen.append(stride)
        return real(x, weight, bias, stride, *more)

    monkeypatch.setattr("torch.nn.functional.conv2d", convolve)
    return seen


@pytest.mark.parametrize(("kernel", "stride", "channels"), CASES)
def test_large_maps_are_cut_before_they_are_convolved(monkeypatch, kernel, stride, channels):
    torch.manual_seed(0)
    conv = nn.Conv2d(channels, 5, kernel, stride)
    images = torch.randn(2, channels, 48, 50, dtype=torch.float64)
    expected = images.clone().requires_grad_()
    copy.deepcopy(conv).double()(expected).square().sum().backward()

    skip_pixels_first(conv)
    x = images.float().contiguous(memory_format=torch.channels_last).requires_grad_()
    seen = strides(monkeypatch)
    out = pickle.loads(pickle.dumps(copy.deepcopy(conv)))(x)
    assert seen == [1]  # otherwise the next line may end this process
    out.square().sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, expected.grad.float(), rtol=1e-4, atol=1e-5)


def test_small_maps_and_maps_without_a_gradient_are_convolved_as_before(monkeypatch):
    conv = nn.Conv2d(8, 5, 1, 2)
    x = torch.randn(2, 8, 32, 32)
    before, large = conv(x), torch.randn(2, 8, 64, 64)
    skip_pixels_first(conv)
    seen = strides(monkeypatch)
    assert torch.equal(conv(x.requires_grad_()), before)
    conv(large)
    assert seen == [(2, 2), (2, 2)]


def test_other_convolutions_and_the_weights_stay_as_they_are():
    model = build_model("resnet14x0.5", 5)
    names = list(model.state_dict())
    skip_pixels_first(model)
    changed = [name for name, module in model.named_modules() if "_conv_forward" in vars(module)]
    assert changed == ["layer2.0.downsample.0"]  # that of layer3 has 16 channels
    assert list(model.state_dict()) == names
