"""The units of a teacher's feature maps."""

import torch
from torch import Tensor, nn


class Units(nn.Module):
    """Standardised maps in the units of a teacher's maps (B, C, H, W), which have a mean and a deviation per channel.

    Both are measured once, as the teacher does not change. Channels that hardly vary count as if they had a hundredth
    of the mean variance, so that their noise is not made large.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, target: Tensor):
        super().__init__()
        variance, mean = torch.var_mean(target.float(), (0, 2, 3), correction=0, keepdim=True)
        floor = variance.mean() / 100
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", variance.clamp_min(floor).sqrt() if floor > 0 else torch.ones_like(mean))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.deviation + self.mean
