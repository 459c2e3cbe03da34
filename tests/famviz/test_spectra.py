"""famviz.spectra against numpy's full FFT, at odd, even and unequal sides: half spectra fold differently in each."""

import numpy as np
import pytest

from famviz import spectra

SIZES = [(8, 8), (7, 7), (6, 9), (9, 6), (5, 1), (1, 4), (2, 2), (1, 1)]


@pytest.fixture(params=SIZES, ids=str)
def images(request):
    return np.random.default_rng(0).normal(size=(3, 2, *request.param))


def full(images):
    return np.fft.fftshift(np.fft.fft2(images), axes=(-2, -1))


def grating(size, ky, kx):
    y, x = np.indices(size)
    return np.cos(2 * np.pi * (ky * y / size[0] + kx * x / size[1]) + 0.4)


def test_full_plane_is_the_shifted_fft(images):
    np.testing.assert_allclose(spectra.full_plane(np.fft.rfft2(images), images.shape[-1]), full(images), atol=1e-12)


def test_real_planes_are_mirrored_without_a_phase(images):
    amplitude = np.abs(np.fft.rfft2(images))
    np.testing.assert_allclose(spectra.full_plane(amplitude, images.shape[-1]), np.abs(full(images)), atol=1e-12)


def test_only_the_effective_part_of_a_raw_plane_acts(images):
    rng = np.random.default_rng(1)
    raw = rng.normal(size=images.shape) + 1j * rng.normal(size=images.shape)
    products = [k * full(images) for k in (raw, spectra.effective(raw))]
    np.testing.assert_allclose(*(np.fft.ifft2(np.fft.ifftshift(p, axes=(-2, -1))).real for p in products), atol=1e-12)


def test_effective_keeps_what_is_hermitian_and_counts_the_rest(images):
    plane = full(images)
    np.testing.assert_allclose(spectra.effective(plane), plane, atol=1e-12)
    raw = plane + 1j * plane  # Hermitian and anti-Hermitian in equal parts
    assert spectra.ineffective_share(raw, spectra.effective(raw)) == pytest.approx(0.5)


def test_decibel_has_a_reference_and_a_floor():
    np.testing.assert_allclose(spectra.decibel(np.array([2.0, 0.2, 1e-9, 0.0]), 2.0, -40), [0, -20, -40, -40])


@pytest.mark.parametrize("size", [(8, 8), (7, 7), (6, 9)])
def test_radial_profile_is_a_mean_over_rings(size):
    plane = np.random.default_rng(0).random((2, *size))
    short, sums, counts = min(size), {}, {}
    for i in range(size[0]):
        for j in range(size[1]):
            ring = round(float(np.hypot((i - size[0] // 2) / size[0], (j - size[1] // 2) / size[1]) * short))
            sums[ring] = sums.get(ring, 0) + plane[:, i, j]
            counts[ring] = counts.get(ring, 0) + 1
    rings, means = spectra.radial_profile(plane)
    assert rings.tolist() == list(range(short // 2 + 1))
    np.testing.assert_allclose(means, np.stack([sums[r] / counts[r] for r in rings], -1))


def test_spatial_kernel_convolves_as_the_filter_filters(images):
    size, x = images.shape[-2:], np.random.default_rng(2).normal(size=images.shape[-2:])
    half = np.fft.rfft2(images)
    wanted = np.fft.irfft2(half * np.fft.rfft2(x), s=size)
    kernel = spectra.spatial_kernel(half, size)
    got = np.zeros_like(wanted)
    for i in range(size[0]):
        for j in range(size[1]):
            shift = (i - size[0] // 2, j - size[1] // 2)
            got += kernel[..., i, j, None, None] * np.roll(x, shift, (0, 1))
    np.testing.assert_allclose(got, wanted, atol=1e-12)


def test_energy_is_the_mean_power_of_the_full_plane(images):
    wanted = np.square(np.abs(full(images))).mean((-2, -1))
    np.testing.assert_allclose(spectra.energy(np.fft.rfft2(images), images.shape[-1]), wanted)


def test_moments_agree_with_the_full_plane(images):
    half, power = np.fft.rfft2(images), np.square(np.abs(full(images)))
    radius = spectra.radii(images.shape[-2:])
    mean = (power * radius).sum((-2, -1)) / power.sum((-2, -1))
    spread = np.sqrt((power * np.square(radius - mean[..., None, None])).sum((-2, -1)) / power.sum((-2, -1)))
    np.testing.assert_allclose(spectra.centroid_frequency(half, images.shape[-1]), mean)
    np.testing.assert_allclose(spectra.bandwidth(half, images.shape[-1]), spread, atol=1e-7)


@pytest.mark.parametrize("size", [(16, 16), (15, 15), (16, 32)])
@pytest.mark.parametrize(("ky", "kx", "degrees"), [(0, 3, 0), (3, 0, 90), (3, 3, 45), (-3, 3, 135)])
def test_orientation_of_a_grating(size, ky, kx, degrees):
    kx = kx * size[1] // size[0]  # the same waves per pixel on a wider map
    angle, coherence = spectra.orientation(np.fft.rfft2(grating(size, ky, kx)), size[1])
    assert min(abs(angle - degrees), 180 - abs(angle - degrees)) < 1e-6
    assert coherence == pytest.approx(1)


def test_orientation_of_what_has_none():
    impulse = np.zeros((8, 8))
    impulse[0, 0] = 1
    assert spectra.orientation(np.fft.rfft2(impulse), 8)[1] == pytest.approx(0, abs=1e-9)
    assert spectra.orientation(np.fft.rfft2(np.ones((8, 8))), 8)[1] == pytest.approx(0, abs=1e-9)


def test_global_share_weighs_the_branches_by_their_gammas():
    half = np.full((8, 5), 3.0 + 0j)
    assert spectra.share_of_energy(spectra.energy(half, 8), np.array(4.0), (2.0, 1.0)) == pytest.approx(36 / (36 + 16))


def test_cyclic_colours_use_the_whole_map():
    table = spectra.colour_table("twilight")
    assert table.shape == (256, 3)
    assert np.abs(table[0] - table[-1]).max() < 0.02  # the 510 entries cut at 256 would end in the dark middle


def lightness(rgb: np.ndarray) -> np.ndarray:
    """CIELAB's L* of sRGB colours (..., 3), from the standard's own formulas."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(luminance > (6 / 29) ** 3, 116 * np.cbrt(luminance) - 16, luminance * (29 / 3) ** 3)


@pytest.mark.parametrize("amplitude", [1.0, 10**-1.5, 10**-2.5])
def test_phases_of_one_amplitude_are_equally_light(amplitude):
    turn = np.exp(2j * np.pi * np.arange(256) / 256)
    light = lightness(spectra.domain_colour(amplitude * turn, 1.0, -60))
    assert np.ptp(light) < 0.5
    np.testing.assert_allclose(light.mean(), 74 * (1 + np.log10(amplitude) / 3), atol=2)


def test_hues_are_colours_that_a_screen_has_and_none_like_another():
    table = spectra.hues()
    assert table.min() > 0
    assert table.max() < 1
    steps = np.abs(table - np.roll(table, 1, 0)).sum(1)
    assert steps.min() > 0.25 * steps.max()  # also between the last and the first


def test_domain_colour_is_dark_at_the_floor_and_bright_at_the_reference():
    colours = spectra.domain_colour(np.array([[1.0, 1j, 1e-9]]), 1.0, -60)
    np.testing.assert_allclose(colours[0, 0], spectra.hues()[128])
    np.testing.assert_allclose(colours[0, 1], spectra.hues()[192])
    np.testing.assert_allclose(colours[0, 2], 0)
