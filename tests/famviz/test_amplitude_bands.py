"""Bands of frequencies against loops in numpy: what is inside, profiles, shares of energy, and rebuilt maps."""

import numpy as np
import pytest

from famkd.errors import UserError
from famviz.analysis.amplitude import bootstrap_band
from famviz.analysis.bands import (
    Band,
    angular_profile,
    band_mask,
    band_of,
    band_share,
    cell_shares,
    direction_numbers,
    rebuilt,
    ring_numbers,
)

SIZES = [(8, 8), (9, 7), (16, 12), (2, 2), (5, 4)]
BANDS = [Band(), Band((2, 3)), Band(None, (30, 75)), Band((1, 2), (165, 15)), Band((1, 1), (90, 90))]


def places(size):
    """Every frequency of a centred plane: row, column, ring, direction."""
    height, width = size
    for i in range(height):
        for j in range(width):
            y, x = (i - height // 2) / height, (j - width // 2) / width
            degrees = np.rad2deg(np.arctan2(y, x)) % 180
            yield i, j, round(np.hypot(y, x) * min(size)), round(degrees / 15) % 12


def naive_inside(ring, direction, band):
    if ring == 0:
        return False
    if band.rings and not band.rings[0] <= ring <= band.rings[1]:
        return False
    if band.angles is None:
        return True
    at, allowed = band.angles[0], [band.angles[0]]
    while at != band.angles[1]:
        at = (at + 15) % 180
        allowed.append(at)
    return 15 * direction in allowed


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("band", BANDS)
def test_a_band_holds_the_frequencies_between_its_rings_and_angles(size, band):
    mask = band_mask(size, band)
    for i, j, ring, direction in places(size):
        assert ring_numbers(size)[i, j] == ring
        assert direction_numbers(size)[i, j] == direction
        assert mask[i, j] == naive_inside(ring, direction, band)


@pytest.mark.parametrize("size", SIZES)
def test_an_angular_profile_is_the_mean_over_a_direction_less_the_mean_of_each_ring(size):
    planes = np.random.default_rng(0).normal(size=(3, *size)) * 10
    degrees, profile = angular_profile(planes)
    assert degrees.tolist() == list(range(0, 180, 15))
    found = list(places(size))
    last = min(size) // 2
    for plane, own in zip(planes, profile):
        for direction in range(12):
            above = []
            for i, j, ring, own_direction in found:
                if own_direction == direction and 1 <= ring <= last:
                    above.append(plane[i, j] - np.mean([plane[a, b] for a, b, other, _ in found if other == ring]))
            assert own[direction] == pytest.approx(np.mean(above) if above else np.nan, nan_ok=True)


def test_what_has_no_direction_has_a_flat_angular_profile():
    falling = -6.0 * ring_numbers((32, 32))  # the lowest rings lie on the axes only, so a plain mean would have peaks
    assert np.abs(angular_profile(falling)[1]).max() < 1e-9
    louder = falling + 5 * (direction_numbers((32, 32)) == 3)
    profile = angular_profile(louder)[1]
    assert profile.argmax() == 3
    assert profile[3] - np.delete(profile, 3).max() > 3


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("band", BANDS)
def test_the_share_of_a_band_is_its_part_of_the_energy_without_dc(size, band):
    amplitude = np.random.default_rng(1).gamma(1.0, 2.0, (4, *size)) + 1e-3
    decibels = 20 * np.log10(amplitude)
    mask = band_mask(size, band)
    power = amplitude**2
    whole = power.sum((1, 2)) - power[:, size[0] // 2, size[1] // 2]
    np.testing.assert_allclose(band_share(decibels, band), (power * mask).sum((1, 2)) / whole, rtol=1e-9)
    np.testing.assert_allclose(cell_shares(decibels).sum((-2, -1)), 1)


def test_a_map_that_is_zero_has_shares_too():
    assert cell_shares(np.full((2, 8, 8), -120.0)).sum() == pytest.approx(2)


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (16, 12)])
@pytest.mark.parametrize("band", BANDS)
def test_a_map_is_rebuilt_from_the_waves_of_the_band(size, band):
    maps = np.random.default_rng(2).normal(size=(2, *size)) + 3
    spectrum = np.fft.fft2(maps)
    height, width = size
    wanted = np.zeros_like(maps)
    y, x = np.mgrid[:height, :width]
    for i, j, ring, direction in places(size):
        if naive_inside(ring, direction, band):
            ky, kx = i - height // 2, j - width // 2
            wave = np.exp(2j * np.pi * (ky * y / height + kx * x / width))
            wanted += (spectrum[:, ky % height, kx % width, None, None] * wave).real / (height * width)
    np.testing.assert_allclose(rebuilt(maps, band), wanted, atol=1e-9)


def test_all_frequencies_rebuild_a_map_without_its_mean():
    maps = np.random.default_rng(3).normal(size=(9, 12)) + 5
    np.testing.assert_allclose(rebuilt(maps, Band()), maps - maps.mean(), atol=1e-9)


def test_a_wave_is_where_its_wave_vector_says():
    y, x = np.mgrid[:32, :32]
    for ky, kx in ((0, 5), (5, 0), (4, 3), (-4, 3)):
        wave = np.cos(2 * np.pi * (ky * y + kx * x) / 32)
        ring, degrees = round(np.hypot(ky, kx)), round(np.rad2deg(np.arctan2(ky, kx)) % 180 / 15) * 15 % 180
        np.testing.assert_allclose(rebuilt(wave, Band((ring, ring), (degrees, degrees))), wave, atol=1e-9)
        assert np.abs(rebuilt(wave, Band((ring, ring), ((degrees + 30) % 180,) * 2))).max() < 1e-9


def test_an_interval_of_shares_is_that_of_a_plain_resampling():
    rng = np.random.default_rng(4)
    shares = rng.beta(2, 5, 60)
    low, high = bootstrap_band(shares[:, None])[:, 0]
    means = [rng.choice(shares, 60).mean() for _ in range(4000)]
    assert (low, high) == pytest.approx(tuple(np.quantile(means, (0.025, 0.975))), abs=0.01)


@pytest.mark.parametrize(
    ("rings", "angles", "words"),
    [([0, 2], [], "from 1 on"), ([3, 2], [], "first and a last"), ([2], [], r"not \[2\]"), ([], [10, 15], "multiples"),
     ([], [0, 180], "to 165"), ([], [15], "two multiples")],
)  # fmt: skip
def test_other_numbers_are_no_band(rings, angles, words):
    with pytest.raises(UserError, match=words):
        band_of(rings, angles)


def test_pairs_are_a_band_and_nothing_is_all_of_it():
    assert band_of([2, 4], [165, 0]) == Band((2, 4), (165, 0))
    assert band_of() == Band()
