"""High-pass masks on a half spectrum, and its columns that hold both signs of a frequency."""

from typing import Literal

import torch
from torch import Tensor

HighPass = Literal["ideal", "butterworth", "gaussian", "none", "official"]


def frequencies(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Signed cycles per map of a half spectrum: rows (H, 1) and columns (1, W // 2 + 1)."""
    h, w = size
    return torch.fft.fftfreq(h, 1 / h)[:, None], torch.fft.rfftfreq(w, 1 / w)[None, :]


def highpass_gain(kind: HighPass, size: tuple[int, int], cutoff: float = 0.1, order: int = 2) -> Tensor:
    """Gain in 0..1 of a high-pass on a half spectrum, (H, W // 2 + 1).

    Args:
        kind: ideal, butterworth and gaussian remove at least the mean of the map. official is the window of the
            released code, rows and columns c - r : c + r of the shifted full plane. It is empty below 20 px and
            off-centre above.
        cutoff: radius as a fraction of the Nyquist frequency.
        order: steepness of butterworth.
    """
    h, w = size
    ky, kx = frequencies(size)
    if kind == "none":
        return torch.ones(h, w // 2 + 1)
    if kind == "official":
        return _official_gain(size, cutoff)
    radius = torch.hypot(ky / (h / 2), kx / (w / 2))
    if kind == "ideal":
        gain = (radius > cutoff).float()
    elif kind == "butterworth":
        gain = 1 / (1 + (cutoff / radius.clamp_min(1e-9)) ** (2 * order))
    elif kind == "gaussian":
        gain = 1 - torch.exp(-(radius**2) / (2 * max(cutoff, 1e-9) ** 2))
    else:
        raise ValueError(f"unknown high-pass {kind!r}: ideal, butterworth, gaussian, none or official")
    gain[0, 0] = 0
    return gain


def _official_gain(size: tuple[int, int], cutoff: float) -> Tensor:
    """Mean gain of a frequency and its mirror image, which is what acts on a real map."""
    w = size[1]
    full = open_plane(size, "official", cutoff)
    here, mirror = full[:, : w // 2 + 1], mirrored(full)[:, : w // 2 + 1]
    gain = (here + mirror) / 2
    edges = self_conjugate_columns(w)
    gain[:, edges] = here[:, edges]  # both signs of these frequencies are stored, each with its own gain
    return gain


def open_plane(size: tuple[int, int], kind: HighPass, cutoff: float) -> Tensor:
    """1 where the full plane passes the asymmetric window of the released code; all ones for the symmetric kinds."""
    h, w = size
    if kind != "official":
        return torch.ones(h, w)
    return 1 - torch.outer(official_window(h, cutoff), official_window(w, cutoff))


def official_window(n: int, cutoff: float) -> Tensor:
    """1 inside the released code's slice c - r : c + r of a shifted axis of `n` bins, in unshifted order."""
    centre = n // 2
    radius = int(cutoff * centre)
    shifted = torch.zeros(n)
    shifted[centre - radius : centre + radius] = 1
    return torch.fft.ifftshift(shifted)


def mirrored(plane: Tensor) -> Tensor:
    """The value at -k for each frequency k of a full plane (..., H, W)."""
    return plane.flip(-2, -1).roll((1, 1), (-2, -1))


def self_conjugate_columns(w: int) -> list[int]:
    """Columns of a half spectrum that hold both signs of a frequency: 0, and the Nyquist column of an even width."""
    return [0, w // 2] if w % 2 == 0 else [0]
