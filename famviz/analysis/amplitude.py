"""Amplitude spectra of a stage, network beside network: maps in, arrays in dB out.

The spectrum of a stage: each image's amplitude, root mean square over channels (so that widths compare), in dB,
relative to that image's level, the mean of its dB above DC (so that gains compare), mean over images. A curve is its
mean over rings of equal frequency. The figure of a stage is the root mean square, over the rings above DC, of the
difference of two curves. What is taken out is not lost: `level` and `dc` keep it.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from famkd.errors import UserError
from famviz.spectra import decibel, full_plane, radial_profile

FLOOR = -120.0  # dB, of a map that is zero
Relative = Literal["mean", "dc", "none"]  # to the level, which differs in shape alone; to DC; to 1


@dataclass(frozen=True, eq=False)
class Stage:
    """Spectra of one stage by network; `reference` names the one that the others are compared with."""

    name: str  # the reference's tap
    reference: str
    frequency: np.ndarray  # (R,) rings from 0 to Nyquist, cycles per map
    planes: dict[str, np.ndarray]  # (H, W) dB as `relative` says, DC in the middle
    level: dict[str, float]  # dB, mean over all frequencies but DC, nothing taken out
    dc: dict[str, float]  # dB, nothing taken out
    curves: dict[str, np.ndarray]  # (R,) dB as `relative` says
    bands: dict[str, np.ndarray]  # (2, R) 95 % bootstrap interval of a curve over images
    difference_bands: dict[str, np.ndarray]  # (2, R) the same of a curve minus the reference's, image by image
    relative: Relative = "mean"

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

    def plane_rms_db(self, name: str) -> float:
        """Root mean square of the difference of the planes over all frequencies but DC, dB; direction counts here."""
        return float(np.sqrt(np.mean(np.square(without_dc(self.difference(name))))))

    def offsets(self, name: str) -> tuple[float, float]:
        """How much louder than the reference a network is, in level and in DC, dB."""
        return self.level[name] - self.level[self.reference], self.dc[name] - self.dc[self.reference]


def image_spectra(maps: Tensor, window: bool = False) -> np.ndarray:
    """Amplitude in dB of each image, root mean square over channels: (B, C, H, W) to (B, H, W), DC in the middle.

    The transform takes a map as periodic, and the jump from one edge to the other shows as a bright cross on the axes.
    With `window`, maps less their mean fade out towards the edges by Hann's window, scaled to keep the power of white
    noise; DC stays what it was.
    """
    maps = maps.detach().double().cpu()
    power = torch.fft.rfft2(maps, norm="ortho").abs().square().mean(1)
    if window:
        down, across = (torch.hann_window(n, dtype=torch.float64) for n in maps.shape[-2:])
        faded = (maps - maps.mean((2, 3), keepdim=True)) * down[:, None] * across / (3 / 8)
        dc, power = power[:, 0, 0], torch.fft.rfft2(faded, norm="ortho").abs().square().mean(1)
        power[:, 0, 0] = dc
    return decibel(full_plane(power.sqrt().numpy(), maps.shape[-1]), floor=FLOOR)


def bootstrap_band(curves: np.ndarray, draws: int = 500, seed: int = 0) -> np.ndarray:
    """95 % percentile interval (2, R) of the mean of (N, R) curves under resampling of the N images."""
    n = len(curves)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), draws)
    return np.quantile(counts @ curves / n, (0.025, 0.975), axis=0)


def compare_stage(
    name: str, reference: str, spectra: dict[str, np.ndarray], draws: int = 500, seed: int = 0,
    relative: Relative = "mean",
) -> Stage:  # fmt: skip
    """One stage from the (N, H, W) spectra in dB of each network on the same images.

    Where sizes differ, the lowest frequencies that all have are compared. `relative` says what is taken out of each
    image's spectrum: its level (`mean`), its `dc`, or nothing. With `dc`, a network whose DC alone is louder seems to
    lack every frequency.
    """
    if relative not in ("mean", "dc", "none"):
        raise UserError(f"Spectra are not relative to {relative!r}: take mean, dc or none.")
    size = tuple(min(each.shape[axis] for each in spectra.values()) for axis in (1, 2))
    planes, level, dc, curves = {}, {}, {}, {}
    for who, plane in spectra.items():
        dcs = plane[:, plane.shape[1] // 2, plane.shape[2] // 2]
        plane = _lowest(plane, size)
        levels = without_dc(plane).mean(1)
        level[who], dc[who] = float(levels.mean()), float(dcs.mean())
        planes[who] = plane - {"mean": levels, "dc": dcs, "none": 0 * dcs}[relative][:, None, None]
        frequency, curves[who] = radial_profile(planes[who])
    return Stage(
        name, reference, frequency, {who: plane.mean(0) for who, plane in planes.items()}, level, dc,
        {who: curve.mean(0) for who, curve in curves.items()},
        {who: bootstrap_band(curve, draws, seed) for who, curve in curves.items()},
        {who: bootstrap_band(c - curves[reference], draws, seed) for who, c in curves.items() if who != reference},
        relative,
    )  # fmt: skip


def without_dc(planes: np.ndarray) -> np.ndarray:
    """All values of centred planes (..., H, W) but the one in the middle, (..., H W - 1)."""
    h, w = planes.shape[-2:]
    return np.delete(planes.reshape(*planes.shape[:-2], -1), (h // 2) * w + w // 2, axis=-1)


def _lowest(planes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle of centred planes: their lowest frequencies."""
    top, left = (have // 2 - want // 2 for have, want in zip(planes.shape[1:], size))
    return planes[:, top : top + size[0], left : left + size[1]]
