"""Fusion: cross attention against its definition by unfolding, the gate, and resizing."""

import pytest
import torch
import torch.nn.functional as F

from famkd.layers.fusion import CrossAttention, Gate, attend, resize, use_kernels


def naive_attention(q, k, v, offset_term):
    """Softmax over nine unfolded neighbours, channel by channel; all (B, C, H, W) but the term, (9, C)."""
    b, c, h, w = q.shape
    keys = F.unfold(k, 3, padding=1).view(b, c, 9, h, w) + offset_term.t()[None, :, :, None, None]
    values = F.unfold(v, 3, padding=1).view(b, c, 9, h, w)
    return ((q[:, :, None] * keys).softmax(2) * values).sum(2)


@pytest.mark.parametrize("shape", [(2, 4, 8, 8), (2, 6, 5, 7), (1, 2, 1, 1), (3, 4, 2, 9)])
def test_attention_equals_its_definition_forward_and_backward(shape):
    torch.manual_seed(0)
    q, k, v = (torch.randn(shape, dtype=torch.float32, requires_grad=True) for _ in range(3))
    term = torch.randn(9, shape[1], requires_grad=True)
    own = attend(*(t.permute(0, 2, 3, 1) for t in (q, k, v)), term).permute(0, 3, 1, 2)
    expected = naive_attention(q, k, v, term)
    grad = torch.randn_like(expected)
    torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-5)
    for one, other in zip(
        torch.autograd.grad(own, (q, k, v, term), grad), torch.autograd.grad(expected, (q, k, v, term), grad)
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.sample(1)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fused_kernels_are_the_same_function(dtype):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 6, 5, 8, dtype=dtype, requires_grad=True) for _ in range(3))
    term, grad = torch.randn(9, 8, requires_grad=True), torch.randn(2, 6, 5, 8, dtype=dtype)
    results = []
    try:
        for compiled in (False, True):
            use_kernels(compiled)
            out = attend(q, k, v, term)
            results.append((out, *torch.autograd.grad(out, (q, k, v, term), grad)))
    finally:
        use_kernels(compiled=False)
    rounding = {} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
    for one, other in zip(*results):
        torch.testing.assert_close(one, other, **rounding)  # of one dtype too


def test_compiled_kernels_are_fed_single_precision(monkeypatch):
    seen = []
    monkeypatch.setattr(torch, "compile", lambda kernel, **_: lambda *t: seen.extend(t) or kernel(*t))
    try:
        use_kernels(compiled=True)
        q, k, v = (torch.randn(1, 3, 3, 2, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
        attend(q, k, v, torch.randn(9, 2, requires_grad=True)).sum().backward()
    finally:
        use_kernels(compiled=False)
    assert len(seen) == 4 + 7
    assert {t.dtype for t in seen} == {torch.float32}


def test_attention_survives_scores_that_overflow_an_exponential():
    q, k, v = (torch.full((1, 4, 4, 2), 60.0, requires_grad=True) for _ in range(3))
    out = attend(q, k, v, torch.zeros(9, 2))
    out.sum().backward()
    assert out.isfinite().all()
    assert all(t.grad.isfinite().all() for t in (q, k, v))


@pytest.mark.parametrize("channels", [8, 5])
def test_cross_attention_takes_queries_from_the_deeper_feature(channels):
    torch.manual_seed(0)
    fuse = CrossAttention(channels)
    stage, deeper = torch.randn(2, channels, 6, 5), torch.randn(2, channels, 6, 5)
    rows = fuse.row_term.shape[1]
    term = torch.stack([torch.cat((fuse.row_term[i], fuse.column_term[j])) for i in range(3) for j in range(3)])
    expected = naive_attention(fuse.query(deeper), fuse.key(stage), fuse.value(stage), term)
    torch.testing.assert_close(fuse(stage, deeper), expected, rtol=1e-5, atol=1e-5)
    assert rows + fuse.column_term.shape[1] == channels


def test_attention_in_bfloat16_stays_close():
    torch.manual_seed(0)
    fuse, stage, deeper = CrossAttention(8), torch.randn(2, 8, 6, 6), torch.randn(2, 8, 6, 6)
    exact = fuse(stage, deeper)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = fuse(stage, deeper)
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().max() < 0.15 * exact.abs().max()


def test_gate_weighs_both_with_maps_in_0_to_1():
    torch.manual_seed(0)
    gate, stage, deeper = Gate(4), torch.randn(2, 4, 5, 5), torch.randn(2, 4, 5, 5)
    weights = torch.sigmoid(gate.conv(torch.cat((stage, deeper), 1)))
    torch.testing.assert_close(gate(stage, deeper), weights[:, :1] * stage + weights[:, 1:] * deeper)


def test_resize_repeats_when_it_grows_and_averages_when_it_shrinks():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert resize(x, (4, 4)) is x
    torch.testing.assert_close(resize(x, (8, 8))[0, 0, ::2, ::2], x[0, 0])
    torch.testing.assert_close(resize(x, (2, 2))[0, 0], torch.tensor([[2.5, 4.5], [10.5, 12.5]]))
    wide, other = (torch.randn(2, 3, 2, 3).to(memory_format=torch.channels_last).requires_grad_() for _ in range(2))
    other.data.copy_(wide.data)
    grown, known = resize(wide, (6, 3)), F.interpolate(other, (6, 3), mode="nearest")
    assert torch.equal(grown, known)
    assert grown.is_contiguous(memory_format=torch.channels_last)
    weights = torch.randn_like(grown)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, weights)[0] for y, x in ((grown, wide), (known, other))))
    checker = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(4, 4)[None, None]
    assert resize(checker, (4, 4)).abs().max() == 0  # nearest neighbour would alias it to a constant 1
