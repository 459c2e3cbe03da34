"""Winograd's convolutions against those of torch in double precision, and which convolutions of a network they take."""

import contextlib

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from famkd.layers import convolution, native

LAST = torch.channels_last


@pytest.fixture
def kernels():
    if native.library() is None:
        pytest.skip("no compiler here makes the kernels")
    native.use(True)
    yield
    native.use(False)


@pytest.fixture
def taken(monkeypatch):
    """The shapes of the weights that the kernels were given."""
    shapes, convolve = [], convolution.convolve
    monkeypatch.setattr(convolution, "convolve", lambda x, w, b: (shapes.append(tuple(w.shape)), convolve(x, w, b))[1])
    return shapes


def maps(*shape):
    return torch.randn(shape).contiguous(memory_format=LAST)


@pytest.mark.parametrize("side", [(4, 4), (8, 12), (7, 9), (5, 33)])
@pytest.mark.parametrize(("channels", "outputs"), [(16, 16), (48, 16), (16, 32)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_convolution_and_its_gradients_are_those_of_the_definition(kernels, side, channels, outputs, with_bias):
    torch.manual_seed(0)
    inputs = [maps(5, channels, *side), torch.randn(outputs, channels, 3, 3)]
    inputs = [t.requires_grad_() for t in (*inputs, *[torch.randn(outputs)] * with_bias)]
    exact = [t.detach().double().requires_grad_() for t in inputs]
    own, expected = convolution.convolve(*inputs), F.conv2d(*exact, padding=1)
    weights = torch.randn(expected.shape)  # with channels first, as a gradient may be
    results = (own, *torch.autograd.grad(own, inputs, weights))
    for one, other in zip(results, (expected, *torch.autograd.grad(expected, exact, weights.double()))):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one.double(), other, rtol=0, atol=1e-4 * other.std().item())
    assert own.is_contiguous(memory_format=LAST)


@pytest.mark.parametrize("needed", [(True, False), (False, True), (False, False)])
def test_only_gradients_that_are_needed_are_computed(kernels, needed):
    x, weight = (t.requires_grad_(need) for t, need in zip((maps(2, 16, 8, 8), torch.randn(16, 16, 3, 3)), needed))
    out = convolution.convolve(x, weight)
    assert out.requires_grad == any(needed)
    if any(needed):
        out.sum().backward()
    assert (x.grad is not None, weight.grad is not None) == needed


def test_results_do_not_depend_on_the_number_of_threads(kernels):
    x, weight = maps(4, 16, 32, 32), torch.randn(32, 16, 3, 3)
    threads, results = torch.get_num_threads(), []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            inputs = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
            out = convolution.convolve(*inputs)
            results.append((out, *torch.autograd.grad(out, inputs, torch.ones_like(out))))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(*pair) for pair in zip(*results))


def test_what_is_not_finite_is_not_hidden(kernels):
    x = maps(1, 16, 8, 8)
    x[0, 3, 5, 5] = float("nan")
    assert convolution.convolve(x, torch.randn(16, 16, 3, 3))[0, :, 4:7, 4:7].isnan().all()


ONE = (1, 1)
SAME = (None, ONE, ONE, ONE, 1)  # bias, stride, padding, dilation, groups, as a module passes them


@pytest.mark.parametrize(
    ("taken", "x", "weight", "others"),
    [
        (True, maps(2, 16, 8, 8), torch.zeros(16, 16, 3, 3), SAME),
        (True, maps(2, 16, 8, 8), torch.zeros(32, 16, 3, 3), (torch.zeros(32), 1, 1)),
        (False, maps(2, 16, 8, 8), torch.zeros(16, 16, 3, 3), ()),  # no padding
        (False, maps(2, 16, 8, 8), torch.zeros(16, 16, 3, 3), (None, (2, 2), ONE)),
        (False, maps(2, 16, 8, 8), torch.zeros(16, 16, 3, 3), (None, ONE, ONE, (2, 2))),
        (False, maps(2, 16, 8, 8), torch.zeros(16, 16, 3, 3), (None, 1, "same")),
        (False, maps(2, 32, 8, 8), torch.zeros(32, 16, 3, 3), (None, ONE, ONE, ONE, 2)),
        (False, maps(2, 16, 8, 8), torch.zeros(16, 16, 5, 5), SAME),
        (False, maps(2, 16, 8, 8), torch.zeros(16, 16, 1, 1), SAME),
        (False, maps(2, 3, 8, 8), torch.zeros(16, 3, 3, 3), SAME),
        (False, maps(2, 16, 8, 8), torch.zeros(20, 16, 3, 3), SAME),
        (False, maps(2, 16, 3, 8), torch.zeros(16, 16, 3, 3), SAME),
        (False, maps(0, 16, 8, 8), torch.zeros(16, 16, 3, 3), SAME),
        (False, torch.zeros(16, 8, 8), torch.zeros(16, 16, 3, 3), SAME),
        (False, torch.zeros(2, 16, 8, 8), torch.zeros(16, 16, 3, 3), SAME),  # channels first
        (False, maps(2, 16, 8, 8).double(), torch.zeros(16, 16, 3, 3).double(), SAME),
        (False, maps(2, 16, 8, 8).bfloat16(), torch.zeros(16, 16, 3, 3).bfloat16(), SAME),
        (False, maps(2, 16, 8, 8).to("meta"), torch.zeros(16, 16, 3, 3, device="meta"), SAME),
    ],
)
def test_which_convolutions_the_kernels_take(kernels, taken, x, weight, others):
    assert convolution.takes(x, weight, *others) is taken
    with torch.autocast("cpu", torch.bfloat16):
        assert not convolution.takes(x, weight, *others)


def network():
    """Its convolutions: one of few channels, two that the kernels take, one of stride 2."""
    torch.manual_seed(0)
    convs = nn.Conv2d(3, 16, 3, 1, 1), nn.Conv2d(16, 32, 3, 1, 1), nn.Conv2d(32, 16, 3, 1, 1, bias=False)
    return nn.Sequential(*convs, nn.Conv2d(16, 16, 3, 2, 1)).to(memory_format=LAST)


@pytest.mark.parametrize("used", [True, False])
def test_a_network_computes_the_same_inside_of_the_context(kernels, taken, used):
    net, x = network(), maps(3, 3, 8, 8)
    expected = net(x)
    native.use(used)
    with convolution.fast_convolutions():
        own = net(x)
    assert taken == ([(32, 16, 3, 3), (16, 32, 3, 3)] if used else [])
    assert torch.equal(own, expected) is not used
    torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5)


def test_a_network_that_its_user_compiled_is_left_to_the_compiler(kernels, taken):
    net, x = network(), maps(3, 3, 8, 8)
    with convolution.fast_convolutions():
        own = torch.compile(net, backend="aot_eager", fullgraph=True)(x)
    assert taken == []
    torch.testing.assert_close(own, net(x))


def test_the_context_ends_after_an_error(kernels, taken):
    with contextlib.suppress(ZeroDivisionError), convolution.fast_convolutions():
        raise ZeroDivisionError
    network()(maps(3, 3, 8, 8))
    assert taken == []


def test_a_second_derivative_is_an_error_and_not_lost(kernels):
    x = torch.randn(1, 16, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(16, 16, 3, 3, requires_grad=True)
    (grad,) = torch.autograd.grad(convolution.convolve(x, weight).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()
