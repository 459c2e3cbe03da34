"""What many methods share: pairing and fitting taps, float32 losses, the 1x1 connector."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from famkd.distill.types import Probe

T = TypeVar("T")


def precise(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Compute a loss in float32 even under autocast: Gram matrices and means of squares do not survive bfloat16.

    On a GPU products may still round what they read to TF32, ten bits of it.
    """

    @wraps(loss)
    def in_float32(first: Tensor, *rest, **options) -> Tensor:
        with torch.autocast(first.device.type, enabled=False):
            return loss(_lift(first), *map(_lift, rest), **options)

    return in_float32


def _lift(value):
    half = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if half else value


def pair(student: Sequence[T], teacher: Sequence[T]) -> list[tuple[T, T]]:
    """Pair the taps of two networks from the deepest backwards, returned shallow to deep.

    Where one network has more taps, its shallowest ones stay unpaired (as in OFD's public code).
    Raises ValueError if either has none.
    """
    if not student or not teacher:
        raise ValueError(
            f"this method compares feature taps, but the student has {len(student)} and the teacher {len(teacher)}: "
            "name at least one tap for each network"
        )
    n = min(len(student), len(teacher))
    return list(zip(student[-n:], teacher[-n:]))


def pair_maps(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """`pair`, for taps that must be maps (B, C, H, W); raises ValueError naming the shape that is not one."""
    pairs = pair(student, teacher)
    for feat in (feat for both in pairs for feat in both):
        if feat.dim() != 4:
            raise ValueError(
                f"this method needs maps (batch, channels, height, width), but a tap has shape {tuple(feat.shape)}: "
                "tap a convolutional module instead"
            )
    return pairs


def match_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pool two maps (B, C, H, W) to the smaller height and the smaller width of the two."""
    size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    return fit(student, size), fit(teacher, size)


def fit(feat: Tensor, size: tuple[int, int]) -> Tensor:
    """Average-pool a map to (height, width), or hand it back as it is where it has that size."""
    return feat if tuple(feat.shape[2:]) == tuple(size) else F.adaptive_avg_pool2d(feat, size)


def several_classes(probe: Probe) -> None:
    """Raise ValueError unless there are classes other than the true one to compare."""
    logits = probe.student.logits
    if logits is not None and logits.shape[1] < 2:
        raise ValueError("it compares the other classes than the true one, and there are none: take kd")


def flat(embed: Tensor) -> Tensor:
    """An embedding (B, C) from (B, C) or from (B, C, H, W), whose positions are averaged."""
    if embed.dim() == 4:
        return embed.mean((2, 3))
    if embed.dim() != 2:
        raise ValueError(
            f"an embedding must be (batch, channels) or (batch, channels, height, width), not {tuple(embed.shape)}: "
            "tap the module that feeds the classifier"
        )
    return embed


def connector(student: Tensor, teacher: Tensor, relu: bool = False) -> nn.Sequential:
    """1x1 convolution and batch norm from the student's channels to the teacher's, with OFD's normal initialisation.

    In training its batch norm needs more than one value per channel: not a single image with a 1x1 map.
    """
    conv = nn.Conv2d(student.shape[1], teacher.shape[1], 1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    return nn.Sequential(conv, nn.BatchNorm2d(teacher.shape[1]), *([nn.ReLU()] if relu else []))
