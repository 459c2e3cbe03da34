"""The full-plane filter of the released code on our half spectrum: its initial values, gradients and checkpoints."""

import torch
from torch import Tensor

from famkd.layers.highpass import HighPass, mirrored, open_plane, self_conjugate_columns


def official_draw(c_in: int, c_out: int, size: tuple[int, int], kind: HighPass, cutoff: float) -> Tensor:
    """Initial filter of the released code, uniform in [0, 1) / (C_in C_out) on the full plane, as a half spectrum."""
    w = size[1]
    full = torch.rand(c_in, c_out, *size, dtype=torch.cfloat).transpose(0, 1) / (c_in * c_out)
    return fold_full_plane(full, kind, cutoff)[..., : w // 2 + 1]


def fold_full_plane(full: Tensor, kind: HighPass = "official", cutoff: float = 0.1) -> Tensor:
    """The half-spectrum weight with the same effect as a raw full-plane filter (..., H, W) of the released code."""
    h, w = full.shape[-2:]
    open_here = open_plane((h, w), kind, cutoff)
    open_mirror = mirrored(open_here)
    total = (open_here + open_mirror).clamp_min(1)
    folded = (open_here * full + open_mirror * mirrored(full).conj()) / total
    half = folded[..., : w // 2 + 1].clone()
    edges = self_conjugate_columns(w)
    half[..., edges] = full[..., edges]
    return half


def official_slope(size: tuple[int, int], kind: HighPass, cutoff: float) -> Tensor:
    """Factor of a half-spectrum gradient that gives the gradient of full-plane storage, (H, W // 2 + 1).

    An interior column stands for two frequencies and collects the gradient of both. The factor is 1/2, or 1 where the
    off-centre window blocks one of the two.
    """
    w = size[1]
    plane = open_plane(size, kind, cutoff)
    slope = (1 / (plane + mirrored(plane)).clamp_min(1))[:, : w // 2 + 1].clone()
    slope[:, self_conjugate_columns(w)] = 1
    return slope
