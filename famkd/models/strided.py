"""1x1 convolutions with a stride of few channels: a kernel of torch's oneDNN writes beyond their gradient."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PANEL = 16  # channels that the kernel writes at once; it is wrong where there are fewer
SAFE = 32 * 32  # pixels of a map up to which no crash was seen; from about 2,100 on the process is killed


def skip_pixels_first(model: nn.Module) -> None:
    """Let strided 1x1 convolutions of fewer than 16 channels take their pixels first, where maps are large.

    For models on a CPU. The result is the same but for rounding. Torch 2.15 is killed by a segmentation fault in their
    backward pass, on a CPU with AVX-512 and with channels last.
    """
    for module in model.modules():
        if type(module) is nn.Conv2d and _overruns(module):
            # an attribute of the module, so that its type, its path and its weights stay as they are
            module._conv_forward = partial(_convolve, stride=module.stride)  # pyright: ignore[reportAttributeAccessIssue]


def _overruns(conv: nn.Conv2d) -> bool:
    plain = conv.kernel_size == (1, 1) and conv.padding in (0, (0, 0)) and conv.groups == 1
    return plain and conv.stride != (1, 1) and conv.in_channels < PANEL


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, ...]) -> Tensor:
    # an exported graph is not trained, and must not ask for the size of its images
    if x.requires_grad and not torch.compiler.is_exporting() and x.shape[-2] * x.shape[-1] > SAFE:
        return F.conv2d(x[..., :: stride[0], :: stride[1]], weight, bias)
    return F.conv2d(x, weight, bias, (stride[0], stride[1]))
