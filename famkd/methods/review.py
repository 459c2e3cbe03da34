"""Knowledge review: a walk from the deepest stage to the shallowest that fuses as it goes.

ReviewKD and FAM-review are the same walk with three knobs: how a level fuses, how it leaves, how it is compared.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from famkd.distill.types import Batch, Method, Probe, View
from famkd.layers.fourier import FilterOptions
from famkd.layers.fusion import CrossAttention, Gate, resize
from famkd.methods.common import pair_maps
from famkd.methods.fam import leave_by_fam

MOST_CHANNELS = 512  # of a fused feature


class Level(nn.Module):
    """One step of the review: a student stage fused with what comes from below, then sent to the teacher's shape.

    `enter` brings the stage, `bring` the deeper feature to the level's channels; `fuse` is None at the deepest level.
    """

    def __init__(self, enter: nn.Module, bring: nn.Module | None, fuse: nn.Module | None, leave: nn.Module):
        super().__init__()
        self.enter, self.bring, self.fuse, self.leave = enter, bring, fuse, leave

    def forward(self, stage: Tensor, deeper: Tensor | None, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        fused = self.enter(stage)
        if self.fuse is not None:
            fused = self.fuse(fused, resize(self.bring(deeper), fused.shape[-2:]))
        fused = resize(fused, size)
        return self.leave(fused), fused


class Review(Method):
    """The walk itself; a subclass fills `levels`, shallow to deep, and says how to compare."""

    wants = "stages+embed"
    warmup = 20
    levels: nn.ModuleList

    def compare(self, own: Tensor, target: Tensor) -> Tensor:
        """How far a level's output is from the teacher's map, both (B, C, H, W)."""
        raise NotImplementedError

    def compared(self) -> list[nn.Module]:
        return [level.leave for level in self.levels]

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        deeper, total = None, 0.0
        pairs = pair_maps(maps(student), maps(teacher))
        for level, (stage, target) in zip(reversed(self.levels), reversed(pairs), strict=True):
            own, deeper = level(stage, deeper, target.shape[-2:])
            total = total + self.compare(own, target)
        return {"review": total}


class ReviewKD(Review):
    """Knowledge review with a sigmoid gate, 3x3 convolutions and a pyramid of pooled MSEs.

    The student's stages are led to the teacher's before their activation, as published.
    Source: Chen et al., Distilling Knowledge via Knowledge Review, CVPR 2021.
    """

    teacher_wants = "preact+embed"

    def __init__(self, probe: Probe):
        super().__init__()
        pairs = pair_maps(maps(probe.student), maps(probe.teacher))
        width = min(MOST_CHANNELS, pairs[-1][0].shape[1])
        self.levels = nn.ModuleList()
        for depth, (stage, target) in enumerate(pairs):
            deepest = depth == len(pairs) - 1
            enter, leave = _conv_bn(stage.shape[1], width, 1), _conv_bn(width, target.shape[1], 3)
            self.levels.append(Level(enter, nn.Identity(), None if deepest else Gate(width), leave))

    def compare(self, own: Tensor, target: Tensor) -> Tensor:
        return hierarchical_mse(own, target)


class FAMReview(Review):
    """Knowledge review with cross attention for fusion and frequency attention on the way to the teacher.

    Source: Pham et al., Frequency Attention for Knowledge Distillation, WACV 2024.

    Args:
        fuse: how a stage meets the deeper feature: cross (local 3x3 cross attention) or sigmoid (ReviewKD's gate).
    """

    def __init__(
        self,
        probe: Probe,
        *,
        fuse: Literal["cross", "sigmoid"] = "cross",
        filter: FilterOptions = FilterOptions(),
    ):
        super().__init__()
        fusion = {"cross": CrossAttention, "sigmoid": Gate}[fuse]
        self.levels, below = nn.ModuleList(), None
        for stage, target in reversed(pair_maps(maps(probe.student), maps(probe.teacher))):
            width = min(MOST_CHANNELS, stage.shape[1])
            leave = leave_by_fam(width, target, filter)
            bring = None if below is None else _same_or_conv(below, width)
            self.levels.insert(0, Level(_same_or_conv(stage.shape[1], width), bring, bring and fusion(width), leave))
            below = width

    def compare(self, own: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(own, target)


def hierarchical_mse(own: Tensor, target: Tensor, sides: tuple[int, ...] = (4, 2, 1)) -> Tensor:
    """MSE of (B, C, H, W) maps and of their averages over 4x4, 2x2 and 1x1 cells, each half the weight of the last."""
    loss, weight, total = F.mse_loss(own, target), 1.0, 1.0
    for side in sides:
        if side >= own.shape[-2]:
            continue
        weight /= 2
        total += weight
        pooled = (F.adaptive_avg_pool2d(t, side) for t in (own, target))
        loss = loss + weight * F.mse_loss(*pooled)
    return loss / total


def maps(view: View) -> list[Tensor]:
    """All features as maps: an embedding (B, C) is a map of one pixel."""
    return [feat[..., None, None] if feat.ndim == 2 else feat for feat in view.feats]


def _conv_bn(c_in: int, c_out: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out))


def _same_or_conv(c_in: int, c_out: int) -> nn.Module:
    return nn.Identity() if c_in == c_out else nn.Sequential(*_conv_bn(c_in, c_out, 1), nn.ReLU())
