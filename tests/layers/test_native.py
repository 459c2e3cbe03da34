"""Kernels in C++: the transforms, cross attention and whole modules against their definitions, forward and backward."""

import platform
import subprocess

import pytest
import torch
import torch.nn.functional as F

from famkd.bench.reference import ReferenceCrossAttention
from famkd.layers import native
from famkd.layers.compiler import find_compiler
from famkd.layers.fourier import FAM
from famkd.layers.fusion import CrossAttention, resize
from famkd.methods.common import map_error

SHAPES = [(2, 16, 32, 32), (2, 5, 8, 8), (2, 20, 7, 5), (1, 3, 1, 1), (2, 3, 1, 4), (1, 17, 9, 2), (2, 33, 6, 4)]
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture
def kernels():
    native.library.cache_clear()
    if native.library() is None:
        pytest.skip("no compiler here makes the kernels")
    native.use(True)
    yield
    native.use(False)


def gradients(out, inputs, seed=1):
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.autograd.grad(out, inputs, weights.to(out.dtype))


def compare(own, expected, own_inputs, inputs):
    torch.testing.assert_close(own, expected.float(), **CLOSE)
    for one, other in zip(gradients(own, own_inputs), gradients(expected, inputs)):
        torch.testing.assert_close(one, other.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_spectrum_is_the_half_spectrum_of_an_fft(kernels, shape, order):
    x = torch.randn(shape).contiguous(memory_format=order).requires_grad_()
    exact = x.detach().double().requires_grad_()
    gain = torch.rand(shape[2], shape[3] // 2 + 1)
    half = torch.view_as_real(torch.fft.rfft2(exact, norm="ortho") * gain)
    compare(native.spectrum(x, gain), half.permute(2, 3, 0, 4, 1).flatten(0, 1), [x], [exact])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("depthwise", [False, True])
def test_waves_are_the_inverse_fft_of_a_complex_product(kernels, shape, depthwise):
    b, c, h, w = shape
    spectrum = torch.randn(h * (w // 2 + 1), b, 2, c, requires_grad=True)
    weight = torch.randn(len(spectrum), *((2, c) if depthwise else (c, 2, c + 2)), requires_grad=True)
    exact = [t.detach().double().requires_grad_() for t in (spectrum, weight)]
    factors = [torch.complex(t.select(dim, 0), t.select(dim, 1)) for t, dim in zip(exact, (2, 1 if depthwise else 2))]
    product = torch.einsum("fbc,fc->bcf" if depthwise else "fbc,fco->bof", *factors)
    maps = torch.fft.irfft2(product.unflatten(2, (h, w // 2 + 1)), s=(h, w), norm="ortho")
    own = native.waves(native.complex_product(spectrum, weight), (h, w))
    compare(own, maps, [spectrum, weight], exact)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_attention_equals_its_definition_on_repeated_queries(kernels, shape, factor):
    b, c, h, w = shape
    if h % factor or w % factor:
        factor = 1
    fuse = CrossAttention(c)
    stage, deeper = torch.randn(shape), torch.randn(b, c, h // factor, w // factor)
    own_inputs = [t.clone().requires_grad_() for t in (stage, deeper)]
    own = fuse(*own_inputs)
    reference = ReferenceCrossAttention(c)
    reference.load_state_dict(fuse.state_dict())
    reference.double()
    inputs = [t.double().requires_grad_() for t in (stage, deeper)]
    repeated = inputs[1].repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    compare(
        own,
        reference(inputs[0], repeated),
        [*own_inputs, *fuse.parameters()],
        [*inputs, *reference.parameters()],
    )


def test_a_deeper_feature_whose_pixels_cannot_be_repeated_is_resized(kernels):
    fuse, stage, deeper = CrossAttention(4), torch.randn(2, 4, 5, 5), torch.randn(2, 4, 3, 3)
    own = fuse(stage, deeper)
    native.use(False)
    torch.testing.assert_close(own, fuse(stage, resize(deeper, (5, 5))), **CLOSE)


@pytest.mark.parametrize("kind", ["dense", "separable", "lowrank"])
@pytest.mark.parametrize("branch", ["both", "global", "local"])
@pytest.mark.parametrize("size", [(8, 8), (6, 7), (1, 1)])
def test_a_module_is_the_same_function_with_and_without_kernels(kernels, kind, branch, size):
    torch.manual_seed(0)
    fam = FAM(5, 6, size, filter=kind, rank=3, branch=branch, init="balanced")
    x = torch.randn(9, 5, *size)
    results = []
    for used in (True, False):
        native.use(used)
        inputs = [x.clone().requires_grad_(), *fam.parameters()]
        out = fam(inputs[0])
        results.append((out, *gradients(out, inputs)))
    for one, other in zip(*results):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_map_error_is_the_mean_squared_error_with_a_gradient_of_the_same_layout(kernels, dtype):
    own = torch.randn(3, 4, 5, 6, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_()
    target = torch.randn(3, 4, 5, 6, dtype=dtype)
    loss, expected = map_error(own, target), F.mse_loss(own.float(), target.float())
    torch.testing.assert_close(loss, expected, **CLOSE)
    (grad,), (known,) = (torch.autograd.grad(each, own) for each in (loss, expected))
    torch.testing.assert_close(grad, known)
    assert grad.is_contiguous(memory_format=torch.channels_last)


def test_large_scores_stay_finite_and_what_is_not_finite_is_not_hidden(kernels):
    fuse = CrossAttention(2)
    stage = torch.full((1, 2, 4, 4), 60.0, requires_grad=True)
    fuse(stage, stage).sum().backward()
    assert all(grad.isfinite().all() for grad in (stage.grad, fuse.row_term.grad))
    bad = torch.zeros(1, 2, 4, 4)
    bad[0, 0, 0, 0] = float("nan")
    assert fuse(bad, torch.ones(1, 2, 4, 4)).isnan().any()
    assert fuse(torch.ones(1, 2, 4, 4), bad).isnan().any()


def test_results_do_not_depend_on_the_number_of_threads(kernels):
    x = torch.randn(5, 4, 8, 8)
    threads = torch.get_num_threads()
    results = []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            inputs = x.clone().requires_grad_()
            out = native.waves(native.spectrum(inputs, torch.ones(8, 5)), (8, 8))
            grads = gradients(native.attend(out, torch.cat((inputs, out), 1), torch.ones(9, 4)), inputs)
            results.append((out, *grads))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(*pair) for pair in zip(*results))


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler"])
def test_without_a_working_compiler_layers_use_torch(monkeypatch, tmp_path, compiler):
    monkeypatch.setenv("CXX", compiler)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native.library.cache_clear()
    try:
        with pytest.warns(UserWarning, match="C\\+\\+ kernels cannot be used"):
            native.use(True)
        x = torch.randn(1, 2, 4, 4)
        assert not native.takes(x)
        assert FAM(2, 2, (4, 4))(x).shape == x.shape
    finally:
        native.use(False)
        native.library.cache_clear()


def test_kernels_take_tensors_of_a_cpu_only(kernels):
    assert native.takes(torch.zeros(1), torch.zeros(1, dtype=torch.bfloat16))
    assert not native.takes(torch.zeros(1, device="meta"))
    assert not native.takes(torch.zeros(1, dtype=torch.float64))


@pytest.mark.parametrize("flags", [(), *native.ARCHITECTURES.values()])
def test_the_source_compiles_for_every_instruction_set(tmp_path, flags):
    if platform.machine() not in ("x86_64", "AMD64") and flags:
        pytest.skip("these options are for x86")
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("no compiler")
    command = [*native.compile_command(compiler, flags), "-Werror", "-Wall", "-o", str(tmp_path / "kernels.so")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("build", [lambda: FAM(3, 4, (8, 8)), lambda: CrossAttention(4)], ids=["fam", "attention"])
def test_a_graph_that_a_user_compiles_leaves_the_kernels_out(kernels, build):
    torch.compiler.reset()
    module = build()
    inputs = (
        (torch.randn(2, 3, 8, 8),) if isinstance(module, FAM) else (torch.randn(2, 4, 8, 8), torch.randn(2, 4, 4, 4))
    )
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*inputs), module(*inputs), rtol=1e-4, atol=1e-4)
