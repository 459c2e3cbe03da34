"""Convolutions with a 3x3 kernel by Winograd's algorithm, in C++ (cpp/convolution.cpp), for float32 on a CPU.

They take a quarter of the products of the definition. Their largest error is about ten times as large, 1e-4 of the
standard deviation of the output at most.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from famkd.layers import native

PANEL = 16  # channels that lie together in memory, as in cpp/convolution.cpp
TILE = 4  # pixels of a side that are computed together
POINTS = 36  # of a tile


def fast_convolutions() -> AbstractContextManager:
    """A context in which every `conv2d` whose arguments these kernels take runs on them, if kernels are in use."""
    return _FastConvolutions() if native.in_use() else nullcontext()


class _FastConvolutions(TorchFunctionMode):
    """It finds the convolutions of any network, whose modules stay as they are."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.conv2d and not kwargs and takes(*args):
            return convolve(*args[:3])
        return func(*args, **kwargs)


def takes(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> bool:
    """Whether `convolve` computes what `conv2d` would with these arguments, and kernels are in use.

    Padding and stride are 1, the channels fill panels, and the maps are in float32 with channels last.
    """
    if weight.shape[2:] != (3, 3) or weight.shape[0] % PANEL or weight.shape[1] % PANEL:
        return False
    if any(each not in (1, (1, 1)) for each in (stride, padding, dilation)) or groups != 1:
        return False
    if x.ndim != 4 or min(x.shape[2:]) < TILE or not len(x) or not x.is_contiguous(memory_format=torch.channels_last):
        return False
    single = all(each is None or each.dtype == torch.float32 for each in (x, weight, bias))
    return single and not torch.is_autocast_enabled("cpu") and native.takes(x, weight)


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _apply(x, _at_points(weight), bias)

    @staticmethod
    @once_differentiable  # a second derivative would be lost without an error
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        needed = ctx.needs_input_grad
        d_x = _apply(grad, _at_points(weight.transpose(0, 1).flip(2, 3)), None) if needed[0] else None
        d_weight = _weight_gradient(x, grad) if needed[1] else None
        return d_x, d_weight, grad.sum((0, 2, 3)) if needed[2] else None


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`conv2d` with padding 1 of maps (B, C, H, W) with channels last and a weight (K, C, 3, 3)."""
    return _Convolve.apply(x, weight, bias)


def _apply(x: Tensor, points: Tensor, bias: Tensor | None) -> Tensor:
    b, c, h, w = x.shape
    k = points.numel() // (POINTS * c)
    added = torch.zeros(k) if bias is None else bias.contiguous()
    out = torch.empty(b, k, h, w, memory_format=torch.channels_last)
    native.call("convolve", (x, points, added, out), (b, h, w, c, k))
    return out


def _weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    (b, c, h, w), k = x.shape, grad.shape[1]
    points = torch.empty(POINTS, k * c)
    native.call("convolve_weight", (x, grad, points), (b, h, w, c, k))
    taps = _points_of_taps().T @ points
    return taps.view(3, 3, k // PANEL, c, PANEL).permute(2, 4, 3, 0, 1).flatten(0, 1)


def _at_points(weight: Tensor) -> Tensor:
    """A weight (K, C, 3, 3) at the 36 points, as the kernels read it: (36, K / 16, C, 16)."""
    k, c, *_ = weight.shape
    taps = weight.detach().unflatten(0, (k // PANEL, PANEL)).permute(3, 4, 0, 2, 1).reshape(9, k * c)
    return _points_of_taps() @ taps


@cache
def _points_of_taps() -> Tensor:
    """The matrix (36, 9) from the taps of a kernel to its points."""
    side = torch.tensor([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]).double() / 24
    return torch.kron(side, side).float()
