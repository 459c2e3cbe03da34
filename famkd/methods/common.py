"""Helpers of several methods: pairing and fitting taps, losses in float32, the 1x1 connector."""

from collections.abc import Callable, Iterable, Sequence
from functools import reduce, wraps
from typing import Annotated, Any, TypeVar

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from famkd.distill.types import Probe
from famkd.layers import native
from famkd.layers.highpass import self_conjugate_columns

T = TypeVar("T")
LevelWeights = tuple[Annotated[float, Ge(0)], ...]


def precise(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Compute a loss in float32 even under autocast: bfloat16 is too coarse for Gram matrices and means of squares.

    Matrix products on a GPU may still round their inputs to TF32, which has a mantissa of ten bits.
    """

    @wraps(loss)
    def in_float32(first: Tensor, *rest: Any, **options: Any) -> Tensor:
        with torch.autocast(first.device.type, enabled=False):
            return loss(_lift(first), *map(_lift, rest), **options)

    return in_float32


def _lift(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16):
        return value.float()
    return value


def for_levels(weights: Sequence[float], levels: int) -> tuple[float, ...]:
    """The weights of some levels' losses; ValueError unless there are none or one for each level."""
    if weights and len(weights) != levels:
        raise ValueError(f"level_weights has {len(weights)} numbers, and there are {levels} levels")
    if weights and not any(weights):
        raise ValueError("all level_weights are 0, so that nothing would be learned")
    return tuple(weights)


def weigh(losses: Sequence[Tensor], weights: Sequence[float]) -> list[Tensor]:
    """Losses times their weights; the losses themselves where there are no weights."""
    return [weight * loss for weight, loss in zip(weights, losses)] if weights else list(losses)


def add_up(losses: Iterable[Tensor]) -> Tensor:
    """Sum of several losses, in their order."""
    return reduce(torch.add, losses)


def pair(student: Sequence[T], teacher: Sequence[T]) -> list[tuple[T, T]]:
    """Pair the taps of two networks from the deepest backwards. The pairs are returned shallow to deep.

    If one network has more taps, its shallowest ones stay unpaired (as in OFD's public code).

    Errors: ValueError if either has none.
    """
    if not student or not teacher:
        raise ValueError(
            f"this method compares feature taps, but the student has {len(student)} and the teacher {len(teacher)}: "
            "name at least one tap for each network"
        )
    n = min(len(student), len(teacher))
    return list(zip(student[-n:], teacher[-n:]))


def pair_maps(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """`pair` for taps that must be maps (B, C, H, W). Raises ValueError with the shape of one that is not."""
    pairs = pair(student, teacher)
    for feats in pairs:
        for feat in feats:
            if feat.dim() != 4:
                raise ValueError(
                    f"this method needs maps (batch, channels, height, width), but a tap has shape "
                    f"{tuple(feat.shape)}: tap a convolutional module instead"
                )
    return pairs


def match_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pool two maps (B, C, H, W) to the smaller height and the smaller width of the two."""
    size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    return fit(student, size), fit(teacher, size)


def map_error(own: Tensor, target: Tensor, phase_weight: float = 1.0) -> Tensor:
    """Mean squared difference of two maps (B, C, H, W), of which the second is constant.

    It is the error of their amplitude spectra and an error of their phases. The latter is multiplied by `phase_weight`.
    """
    error = native.squared_error(own, target) if native.takes(own, target) else F.mse_loss(own, target)
    if phase_weight == 1:
        return error
    return phase_weight * error + (1 - phase_weight) * amplitude_error(own, target)


@precise
def amplitude_error(own: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of the amplitude spectra of two maps (B, C, H, W), orthonormal, over the full plane.

    It is the smallest mean squared difference of two maps with these amplitudes, whatever their phases are.
    """
    squares = (_amplitudes(own) - _amplitudes(target)).square()
    total = 2 * squares.sum()  # a half spectrum: most of its columns stand for two
    for column in self_conjugate_columns(own.shape[3]):
        total = total - squares[..., column].sum()
    return total / own.numel()


def _amplitudes(maps: Tensor) -> Tensor:
    """Amplitudes of a half spectrum. At 0, where the square root has no gradient, the gradient is 0."""
    parts = torch.view_as_real(torch.fft.rfft2(maps, norm="ortho"))
    return parts.square().sum(-1).clamp_min(1e-20).sqrt()


def fit(feat: Tensor, size: tuple[int, int]) -> Tensor:
    """Average-pool a map to (height, width). A map of that size is returned unchanged."""
    return feat if tuple(feat.shape[2:]) == tuple(size) else F.adaptive_avg_pool2d(feat, size)


def count_classes(probe: Probe) -> int:
    """The number of classes; ValueError if there is one, as losses that compare classes have no gradient then."""
    classes = 0 if probe.student.logits is None else probe.student.logits.shape[1]
    if classes == 1:
        raise ValueError("it compares classes, and there is only one: use a method that compares features")
    return classes


def must_have_images(probe: Probe, least: int = 2) -> None:
    """Raise ValueError unless a step has `least` images to compare: with fewer, the losses have no gradient."""
    images = len(probe.student.feats[-1])
    if images < least:
        raise ValueError(
            f"it compares the images of a step with one another, which needs {least}, and a step has {images}: pass a "
            "larger --data.batch_size"
        )


def flat(embed: Tensor) -> Tensor:
    """An embedding (B, C) from (B, C), or from a map (B, C, H, W) by averaging its positions."""
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

    In training the batch norm needs more than one value per channel, which a single image with a 1x1 map lacks.
    """
    channels = teacher.shape[1]
    conv = nn.Conv2d(student.shape[1], channels, 1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    layers = nn.Sequential(conv, nn.BatchNorm2d(channels))
    if relu:
        layers.append(nn.ReLU())
    return layers
