"""Rings and wedges of frequencies: profiles over directions, the energy of a band, and maps rebuilt from it alone.

A ring holds the frequencies whose distance from DC rounds to a whole number of cycles per map. A wedge holds the
directions of 15 degrees each: 0 is a wave along x, 90 along y (downwards), as in `famviz.spectra.orientation`. Every
map of a network shows the whole image, so a ring means the same waves in a map of any size and in the image itself.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from famkd.errors import UserError
from famviz import spectra

STEP = 15  # degrees of a direction
DIRECTIONS = 180 // STEP


class Band(NamedTuple):
    """The frequencies in some rings and in some directions, without DC."""

    rings: tuple[int, int] | None = None  # first and last, cycles per map; None for all, with those beyond Nyquist
    angles: tuple[int, int] | None = None  # middles of the first and the last direction, degrees; 165 to 15 passes 0


def band_of(rings: Sequence[int] = (), angles: Sequence[int] = ()) -> Band:
    """A band from pairs; an empty one stands for all rings or all directions.

    Errors: UserError for other numbers.
    """
    if len(rings) not in (0, 2) or (rings and not 1 <= rings[0] <= rings[1]):
        raise UserError(f"Rings are a first and a last one, from 1 on, not {list(rings)}.")
    wrong = [each for each in angles if each % STEP or not 0 <= each < 180]
    if len(angles) not in (0, 2) or wrong:
        raise UserError(f"Angles are two multiples of {STEP} from 0 to {180 - STEP}, not {list(angles)}.")
    return Band((int(rings[0]), int(rings[1])) if rings else None, (int(angles[0]), int(angles[1])) if angles else None)


def ring_numbers(size: tuple[int, int]) -> np.ndarray:
    """The ring of each frequency of a centred plane, (H, W)."""
    return np.rint(spectra.rings(size)).astype(int)


def direction_numbers(size: tuple[int, int]) -> np.ndarray:
    """The direction of each frequency of a centred plane, (H, W): n stands for 15 n degrees. DC has 0."""
    ky, kx = spectra.wave_numbers(size)
    degrees = np.degrees(np.arctan2(ky / size[0], kx / size[1])) % 180
    return np.rint(degrees / STEP).astype(int) % DIRECTIONS


def band_mask(size: tuple[int, int], band: Band) -> np.ndarray:
    """Which frequencies of a centred plane are in a band, (H, W) bool. DC is in none."""
    ring = ring_numbers(size)
    inside = ring > 0
    if band.rings:
        inside &= (ring >= band.rings[0]) & (ring <= band.rings[1])
    if band.angles:
        first, last = (each // STEP for each in band.angles)
        inside &= (direction_numbers(size) - first) % DIRECTIONS <= (last - first) % DIRECTIONS
    return inside


def angular_profile(planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far each direction is above the mean of its rings, from ring 1 to Nyquist.

    The mean of a ring is taken out because the directions hold different rings: on a grid the lowest frequencies lie
    along the axes and diagonals only, and they are the loudest.

    Args:
        planes: centred planes (..., H, W) in dB.

    Returns: degrees (12,) and dB (..., 12), NaN for a direction without a frequency.
    """
    height, width = planes.shape[-2:]
    ring, direction = ring_numbers((height, width)), direction_numbers((height, width))
    _, curve = spectra.radial_profile(planes)
    counted = (ring > 0) & (ring < curve.shape[-1])
    above = planes[..., counted] - curve[..., ring[counted]]
    member = direction[counted][:, None] == np.arange(DIRECTIONS)
    count = member.sum(0)
    profile = above @ member / np.maximum(count, 1)
    return STEP * np.arange(DIRECTIONS), np.where(count > 0, profile, np.nan)


def cell_shares(decibels: np.ndarray) -> np.ndarray:
    """Share of each ring and direction in the energy of each spectrum apart from DC.

    Args:
        decibels: centred planes (..., H, W).

    Returns: (..., rings, 12), rings from 0, which is empty, to the corner beyond Nyquist. The sum is 1.
    """
    height, width = decibels.shape[-2:]
    ring = ring_numbers((height, width)).ravel()
    cell = ring * DIRECTIONS + direction_numbers((height, width)).ravel()
    flat = decibels.reshape(-1, height * width)
    power = np.power(10, (flat - flat[:, ring > 0].max(1, keepdims=True)) / 10)  # of the largest, so that none is 0
    power[:, ring == 0] = 0
    count = (ring.max() + 1) * DIRECTIONS
    sums = np.stack([np.bincount(cell, each, count) for each in power])
    shares = sums / sums.sum(1, keepdims=True)
    return shares.reshape(*decibels.shape[:-2], -1, DIRECTIONS)


def band_share(decibels: np.ndarray, band: Band) -> np.ndarray:
    """Share 0..1 of a band in the energy of each spectrum (..., H, W) apart from DC."""
    cells = cell_shares(decibels)
    first, last = band.rings or (1, cells.shape[-2] - 1)
    within = cells[..., first : last + 1, :].sum(-2)
    if band.angles is None:
        return within.sum(-1)
    start, end = (each // STEP for each in band.angles)
    chosen = [(start + step) % DIRECTIONS for step in range((end - start) % DIRECTIONS + 1)]
    return within[..., chosen].sum(-1)


def rebuilt(maps: np.ndarray, band: Band) -> np.ndarray:
    """Maps (..., H, W) from the frequencies of a band alone; their mean is 0."""
    height, width = maps.shape[-2:]
    mask = np.fft.ifftshift(band_mask((height, width), band))
    return np.fft.ifft2(np.fft.fft2(maps) * mask).real
