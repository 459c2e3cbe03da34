"""Frequency attention from layer to layer: every student stage is filtered towards the teacher's stage."""

from typing import Annotated

import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from famkd.distill.types import Batch, Method, Probe, View
from famkd.layers.fourier import FAM, Branch, FilterKind, Init
from famkd.layers.fusion import resize
from famkd.layers.highpass import HighPass
from famkd.methods.common import pair_maps


def leave_by_fam(c_in: int, target: Tensor, **options) -> nn.Module:
    """FAM and batch norm from `c_in` channels to the shape of a teacher map, rectified only where the teacher is.

    The released code rectifies always, and so does `init` official.
    """
    layers = [FAM(c_in, target.shape[1], tuple(target.shape[-2:]), **options), nn.BatchNorm2d(target.shape[1])]
    rectified = options.get("init") == "official" or target.min() >= 0
    return nn.Sequential(*layers, *([nn.ReLU()] if rectified else []))


class FAMLayers(Method):
    """Each stage through a frequency attention module of its own, compared with the teacher's stage by MSE.

    Source: Pham et al., Frequency Attention for Knowledge Distillation, WACV 2024.

    Args:
        branch: what FAM adds up: the global filter, the local 1x1 convolution, or both.
        highpass: which low frequencies the global filter drops: ideal, butterworth or gaussian (centred, at least the
            mean), none, or official (the released code's window, empty below 20 px).
        cutoff: radius of the high-pass as a fraction of the Nyquist frequency.
        order: steepness of the butterworth high-pass.
        init: how the global filter starts: zero (all that is seen later was learned), balanced (noise as strong as the
            local branch) or official (the released code's draw); with branch global, zero means balanced.
        filter: dense (every channel pair, every frequency), separable, or lowrank.
        rank: channels inside a lowrank filter.
        grid: largest side of a filter; a larger map is filtered in its lowest grid x grid frequencies. 0: no limit.
    """

    wants = "stages"
    warmup = 20

    def __init__(
        self,
        probe: Probe,
        *,
        branch: Branch = "both",
        highpass: HighPass = "ideal",
        cutoff: Annotated[float, Ge(0)] = 0.1,
        order: Annotated[int, Ge(1)] = 2,
        init: Init = "zero",
        filter: FilterKind = "dense",
        rank: Annotated[int, Ge(1)] = 16,
        grid: Annotated[int, Ge(0)] = 0,
    ):
        super().__init__()
        options = {"highpass": highpass, "cutoff": cutoff, "order": order, "init": init, "filter": filter, "rank": rank}
        self.stages = nn.ModuleList(
            leave_by_fam(own.shape[1], target, branch=branch, grid=grid, **options)
            for own, target in pair_maps(probe.student.feats, probe.teacher.feats)
        )

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        pairs = pair_maps(student.feats, teacher.feats)
        losses = [F.mse_loss(fam(resize(s, t.shape[-2:])), t) for fam, (s, t) in zip(self.stages, pairs, strict=True)]
        return {"mse": sum(losses)}
