"""Knowledge review: from the deepest stage to the shallowest, each stage is fused with what was fused before.

ReviewKD and FAM-review differ in three things: how a level is fused, how it is mapped to the teacher's shape and how it
is compared.
"""

from typing import Annotated, Literal

import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from famkd.distill.types import Batch, Method, Probe, View
from famkd.layers.fourier import FilterOptions
from famkd.layers.fusion import CrossAttention, Gate, resize
from famkd.methods.common import LevelWeights, add_up, for_levels, map_error, pair_maps, weigh
from famkd.methods.fam import FilterLevels, filter_options_of_levels, filters_in, idle_filter_options, leave_by_fam

MOST_CHANNELS = 512  # of a fused feature


class Level(nn.Module):
    """One step of the review: a student stage is fused with the deeper feature and mapped to the teacher's shape.

    Args:
        enter: maps the stage to the level's channels.
        bring: maps the deeper feature to the level's channels.
        fuse: fuses the two; None at the deepest level, where there is no deeper feature.
        leave: maps the fused feature to the teacher's channels.
    """

    def __init__(self, enter: nn.Module, bring: nn.Module, fuse: nn.Module | None, leave: nn.Module):
        super().__init__()
        self.enter, self.bring, self.fuse, self.leave = enter, bring, fuse, leave

    def forward(self, stage: Tensor, deeper: Tensor | None, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The feature to compare with the teacher's map of a size, and the fused feature for the next level."""
        fused = self.enter(stage)
        if self.fuse is not None and deeper is not None:
            fused = self.fuse(fused, self.bring(deeper))
        fused = resize(fused, size)
        return self.leave(fused), fused


class Review(Method):
    """The loop over levels. A subclass fills `levels`, shallow to deep, and defines `compare`."""

    wants = "stages+embed"
    warmup = 20
    levels: nn.ModuleList
    level_weights: tuple[float, ...] = ()

    def compare(self, own: Tensor, target: Tensor) -> Tensor:
        """How far a level's output is from the teacher's map, both (B, C, H, W)."""
        raise NotImplementedError

    def compared(self) -> list[nn.Module]:
        return [level.get_submodule("leave") for level in self.levels]

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        deeper = None
        losses = []
        pairs = pair_maps(maps(student), maps(teacher))
        for level, (stage, target) in zip(reversed(self.levels), reversed(pairs), strict=True):
            own, deeper = level(stage, deeper, (target.shape[2], target.shape[3]))
            losses.append(self.compare(own, target))
        return {"review": add_up(weigh(losses[::-1], self.level_weights)[::-1])}


class ReviewKD(Review):
    """Knowledge review with a sigmoid gate, 3x3 convolutions and MSEs of maps pooled to several sizes.

    As published, the targets are the teacher's stages before their activation.
    Source: Chen et al., Distilling Knowledge via Knowledge Review, CVPR 2021.
    """

    teacher_wants = "preact+embed"

    def __init__(self, probe: Probe):
        super().__init__()
        pairs = pair_maps(maps(probe.student), maps(probe.teacher))
        width = min(MOST_CHANNELS, pairs[-1][0].shape[1])
        self.levels = nn.ModuleList()
        for depth, (stage, target) in enumerate(pairs):
            is_deepest = depth == len(pairs) - 1
            enter = _conv_bn(stage.shape[1], width, 1)
            leave = _conv_bn(width, target.shape[1], 3)
            fuse = None if is_deepest else Gate(width)
            self.levels.append(Level(enter, nn.Identity(), fuse, leave))

    def compare(self, own: Tensor, target: Tensor) -> Tensor:
        return hierarchical_mse(own, target)


class FAMReview(Review):
    """Knowledge review with cross attention for fusion and frequency attention before the comparison.

    Source: Pham et al., Frequency Attention for Knowledge Distillation, WACV 2024.

    Args:
        fuse: how a stage is fused with the deeper feature: cross (local 3x3 cross attention) or sigmoid (ReviewKD's
            gate).
        level_weights: weight of each level's loss, shallow to deep, the embedding last; by default all are 1.
        filter_levels: numbers of the levels that have a frequency filter, 1 is the shallowest; the others have the
            local branch only. By default all have one.
        phase_weight: weight of the phases in the comparison of two maps. The MSE is an error of the amplitude spectra
            and an error of the phases: 1 is the MSE, 0 compares the amplitudes only, whatever the positions are.
    """

    def __init__(
        self,
        probe: Probe,
        *,
        fuse: Literal["cross", "sigmoid"] = "cross",
        level_weights: LevelWeights = (),
        filter_levels: FilterLevels = (),
        phase_weight: Annotated[float, Ge(0)] = 1.0,
        filter: FilterOptions = FilterOptions(),
    ):
        super().__init__()
        self.options, self.filter_levels, self.phase_weight = filter, filter_levels, phase_weight
        pairs = pair_maps(maps(probe.student), maps(probe.teacher))
        options = filter_options_of_levels(filter, filter_levels, len(pairs))
        fusion = {"cross": CrossAttention, "sigmoid": Gate}[fuse]
        self.levels = nn.ModuleList()
        below = 0  # channels of the deeper level; 0 for none
        for (stage, target), own_options in zip(reversed(pairs), reversed(options)):
            width = min(MOST_CHANNELS, stage.shape[1])
            leave = leave_by_fam(width, target, own_options)
            bring = _same_or_conv(below, width) if below else nn.Identity()
            enter = _same_or_conv(stage.shape[1], width)
            level = Level(enter, bring, fusion(width) if below else None, leave)
            self.levels.insert(0, level)
            below = width
        self.level_weights = for_levels(level_weights, len(self.levels))

    def compare(self, own: Tensor, target: Tensor) -> Tensor:
        return map_error(own, target, self.phase_weight)

    def idle_options(self) -> dict[str, str]:
        return idle_filter_options(self.options, filters_in(self), self.filter_levels)


def hierarchical_mse(own: Tensor, target: Tensor, sides: tuple[int, ...] = (4, 2, 1)) -> Tensor:
    """Mean squared difference of two maps, and of both pooled to 4x4, 2x2 and 1x1, each with half the weight before it.

    Args:
        own, target: (B, C, H, W) of equal shape: the student's, mapped to the teacher's channels, and the teacher's.
        sides: of the pooled maps; those that are not smaller than the map are left out.

    Source: Chen et al., "Distilling Knowledge via Knowledge Review", CVPR 2021.
    """
    loss, weight, total = F.mse_loss(own, target), 1.0, 1.0
    for side in sides:
        if side >= own.shape[-2]:
            continue
        weight /= 2
        total += weight
        pooled_own, pooled_target = F.adaptive_avg_pool2d(own, side), F.adaptive_avg_pool2d(target, side)
        loss = loss + weight * F.mse_loss(pooled_own, pooled_target)
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
