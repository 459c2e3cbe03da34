"""Frequency attention from layer to layer: each student stage is filtered to match the teacher's stage."""

from dataclasses import asdict

import torch.nn.functional as F
from torch import Tensor, nn

from famkd.distill.types import Batch, Method, Probe, View
from famkd.layers.fourier import FAM, FilterOptions
from famkd.layers.fusion import resize
from famkd.methods.common import add_up, pair_maps


def leave_by_fam(c_in: int, target: Tensor, options: FilterOptions) -> nn.Sequential:
    """FAM and batch norm from `c_in` channels to the shape of a teacher map (B, C, H, W).

    A ReLU follows only where the teacher's map is never negative: other targets could not be reached through one.
    The released code always has it, and so has `init` official.
    """
    c_out, height, width = target.shape[1:]
    layers = nn.Sequential(FAM(c_in, c_out, (height, width), **asdict(options)), nn.BatchNorm2d(c_out))
    if options.init == "official" or target.min() >= 0:
        layers.append(nn.ReLU())
    return layers


class FAMLayers(Method):
    """Each stage goes through its own frequency attention module and is compared with the teacher's by MSE.

    Source: Pham et al., Frequency Attention for Knowledge Distillation, WACV 2024.
    """

    wants = "stages"
    warmup = 20

    def __init__(self, probe: Probe, *, filter: FilterOptions = FilterOptions()):
        super().__init__()
        self.stages = nn.ModuleList(
            leave_by_fam(own.shape[1], target, filter)
            for own, target in pair_maps(probe.student.feats, probe.teacher.feats)
        )

    def compared(self) -> list[nn.Module]:
        return list(self.stages)

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        pairs = pair_maps(student.feats, teacher.feats)
        losses = []
        for fam, (s, t) in zip(self.stages, pairs, strict=True):
            resized = resize(s, (t.shape[2], t.shape[3]))
            losses.append(F.mse_loss(fam(resized), t))
        return {"mse": add_up(losses)}
