"""What a run keeps of a filter for one epoch, so that its forming can be looked at later."""

import torch
from torch import Tensor

from famkd.layers.highpass import self_conjugate_columns


def summarised(response: Tensor, width: int, room: int) -> dict[str, Tensor]:
    """RMS amplitude per frequency, energy per channel pair, and the strongest pairs of channels.

    `pairs` (N, 2) has output and input channels, the strongest first, and `strongest` (N, 2, H, W // 2 + 1) the real
    and imaginary parts of their responses.

    Args:
        response: complex half spectrum (C_out, C_in, H, W // 2 + 1) of a filter of this width.
        room: bytes for `strongest`, with two bytes for each number.
    """
    power = response.abs().square()
    count = torch.full_like(power[0, 0], 2.0)  # an interior column stands for both signs of its frequency
    count[:, self_conjugate_columns(width)] = 1
    energy = (power * count).sum((2, 3)) / count.sum()
    most = min(energy.numel(), room // (4 * count.numel()))
    kept = energy.flatten().argsort(descending=True, stable=True)[:most]
    strongest = torch.view_as_real(response.flatten(0, 1)[kept]).permute(0, 3, 1, 2)
    pairs = torch.stack((kept // energy.shape[1], kept % energy.shape[1]), 1)
    return {
        "amplitude": power.mean((0, 1)).sqrt(),
        "energy": energy,
        "pairs": pairs.int(),
        "strongest": strongest,
    }
