"""Fusing a stage with the deeper, already fused one: local cross attention, or ReviewKD's sigmoid gate."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OFFSETS = [(row, col) for row in range(3) for col in range(3)]


class Gate(nn.Module):
    """Attention-based fusion: two sigmoid maps weigh the stage and the deeper feature, (B, C, H, W) each.

    Source: Chen et al., Distilling Knowledge via Knowledge Review, CVPR 2021.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, 2, 1)

    def forward(self, stage: Tensor, deeper: Tensor) -> Tensor:
        own, review = self.conv(torch.cat((stage, deeper), 1)).sigmoid().split(1, 1)
        return stage * own + deeper * review


class CrossAttention(nn.Module):
    """Each pixel of the deeper feature attends to the stage's 3x3 neighbourhood, channel by channel, (B, C, H, W).

    Query from the deeper feature, key and value from the stage, all bias-free 1x1 convolutions; the key carries a
    learned term per row offset in its first half of channels and per column offset in the second. Not a dot product
    over a head: every channel has its own softmax over the nine offsets.
    Source: Ramachandran et al., Stand-Alone Self-Attention, NeurIPS 2019, as used by Pham et al., WACV 2024.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.query = nn.Conv2d(channels, channels, 1, bias=False)
        self.key = nn.Conv2d(channels, channels, 1, bias=False)
        self.value = nn.Conv2d(channels, channels, 1, bias=False)
        for conv in (self.query, self.key, self.value):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        rows = channels - channels // 2
        self.row_term = nn.Parameter(torch.randn(3, rows))
        self.column_term = nn.Parameter(torch.randn(3, channels - rows))

    def forward(self, stage: Tensor, deeper: Tensor) -> Tensor:
        nhwc = [t.permute(0, 2, 3, 1) for t in (self.query(deeper), self.key(stage), self.value(stage))]
        offset_term = torch.cat((self.row_term.repeat_interleave(3, 0), self.column_term.repeat(3, 1)), 1)  # (9, C)
        return attend(*nhwc, offset_term).permute(0, 3, 1, 2)


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """A map at another size: nearest neighbour when it grows, averages when it shrinks, so that nothing aliases."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    (b, c, h, w), (high, wide) = x.shape, size
    if high % h == 0 and wide % w == 0:  # whose gradient is a sum; that of `interpolate` adds up in any order on a GPU
        repeated = x.permute(0, 2, 3, 1)[:, :, None, :, None].expand(b, h, high // h, w, wide // w, c)
        return repeated.reshape(b, high, wide, c).permute(0, 3, 1, 2)
    grows = high >= h and wide >= w
    return F.interpolate(x, tuple(size), mode="nearest") if grows else F.adaptive_avg_pool2d(x, tuple(size))


def attend(q: Tensor, k: Tensor, v: Tensor, offset_term: Tensor) -> Tensor:
    """Channelwise softmax over nine neighbours: out(p) = sum_d softmax_d(q(p) (k(p+d) + r_d)) v(p+d).

    q, k, v are (B, H, W, C), offset_term r is (9, C); keys and values outside the map are zero.
    """
    return _Attend.apply(q.contiguous(), k.contiguous(), v.contiguous(), offset_term)


class _Attend(torch.autograd.Function):
    """Nine shifted reads, and weights computed again in the backward: nothing nine times the map is ever stored."""

    @staticmethod
    def forward(ctx, q, k, v, offset_term):
        out, log_sum = KERNELS["forward"](q, k, v, offset_term)
        ctx.save_for_backward(q, k, v, offset_term, out, log_sum)
        return out

    @staticmethod
    def backward(ctx, grad):
        return KERNELS["backward"](grad.contiguous(), *ctx.saved_tensors)


def _padded(t: Tensor) -> Tensor:
    return F.pad(t.float(), (0, 0, 1, 1, 1, 1))


def _forward(q, k, v, offset_term):
    (_, h, w, _), dtype = q.shape, q.dtype
    q, k, v, offset_term = q.float(), _padded(k), _padded(v), offset_term.float()
    scores = [q * (k[:, i : i + h, j : j + w] + r) for (i, j), r in zip(OFFSETS, offset_term)]
    peak = scores[0]
    for score in scores[1:]:
        peak = torch.maximum(peak, score)
    total = out = 0.0
    for (i, j), score in zip(OFFSETS, scores):
        weight = torch.exp(score - peak)
        total = total + weight
        out = out + weight * v[:, i : i + h, j : j + w]
    out = out / total
    # where `out.to(dtype)` does nothing, torch 2.11 compiles a Function that ends in it to wrong gradients
    return out if dtype == out.dtype else out.to(dtype), peak + torch.log(total)


def _backward(grad, q, k, v, offset_term, out, log_sum):
    (_, h, w, _), dtype = q.shape, q.dtype
    q, k, v, grad, offset_term = q.float(), k.float(), v.float(), grad.float(), offset_term.float()
    grad_out = grad * out
    k_pad, v_pad = _padded(k), _padded(v)
    d_q, d_offset = 0.0, []
    for (i, j), r in zip(OFFSETS, offset_term):
        key = k_pad[:, i : i + h, j : j + w] + r
        d_score = torch.exp(q * key - log_sum) * (grad * v_pad[:, i : i + h, j : j + w] - grad_out)
        d_q = d_q + d_score * key
        d_offset.append((d_score * q).sum((0, 1, 2)))
    # Keys and values gather from the nine queries that read them, so that no two programs write the same place.
    q_pad, grad_pad, log_pad, grad_out_pad = _padded(q), _padded(grad), _padded(log_sum), _padded(grad_out)
    d_k = d_v = 0.0
    for (i, j), r in zip(OFFSETS, offset_term):
        reader = (slice(None), slice(2 - i, 2 - i + h), slice(2 - j, 2 - j + w))
        weight = torch.exp(q_pad[reader] * (k + r) - log_pad[reader])
        d_v = d_v + weight * grad_pad[reader]
        d_k = d_k + weight * (grad_pad[reader] * v - grad_out_pad[reader]) * q_pad[reader]
    return d_q.to(dtype), d_k.to(dtype), d_v.to(dtype), torch.stack(d_offset)


KERNELS = {"forward": _forward, "backward": _backward}


def use_kernels(compiled: bool) -> None:
    """Whether each of attention's two passes is fused into one kernel or left to plain operations, in this process.

    On a CPU this alone beats compiling the whole step, where the same code is fused with its neighbours and loses its
    vectors (benchmarks/against_released.py times the step).
    """
    for name, kernel in (("forward", _forward), ("backward", _backward)):
        KERNELS[name] = _in_single_precision(torch.compile(kernel, dynamic=False)) if compiled else kernel


def _in_single_precision(kernel: Callable[..., tuple[Tensor, ...]]) -> Callable[..., tuple[Tensor, ...]]:
    """A kernel fed float32: fed bfloat16, what Inductor makes of it for a CPU is several times slower."""

    def run(first: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        *maps, last = kernel(first.float(), *(t.float() for t in others))
        return *(t.to(first.dtype) for t in maps), last  # the last, log-sum or gradient of the term, is float32 anyway

    return run
