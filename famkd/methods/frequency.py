"""Other methods in the frequency domain, with a fixed wavelet: FreeKD on maps, FiGKD on logits."""

import math
from typing import Annotated, Literal, get_args

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from famkd.distill.types import Batch, Method, Probe, View
from famkd.errors import either
from famkd.methods.common import add_up, count_classes, match_size, pair, pair_maps, precise
from famkd.methods.logits import logits_of
from famkd.methods.maps import mse_loss

Bands = Literal["high", "low", "both"]
BANDS = get_args(Bands)


def haar2d(feat: Tensor) -> tuple[Tensor, Tensor]:
    """One orthonormal Haar level of (B, C, H, W): the low band (B, C, h, w) and the details (B, C, 3, h, w).

    h and w are halves of H and W, rounded up: an odd edge is repeated once, so that it adds no detail.
    """
    feat = F.pad(feat, (0, feat.shape[3] % 2, 0, feat.shape[2] % 2), mode="replicate")
    top, bottom = feat[..., 0::2, :], feat[..., 1::2, :]
    a, b = top[..., 0::2], top[..., 1::2]
    c, d = bottom[..., 0::2], bottom[..., 1::2]
    details = torch.stack([a + b - c - d, a - b + c - d, a - b - c + d], 2)
    return (a + b + c + d) / 2, details / 2


def haar1d(signal: Tensor) -> tuple[Tensor, Tensor]:
    """One orthonormal Haar level of (B, N): low and high band (B, ceil(N / 2)). An odd last value is repeated."""
    if signal.shape[1] % 2:
        signal = torch.cat([signal, signal[:, -1:]], 1)
    a, b = signal[:, 0::2], signal[:, 1::2]
    return (a + b) / math.sqrt(2), (a - b) / math.sqrt(2)


@precise
def detail_loss(student: Tensor, teacher: Tensor, levels: int = 3, mask: bool = True) -> Tensor:
    """Mean |difference| of the Haar details of two maps, summed over levels.

    Args:
        student, teacher: maps (B, C, H, W) of equal shape.
        levels: Haar levels; fewer are used if the map shrinks to one pixel.
        mask: a position counts in proportion to the teacher's detail there (mean weight 1 per sample).

    Source: Zhang et al., "FreeKD", CVPR 2024, with the teacher's detail energy in place of its prompts.
    """
    loss = student.new_zeros(())
    for _ in range(levels):
        if max(student.shape[2:]) == 1:
            break
        (student, s), (teacher, t) = haar2d(student), haar2d(teacher)
        gap = (s - t).abs()
        if mask:
            energy = t.abs().mean((1, 2), keepdim=True)
            gap = gap * energy / energy.mean((3, 4), keepdim=True).clamp_min(1e-12)
        loss = loss + gap.mean()
    return loss


@precise
def figkd_loss(student_logits: Tensor, teacher_logits: Tensor, levels: int = 1, keep: Bands = "high") -> Tensor:
    """Mean squared difference of the kept Haar bands of logits, summed over levels.

    Args:
        student_logits, teacher_logits: (B, classes).
        levels: Haar levels over the class axis.
        keep: "high" compares the details of each level, "low" the last low band, "both" all of them.

    Source: Kim, "FiGKD", arXiv 2505.11897; the wavelet and the levels are our choice.
    """
    if keep not in BANDS:
        raise ValueError(f"keep is {keep}, it must be {either(BANDS)}")
    student, teacher = student_logits, teacher_logits
    loss = student.new_zeros(())
    for _ in range(levels):
        (student, s), (teacher, t) = haar1d(student), haar1d(teacher)
        if keep != "low":
            loss = loss + F.mse_loss(s, t)
    return loss if keep == "high" else loss + F.mse_loss(student, teacher)


class FreeKD(Method):
    """Haar details of maps in the manner of FreeKD, without its prompts: Zhang et al., CVPR 2024.

    As in the public code: a 1x1 convolution to the teacher's channels, three Haar levels, L1 on the details only, and
    5 times the plain mean squared error added to it. Different: the published mask comes from prompts tuned beforehand
    inside the teacher; here it is the teacher's detail energy. Published for detectors, on feature pyramids. If sizes
    differ, the larger map is pooled.

    Args:
        levels: Haar levels, fewer on maps too small for them.
        map_weight: Weight of the plain mean squared error of the maps.
        mask: Weight positions by the teacher's detail energy.
    """

    wants = "stages"

    def __init__(
        self,
        probe: Probe,
        *,
        levels: Annotated[int, Ge(1)] = 3,
        map_weight: Annotated[float, Ge(0)] = 5.0,
        mask: bool = True,
    ):
        super().__init__()
        pairs = pair_maps(probe.student.feats, probe.teacher.feats)
        self.levels, self.map_weight, self.mask = levels, map_weight, mask
        self.connectors = nn.ModuleList(nn.Conv2d(s.shape[1], t.shape[1], 1) for s, t in pairs)

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        details, plain = [], []
        for convolution, feats in zip(self.connectors, pair(student.feats, teacher.feats)):
            s, t = match_size(*feats)
            s = convolution(s)
            details.append(detail_loss(s, t, self.levels, self.mask))
            plain.append(mse_loss(s, t))
        return {"details": add_up(details), "maps": self.map_weight * add_up(plain)}


class FiGKD(Method):
    """Details of the logits in a wavelet basis: Kim, "FiGKD", arXiv 2505.11897.

    From the paper's abstract: a discrete wavelet transform of the logits, of which only the details are transferred,
    because the labels already contain the low band. Our choice, since neither code nor equations were available: the
    Haar wavelet, one level, the mean squared error and the weight 1. The details depend on the order of the classes.

    Args:
        levels: Haar levels over the class axis.
        keep: Bands to compare: "high" as published; "low" and "both" for comparison.
        standardize: Z-score each sample's logits first (LSKD, CVPR 2024).
    """

    wants = "logits"

    def __init__(
        self,
        probe: Probe,
        *,
        levels: Annotated[int, Ge(1)] = 1,
        keep: Bands = "high",
        standardize: bool = False,
    ):
        super().__init__()
        count_classes(probe)
        self.levels, self.keep, self.standardize = levels, keep, standardize

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        s, t = logits_of(student, teacher, self.standardize)
        return {"figkd": figkd_loss(s, t, self.levels, self.keep)}
