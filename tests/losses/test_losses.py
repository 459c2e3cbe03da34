"""`famkd.losses`: every loss has its documentation, the defaults of its method, and the value of its method."""

import inspect
import re

import pytest
import torch
import torch.nn.functional as F

import famkd
from famkd import losses
from famkd.config.sections import method_options
from famkd.methods import METHODS

B, CLASSES = 6, 5
OF_METHOD = {"kd": "kd", "dkd": "dkd", "dist": "dist", "nkd": "nkd", "wttm": "wttm", "at": "at", "rkd": "rkd",
             "vid": "vid", "figkd": "figkd", "freekd": "freekd"}  # fmt: skip


def tensors(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(*shape), torch.randn(*shape)


ARGUMENTS = {
    **{name: lambda: tensors(B, CLASSES) for name in ("kd", "dist", "wttm", "figkd")},
    **{name: lambda: (*tensors(B, CLASSES), torch.arange(B) % CLASSES) for name in ("dkd", "nkd")},
    **{name: lambda: tensors(B, 4, 8, 8) for name in ("at", "nst", "fitnet", "reviewkd", "freekd", "catkd")},
    **{name: lambda: tensors(B, 7) for name in ("sp", "cc", "rkd", "pkt")},
    "vid": lambda: (*tensors(B, 4, 8, 8), torch.zeros(4)),
    "ofd": lambda: (*tensors(B, 4, 8, 8), losses.ofd_margins(tensors(B, 4, 8, 8)[1])),
    "crd_nce": lambda: (tensors(B, 9)[0], torch.tensor(2.0), 100),
}


@pytest.mark.parametrize("name", losses.__all__)
def test_each_is_documented_with_shapes_and_source(name):
    text = inspect.getdoc(getattr(losses, name))
    assert re.search(r"\((B|C)[ ,]", text), "shapes"
    assert re.search(r"Source: .*(19|20)\d\d|arXiv", text), "source"
    for parameter in inspect.signature(getattr(losses, name)).parameters:
        assert parameter in text or name in ("standardized", "ofd_margins"), parameter


@pytest.mark.parametrize("name", ARGUMENTS)
def test_each_is_a_scalar_with_a_gradient(name):
    first, *others = ARGUMENTS[name]()
    first.requires_grad_()
    loss = getattr(losses, name)(first, *others)
    assert loss.shape == ()
    loss.backward()
    assert first.grad.isfinite().all()
    assert first.grad.ne(0).any()
    with torch.autocast("cpu", torch.bfloat16):
        assert getattr(losses, name)(first.bfloat16(), *others).dtype == torch.float32


def test_every_loss_is_tried():
    assert set(ARGUMENTS) | {"standardized", "ofd_margins", "class_maps"} == set(losses.__all__)


@pytest.mark.parametrize(("name", "method"), OF_METHOD.items())
def test_defaults_are_those_of_the_method(name, method):
    options = method_options(METHODS[method])
    for each in inspect.signature(getattr(losses, name)).parameters.values():
        if each.default is not each.empty:
            assert each.default == options[each.name][1], each.name


def test_kd_by_its_formula():
    s, t = tensors(B, CLASSES)
    p, q = F.softmax(s / 2, 1), F.softmax(t / 2, 1)
    torch.testing.assert_close(famkd.losses.kd(s, t, 2.0), 4 * (q * (q / p).log()).sum(1).mean())


def test_famkd_stays_light_until_a_loss_is_used(python):
    code = "import sys, famkd; a = 'torch' in sys.modules; famkd.losses.kd; print(a, 'torch' in sys.modules)"
    assert python("-c", code) == (0, "False True\n", "")


def test_the_bands_of_figkd_have_names():
    with pytest.raises(ValueError, match="keep is hihg, it must be high, low or both"):
        losses.figkd(torch.zeros(2, 3), torch.zeros(2, 3), keep="hihg")
