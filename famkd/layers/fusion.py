"""Fuse a stage with the deeper, already fused feature: by local cross attention, or by ReviewKD's sigmoid gate."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from famkd.layers import native

OFFSETS = [(row, col) for row in range(3) for col in range(3)]

Kernel = Callable[..., tuple[Tensor, ...]]


class Gate(nn.Module):
    """Attention-based fusion: two sigmoid maps weight the stage and the deeper feature, resized to (B, C, H, W).

    Source: Chen et al., Distilling Knowledge via Knowledge Review, CVPR 2021.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, 2, 1)

    def forward(self, stage: Tensor, deeper: Tensor) -> Tensor:
        deeper = resize(deeper, (stage.shape[2], stage.shape[3]))
        own, review = self.conv(torch.cat((stage, deeper), 1)).sigmoid().split(1, 1)
        return stage * own + deeper * review


class CrossAttention(nn.Module):
    """Each pixel of the deeper feature attends to the stage's 3x3 neighbourhood, channel by channel, (B, C, H, W).

    A deeper feature of another size is resized to the stage's. The query comes from the deeper feature, key and value
    from the stage, all by 1x1 convolutions without bias. A learned term is added to the key: per row offset in the
    first half of the channels, per column offset in the second. There is no dot product over a head: every channel has
    its own softmax over the nine offsets.
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
        by_row, by_column = self.row_term.repeat_interleave(3, 0), self.column_term.repeat(3, 1)
        offset_term = torch.cat((by_row, by_column), 1)  # (9, C)
        size = (stage.shape[2], stage.shape[3])
        if native.takes(stage, deeper):
            if not _divides(deeper, size):
                deeper = resize(deeper, size)
            # A 1x1 convolution of repeated pixels is the repeated convolution of each
            pairs = F.conv2d(stage, torch.cat((self.key.weight, self.value.weight)))
            return native.attend(self.query(deeper), pairs, offset_term)
        query = self.query(resize(deeper, size)).permute(0, 2, 3, 1)
        key = self.key(stage).permute(0, 2, 3, 1)
        value = self.value(stage).permute(0, 2, 3, 1)
        return attend(query, key, value, offset_term).permute(0, 3, 1, 2)


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a map (B, C, H, W): nearest neighbour to a larger size, averages to a smaller one (no aliasing).

    Enlarging by whole factors repeats pixels. The gradient of that is a sum in a fixed order, while the gradient of
    `interpolate` on a GPU adds in any order.
    """
    b, c, h, w = x.shape
    high, wide = size
    if (h, w) == (high, wide):
        return x
    if _divides(x, size):
        repeated = x.permute(0, 2, 3, 1)[:, :, None, :, None].expand(b, h, high // h, w, wide // w, c)
        return repeated.reshape(b, high, wide, c).permute(0, 3, 1, 2)
    if high >= h and wide >= w:
        return F.interpolate(x, (high, wide), mode="nearest")
    return F.adaptive_avg_pool2d(x, (high, wide))


def _divides(x: Tensor, size: tuple[int, int]) -> bool:
    """Whether repeating the pixels of a map gives a map of a size."""
    return size[0] % x.shape[2] == 0 and size[1] % x.shape[3] == 0


def attend(q: Tensor, k: Tensor, v: Tensor, offset_term: Tensor) -> Tensor:
    """Channelwise softmax over nine neighbours: out(p) = sum_d softmax_d(q(p) (k(p+d) + r_d)) v(p+d).

    q, k, v are (B, H, W, C), offset_term r is (9, C). Keys and values outside of the map are zero.
    """
    return _Attend.apply(q.contiguous(), k.contiguous(), v.contiguous(), offset_term)


class _Attend(torch.autograd.Function):
    """Nine shifted reads. The backward pass computes the weights again, so that nine maps never have to be stored."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, offset_term: Tensor) -> Tensor:
        out, log_sum = KERNELS["forward"](q, k, v, offset_term)
        ctx.save_for_backward(q, k, v, offset_term, out, log_sum)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return KERNELS["backward"](grad.contiguous(), *ctx.saved_tensors)


def _padded(t: Tensor) -> Tensor:
    return F.pad(t.float(), (0, 0, 1, 1, 1, 1))


def _forward(q: Tensor, k: Tensor, v: Tensor, offset_term: Tensor) -> tuple[Tensor, Tensor]:
    """The output, and the log of the sum of exponentials of each softmax."""
    _, h, w, _ = q.shape
    dtype = q.dtype
    q, k, v, offset_term = q.float(), _padded(k), _padded(v), offset_term.float()
    scores = [q * (k[:, i : i + h, j : j + w] + r) for (i, j), r in zip(OFFSETS, offset_term)]
    peak = scores[0]
    for score in scores[1:]:
        peak = torch.maximum(peak, score)
    total: Any = 0.0
    out: Any = 0.0
    for (i, j), score in zip(OFFSETS, scores):
        weight = torch.exp(score - peak)
        total = total + weight
        out = out + weight * v[:, i : i + h, j : j + w]
    out = out / total
    # torch 2.11 compiles a Function to wrong gradients if it ends in an `out.to(dtype)` that changes nothing
    return out if dtype == out.dtype else out.to(dtype), peak + torch.log(total)


def _backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, offset_term: Tensor, out: Tensor, log_sum: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v and the offset term."""
    _, h, w, _ = q.shape
    dtype = q.dtype
    q, k, v, grad, offset_term = q.float(), k.float(), v.float(), grad.float(), offset_term.float()
    grad_out = grad * out
    k_pad, v_pad = _padded(k), _padded(v)
    d_q: Any = 0.0
    d_offset = []
    for (i, j), r in zip(OFFSETS, offset_term):
        key = k_pad[:, i : i + h, j : j + w] + r
        d_score = torch.exp(q * key - log_sum) * (grad * v_pad[:, i : i + h, j : j + w] - grad_out)
        d_q = d_q + d_score * key
        d_offset.append((d_score * q).sum((0, 1, 2)))
    # Keys and values gather from the nine queries that read them, so that no two threads write to the same place.
    q_pad, grad_pad, log_pad, grad_out_pad = _padded(q), _padded(grad), _padded(log_sum), _padded(grad_out)
    d_k: Any = 0.0
    d_v: Any = 0.0
    for (i, j), r in zip(OFFSETS, offset_term):
        reader = (slice(None), slice(2 - i, 2 - i + h), slice(2 - j, 2 - j + w))
        weight = torch.exp(q_pad[reader] * (k + r) - log_pad[reader])
        d_v = d_v + weight * grad_pad[reader]
        d_k = d_k + weight * (grad_pad[reader] * v - grad_out_pad[reader]) * q_pad[reader]
    return d_q.to(dtype), d_k.to(dtype), d_v.to(dtype), torch.stack(d_offset)


KERNELS: dict[str, Kernel] = {"forward": _forward, "backward": _backward}


def use_kernels(compiled: bool) -> None:
    """Choose for this process whether frequency attention and cross attention use compiled kernels on a CPU.

    Where the kernels in C++ (`native`) cannot be compiled, the two passes of cross attention are compiled by Inductor.
    On a CPU this is faster than compiling the whole step, where Inductor fuses the same code with its neighbours and
    no longer vectorises it (benchmarks/against_released.py times the step).
    """
    native.use(compiled)
    kernels: dict[str, Kernel] = {"forward": _forward, "backward": _backward}
    for name, kernel in kernels.items():
        KERNELS[name] = _in_single_precision(torch.compile(kernel, dynamic=False)) if compiled else kernel


def _in_single_precision(kernel: Kernel) -> Kernel:
    """Give a kernel float32 inputs: Inductor's CPU code for bfloat16 is several times slower."""

    def run(first: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        *maps, last = kernel(first.float(), *(t.float() for t in others))
        return *(t.to(first.dtype) for t in maps), last  # log_sum, or the gradient of the term, stays float32

    return run
