"""Amplitude spectra of a stage, network beside network: maps in, arrays in dB out.

The spectrum of a stage: each image's amplitude, root mean square over channels (so that widths compare), in dB,
relative to that image's DC (so that gains compare), mean over images. A curve is its mean over rings of equal
frequency. The figure of a stage is the root mean square, over the rings above DC, of the difference of two curves.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from famviz.spectra import decibel, full_plane, radial_profile

FLOOR = -120.0  # dB, of a map that is zero


@dataclass(frozen=True, eq=False)
class Stage:
    """Spectra of one stage by network; `reference` names the one that the others are compared with."""

    name: str  # the reference's tap
    reference: str
    frequency: np.ndarray  # (R,) rings from 0 to Nyquist, cycles per map
    planes: dict[str, np.ndarray]  # (H, W) dB relative to DC, which is in the middle
    dc: dict[str, float]  # dB, the mean that a plane was taken relative to
    curves: dict[str, np.ndarray]  # (R,) dB relative to DC
    bands: dict[str, np.ndarray]  # (2, R) 95 % bootstrap interval of a curve over images
    difference_bands: dict[str, np.ndarray]  # (2, R) the same of a curve minus the reference's, image by image

    @property
    def others(self) -> list[str]:
        return [name for name in self.planes if name != self.reference]

    def difference(self, name: str) -> np.ndarray:
        """Plane (H, W) of a network minus the reference's, dB: positive where it has more than the reference."""
        return self.planes[name] - self.planes[self.reference]

    def difference_curve(self, name: str) -> np.ndarray:
        """Curve (R,) of a network minus the reference's, dB."""
        return self.curves[name] - self.curves[self.reference]

    def rms_db(self, name: str) -> float:
        """One number for a table: root mean square of the difference of the curves over the rings 1 to Nyquist, dB."""
        return float(np.sqrt(np.mean(np.square(self.difference_curve(name)[1:]))))


def image_spectra(maps: Tensor) -> np.ndarray:
    """Amplitude in dB of each image, root mean square over channels: (B, C, H, W) to (B, H, W), DC in the middle."""
    half = torch.fft.rfft2(maps.detach().double().cpu(), norm="ortho").abs().square().mean(1).sqrt()
    return decibel(full_plane(half.numpy(), maps.shape[-1]), floor=FLOOR)


def bootstrap_band(curves: np.ndarray, draws: int = 500, seed: int = 0) -> np.ndarray:
    """95 % percentile interval (2, R) of the mean of (N, R) curves under resampling of the N images."""
    n = len(curves)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), draws)
    return np.quantile(counts @ curves / n, (0.025, 0.975), axis=0)


def compare_stage(name: str, reference: str, spectra: dict[str, np.ndarray], draws: int = 500, seed: int = 0) -> Stage:
    """One stage from the (N, H, W) spectra in dB of each network on the same images.

    Where sizes differ, the lowest frequencies that all have are compared.
    """
    size = tuple(min(each.shape[axis] for each in spectra.values()) for axis in (1, 2))
    planes, dc, curves = {}, {}, {}
    for who, plane in spectra.items():
        centre = plane[:, plane.shape[1] // 2, plane.shape[2] // 2]
        planes[who], dc[who] = _lowest(plane, size) - centre[:, None, None], float(centre.mean())
        frequency, curves[who] = radial_profile(planes[who])
    return Stage(
        name, reference, frequency, {who: plane.mean(0) for who, plane in planes.items()}, dc,
        {who: curve.mean(0) for who, curve in curves.items()},
        {who: bootstrap_band(curve, draws, seed) for who, curve in curves.items()},
        {who: bootstrap_band(c - curves[reference], draws, seed) for who, c in curves.items() if who != reference},
    )  # fmt: skip


def _lowest(planes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle of centred planes: their lowest frequencies."""
    top, left = (have // 2 - want // 2 for have, want in zip(planes.shape[1:], size))
    return planes[:, top : top + size[0], left : left + size[1]]
