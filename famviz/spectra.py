"""Spectra of real images and filters: arrays in, arrays out.

A half spectrum is (..., H, W // 2 + 1) as `rfft2` orders it; a full plane is (..., H, W) with DC at [H // 2, W // 2].
Radii are in cycles per map along its shorter side where they index rings, and fractions of Nyquist elsewhere.
"""

import numpy as np

LOWEST = 1e-30  # amplitude that stands for zero in a logarithm
LIGHTNESS, CHROMA = 74.0, 40.0  # of the hues that stand for phases
WHITE = np.array([0.95047, 1.0, 1.08883])  # XYZ of D65
SRGB = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])  # linear, of XYZ


def full_plane(half: np.ndarray, width: int) -> np.ndarray:
    """The whole centred plane (..., H, W) of a half spectrum: W(-k) = conj W(k), spatial axes shifted."""
    height, kx = half.shape[-2], np.arange(width)
    stored = kx < half.shape[-1]
    rows = np.arange(height)[:, None]
    rows, columns = np.where(stored, rows, -rows % height), np.where(stored, kx, width - kx)
    plane = half[..., rows, columns]
    if np.iscomplexobj(plane):
        plane = np.where(stored, plane, plane.conj())
    return np.fft.fftshift(plane, axes=(-2, -1))


def half_plane(full: np.ndarray) -> np.ndarray:
    """The half spectrum of a centred plane, the inverse of `full_plane`."""
    return np.fft.ifftshift(full, axes=(-2, -1))[..., : full.shape[-1] // 2 + 1]


def mirrored(full: np.ndarray) -> np.ndarray:
    """Value at -k for every k of a centred plane."""
    plain = np.fft.ifftshift(full, axes=(-2, -1))
    return np.fft.fftshift(np.roll(plain[..., ::-1, ::-1], (1, 1), (-2, -1)), axes=(-2, -1))


def effective(full: np.ndarray) -> np.ndarray:
    """The Hermitian part of a raw centred plane: all of it that acts where the input is real and the real part kept."""
    return (full + mirrored(full).conj()) / 2


def ineffective_share(raw: np.ndarray, acting: np.ndarray) -> float:
    """Share 0..1 of a raw plane's energy that no real input can see, `acting` being its effective plane."""
    return float(1 - np.square(np.abs(acting)).sum() / max(np.square(np.abs(raw)).sum(), LOWEST))


def decibel(amplitude: np.ndarray, reference: float = 1.0, floor: float = -60.0) -> np.ndarray:
    """20 log10 of an amplitude over a reference, in dB, nothing below `floor`."""
    ratio = np.maximum(np.abs(amplitude) / max(reference, LOWEST), LOWEST)
    return np.maximum(20 * np.log10(ratio), floor)


def rings(size: tuple[int, int]) -> np.ndarray:
    """Distance of each bin of a centred plane from DC, (H, W), in cycles per map along the shorter side."""
    return radii(size) * (min(size) / 2)


def radii(size: tuple[int, int]) -> np.ndarray:
    """Distance of each bin of a centred plane from DC, (H, W), as a fraction of Nyquist; corners lie beyond 1."""
    ky, kx = wave_numbers(size)
    return np.hypot(ky / (size[0] / 2), kx / (size[1] / 2))


def wave_numbers(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Signed cycles per map of a centred plane: rows (H, 1) and columns (1, W)."""
    ky, kx = (np.arange(n) - n // 2 for n in size)
    return ky[:, None].astype(float), kx[None, :].astype(float)


def radial_profile(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Azimuthal mean of a centred plane (..., H, W): ring frequencies 0 .. Nyquist (R,) in cycles, means (..., R)."""
    size = plane.shape[-2:]
    ring = np.rint(rings(size)).astype(int).ravel()
    count = min(size) // 2 + 1
    member = (ring[:, None] == np.arange(count)).astype(plane.dtype)
    flat = plane.reshape(*plane.shape[:-2], -1)
    return np.arange(count), flat @ (member / np.maximum(member.sum(0), 1))


def log_amplitude(maps: np.ndarray, floor: float = 1e-6) -> np.ndarray:
    """Centred spectrum of real maps (..., H, W), natural log of the orthonormal amplitude, at least log `floor`."""
    spectrum = np.fft.rfft2(maps, norm="ortho")
    return np.log(np.maximum(full_plane(np.abs(spectrum), maps.shape[-1]), floor))


def spatial_kernel(half: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The circular convolution kernel (..., H, W) of a half spectrum of gains, its origin in the middle."""
    return np.fft.fftshift(np.fft.irfft2(half, s=size), axes=(-2, -1))


def column_weights(width: int) -> np.ndarray:
    """How many frequencies each column of a half spectrum stands for: 1 for DC and Nyquist, else 2; (W // 2 + 1,)."""
    weights = np.full(width // 2 + 1, 2.0)
    weights[0] = 1
    if width % 2 == 0:
        weights[-1] = 1
    return weights


def power(half: np.ndarray, width: int) -> np.ndarray:
    """|H|^2 of each stored frequency, counted once per frequency that it stands for."""
    return np.square(np.abs(half)) * column_weights(width)


def energy(half: np.ndarray, width: int) -> np.ndarray:
    """Mean |H|^2 over the full plane, (...): the output variance of the filter on white input of variance 1."""
    return power(half, width).sum((-2, -1)) / (half.shape[-2] * width)


def centroid_frequency(half: np.ndarray, width: int) -> np.ndarray:
    """Energy-weighted mean radius (...), as a fraction of Nyquist; 0 for a filter that is zero."""
    return _radial_moments(half, width)[0]


def bandwidth(half: np.ndarray, width: int) -> np.ndarray:
    """Energy-weighted standard deviation of the radius (...), as a fraction of Nyquist."""
    return _radial_moments(half, width)[1]


def orientation(half: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Direction of the wave vectors that carry the energy: degrees in [0, 180) and coherence 0..1, both (...).

    0 is a wave along x, 90 along y (downwards), from the energy-weighted mean of the doubled angle; DC has none.
    """
    weight = power(half, width)
    ky, kx = _half_waves(half.shape[-2], width)
    angle = np.arctan2(ky / half.shape[-2], kx / width)
    turning = np.exp(2j * angle)
    turning[0, 0] = 0
    if width % 2 == 0:  # the Nyquist column and row hold both signs, so both angles, at once
        turning[:, -1] = turning[:, -1].real
    if half.shape[-2] % 2 == 0:
        turning[half.shape[-2] // 2] = turning[half.shape[-2] // 2].real
    total = (weight * turning).sum((-2, -1))
    moving = weight.sum((-2, -1)) - weight[..., 0, 0]
    degrees = np.degrees(np.angle(total)) / 2 % 180
    return np.where(degrees >= 180, 0.0, degrees), np.abs(total) / np.maximum(moving, LOWEST)


def global_share(half: np.ndarray, width: int, local: np.ndarray, gamma: tuple[float, float]) -> np.ndarray:
    """Share 0..1 of gamma1 * global in the two branches' energy on white input, (...), each branch taken by itself."""
    far, near = gamma[0] ** 2 * energy(half, width), gamma[1] ** 2 * np.square(local)
    return far / np.maximum(far + near, LOWEST)


def domain_colour(plane: np.ndarray, reference: float = 1.0, floor: float = -60.0) -> np.ndarray:
    """RGB 0..1 (..., 3) of complex values: hue of the phase, lightness of the amplitude in dB.

    All hues are equally light at one amplitude: scaling sRGB keeps CIELAB's L* equal to 0.5, in proportion to dB.
    """
    light = 1 - decibel(plane, reference, floor) / floor
    return _look_up(hues(), np.angle(plane)) * np.clip(light, 0, 1)[..., None]


def hues() -> np.ndarray:
    """256 colours of one lightness and chroma, (256, 3) in sRGB, phase -pi first.

    A circle in CIELAB (D65) at L* = 74 with radius 40, the largest that a screen can show whole: at one amplitude no
    phase looks stronger than another.
    """
    turn, grey = 2 * np.pi * np.arange(256) / 256, (LIGHTNESS + 16) / 116
    bent = np.stack([grey + CHROMA * np.cos(turn) / 500, np.full(256, grey), grey - CHROMA * np.sin(turn) / 200], 1)
    linear = np.power(bent, 3) * WHITE @ SRGB.T
    return 1.055 * np.power(linear, 1 / 2.4) - 0.055


def colour_table(name: str) -> np.ndarray:
    """256 colours (256, 3) of a matplotlib map, evenly over its whole range; the last of a cyclic one meets the first.

    An integer index would take the first 256 entries, which is half of twilight's 510.
    """
    from matplotlib import colormaps

    steps = np.arange(256) / (256 if name.startswith("twilight") else 255)
    return colormaps[name](steps)[:, :3]


def _look_up(table: np.ndarray, phase: np.ndarray) -> np.ndarray:
    return table[np.rint((phase + np.pi) / (2 * np.pi) * 256).astype(int) % 256]


def _half_waves(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    return np.fft.fftfreq(height, 1 / height)[:, None], np.fft.rfftfreq(width, 1 / width)[None, :]


def _radial_moments(half: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    ky, kx = _half_waves(half.shape[-2], width)
    radius = np.hypot(ky / (half.shape[-2] / 2), kx / (width / 2))
    weight = power(half, width)
    total = np.maximum(weight.sum((-2, -1)), LOWEST)
    mean = (weight * radius).sum((-2, -1)) / total
    return mean, np.sqrt(np.maximum((weight * np.square(radius)).sum((-2, -1)) / total - np.square(mean), 0))
