"""Amplitude spectra of a stage, compared between networks: maps in, arrays in dB out.

The spectrum of a stage is, for each image, the root mean square of the amplitude over channels (so that networks of
different widths compare), in dB relative to the loudness of that image (so that gains compare), then the mean over
images. The loudness is the mean of the dB over all frequencies but DC. A curve is the mean of a spectrum over rings of
equal frequency. The one number for a stage is the root mean square, over the rings above DC, of the difference between
two curves. What is taken out is kept as `loudness` and `dc`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from famkd.errors import UserError
from famviz.spectra import decibel, full_plane, radial_profile
from famviz.tables import Rows

FLOOR = -120.0  # dB, of a map that is zero
Relative = Literal["mean", "dc", "none"]  # what is taken out of each spectrum: its loudness, its DC, or nothing


@dataclass(frozen=True, eq=False)
class Stage(Rows):
    """Spectra of one stage by network; the others are compared with the network `reference`."""

    name: str  # tap of the reference
    reference: str
    frequency: np.ndarray  # (R,) rings from 0 to Nyquist, cycles per map
    planes: dict[str, np.ndarray]  # (H, W) dB as `relative` says, DC in the middle
    loudness: dict[str, float]  # dB, mean over all frequencies but DC, nothing taken out
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
        """Root mean square of the difference of the curves over the rings 1 to Nyquist, dB."""
        return _rms(self.difference_curve(name)[1:])

    def plane_rms_db(self, name: str) -> float:
        """Root mean square of the difference of the planes over all frequencies but DC, dB; direction counts here."""
        return _rms(without_dc(self.difference(name)))

    def offsets(self, name: str) -> tuple[float, float]:
        """How much louder a network is than the reference, in loudness and in DC, dB."""
        louder = self.loudness[name] - self.loudness[self.reference]
        return louder, self.dc[name] - self.dc[self.reference]

    def rows(self) -> list[dict[str, object]]:
        """A row for each network and ring: the curve with its band, and the curve minus the reference's with its."""
        found = []
        for name, curve in self.curves.items():
            band, gap = self.bands[name], self.difference_bands.get(name)
            for at, frequency in enumerate(self.frequency):
                row = {"stage": self.name, "network": name, "frequency": float(frequency), "dB": float(curve[at])}
                row |= {"dB low": float(band[0, at]), "dB high": float(band[1, at])}
                if gap is not None:
                    row["difference"] = float(self.difference_curve(name)[at])
                    row |= {"difference low": float(gap[0, at]), "difference high": float(gap[1, at])}
                found.append(row)
        return found

    def __repr__(self) -> str:
        height, width = self.planes[self.reference].shape
        return f"Stage({self.name}, {height} x {width}: {', '.join(self.planes)})"


class Stages(list[Stage], Rows):
    """The stages of networks, shallow to deep."""

    def rows(self) -> list[dict[str, object]]:
        """The rows of all stages."""
        return [row for stage in self for row in stage.rows()]


def stages_of(
    found: Mapping[str, Sequence[tuple[str, np.ndarray]]], reference: str, draws: int = 500, seed: int = 0,
    relative: Relative = "mean",
) -> Stages:  # fmt: skip
    """Every stage, from the spectra of each network, shallow to deep, by the name of their tap.

    Unequal numbers of stages pair from the deepest.
    """
    stages = Stages()
    for back in range(len(found[reference]), 0, -1):
        name = found[reference][-back][0]
        spectra = {who: each[-back][1] for who, each in found.items() if back <= len(each)}
        stages.append(compare_stage(name, reference, spectra, draws, seed, relative))
    return stages


def image_spectra(maps: Tensor, window: bool = False) -> np.ndarray:
    """Amplitude in dB of each image, root mean square over channels: (B, C, H, W) to (B, H, W), DC in the middle.

    Args:
        window: fade the maps, less their mean, towards the edges by Hann's window, scaled so that the power of white
            noise stays the same; DC does not change. The transform takes a map as periodic, and without a window the
            jump between opposite edges is seen as a bright cross on the axes.
    """
    maps = maps.detach().cpu().double()
    power = _power(maps)
    if window:
        dc = power[:, 0, 0]
        height, width = maps.shape[-2:]
        down = torch.hann_window(height, dtype=torch.float64)[:, None]
        across = torch.hann_window(width, dtype=torch.float64)
        without_mean = maps - maps.mean((2, 3), keepdim=True)
        power = _power(without_mean * down * across / (3 / 8))
        power[:, 0, 0] = dc
    return decibel(full_plane(power.sqrt().numpy(), maps.shape[-1]), floor=FLOOR)


def bootstrap_band(curves: np.ndarray, draws: int = 500, seed: int = 0) -> np.ndarray:
    """95 % percentile interval (2, R) of the mean of (N, R) curves, by resampling the N images."""
    n = len(curves)
    means = _resampled(n, draws, seed) @ curves / n
    return np.quantile(means, (0.025, 0.975), axis=0)


@cache
def _resampled(n: int, draws: int, seed: int) -> np.ndarray:
    """How often each of n images is drawn in each resampling, (draws, n)."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), draws).astype(float)


def compare_stage(
    name: str, reference: str, spectra: dict[str, np.ndarray], draws: int = 500, seed: int = 0,
    relative: Relative = "mean",
) -> Stage:  # fmt: skip
    """One stage, from the (N, H, W) spectra in dB of each network on the same images.

    If sizes differ, the lowest frequencies that all networks have are compared.

    Args:
        draws, seed: of the bootstrap.
        relative: what is taken out of the spectrum of each image: its loudness (`mean`), its `dc`, or nothing (`none`).
            With `dc`, a network of which only DC is louder seems to have less of every other frequency.
    """
    if relative not in ("mean", "dc", "none"):
        raise UserError(f"Spectra cannot be relative to {relative!r}: pass mean, dc or none.")
    size = _common_size(spectra.values())
    measured = {who: _measure(plane, size, relative) for who, plane in spectra.items()}
    curves = {who: each.curves for who, each in measured.items()}
    gaps = {who: curve - curves[reference] for who, curve in curves.items() if who != reference}
    return Stage(
        name,
        reference,
        measured[reference].frequency,
        planes={who: each.planes.mean(0) for who, each in measured.items()},
        loudness={who: each.loudness for who, each in measured.items()},
        dc={who: each.dc for who, each in measured.items()},
        curves={who: curve.mean(0) for who, curve in curves.items()},
        bands={who: bootstrap_band(curve, draws, seed) for who, curve in curves.items()},
        difference_bands={who: bootstrap_band(gap, draws, seed) for who, gap in gaps.items()},
        relative=relative,
    )


def without_dc(planes: np.ndarray) -> np.ndarray:
    """All values of centred planes (..., H, W) but the one in the middle, (..., H W - 1)."""
    height, width = planes.shape[-2:]
    flat = planes.reshape(*planes.shape[:-2], -1)
    middle = (height // 2) * width + width // 2
    return np.delete(flat, middle, axis=-1)


class _Measured(NamedTuple):
    """Spectra of one network at one stage, image by image."""

    frequency: np.ndarray  # (R,)
    planes: np.ndarray  # (N, H, W) dB
    curves: np.ndarray  # (N, R) dB
    loudness: float
    dc: float


def _measure(spectra: np.ndarray, size: tuple[int, int], relative: Relative) -> _Measured:
    """The lowest frequencies of spectra (N, H, W) in dB, less what `relative` takes out of each image."""
    dc = spectra[:, spectra.shape[1] // 2, spectra.shape[2] // 2]
    low = lowest(spectra, size)
    loudness = without_dc(low).mean(1)
    taken_out = {"mean": loudness, "dc": dc, "none": np.zeros_like(dc)}[relative]
    planes = low - taken_out[:, None, None]
    frequency, curves = radial_profile(planes)
    return _Measured(frequency, planes, curves, float(loudness.mean()), float(dc.mean()))


def _power(maps: Tensor) -> Tensor:
    """Mean over channels of |F|^2, a half spectrum for each image."""
    return torch.fft.rfft2(maps, norm="ortho").abs().square().mean(1)


def _common_size(spectra: Iterable[np.ndarray]) -> tuple[int, int]:
    sizes = [each.shape[1:] for each in spectra]
    return min(size[0] for size in sizes), min(size[1] for size in sizes)


def lowest(planes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle of centred planes (N, H, W): their lowest frequencies."""
    top = planes.shape[1] // 2 - size[0] // 2
    left = planes.shape[2] // 2 - size[1] // 2
    return planes[:, top : top + size[0], left : left + size[1]]


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
