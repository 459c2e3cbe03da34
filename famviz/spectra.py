"""Spectra of real images and of filters: arrays in, arrays out.

A half spectrum is (..., H, W // 2 + 1) as `rfft2` orders it; a full plane is (..., H, W) with DC at [H // 2, W // 2].
Radii that number rings are in cycles per map along its shorter side, all others are fractions of Nyquist.
"""

import numpy as np

LOWEST = 1e-30  # amplitude that stands for zero in a logarithm
LIGHTNESS, CHROMA = 74.0, 40.0  # in CIELAB, of the hues that stand for phases
WHITE = np.array([0.95047, 1.0, 1.08883])  # XYZ of the white point D65
SRGB = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])  # XYZ to linear


def full_plane(half: np.ndarray, width: int) -> np.ndarray:
    """The whole centred plane (..., H, W) of a half spectrum: W(-k) = conj W(k), spatial axes shifted."""
    height = half.shape[-2]
    ky = np.arange(height)[:, None]
    kx = np.arange(width)
    stored = kx < half.shape[-1]
    rows = np.where(stored, ky, -ky % height)
    columns = np.where(stored, kx, width - kx)
    plane = half[..., rows, columns]
    if np.iscomplexobj(plane):
        plane = np.where(stored, plane, plane.conj())
    return np.fft.fftshift(plane, axes=(-2, -1))


def mirrored(full: np.ndarray) -> np.ndarray:
    """Value at -k for every k of a centred plane."""
    dc_first = np.fft.ifftshift(full, axes=(-2, -1))
    backwards = dc_first[..., ::-1, ::-1]
    return np.fft.fftshift(np.roll(backwards, (1, 1), (-2, -1)), axes=(-2, -1))


def effective(full: np.ndarray) -> np.ndarray:
    """The Hermitian part of a raw centred plane: all that acts if the input is real and only the real part is kept."""
    return (full + mirrored(full).conj()) / 2


def ineffective_share(raw: np.ndarray, acting: np.ndarray) -> float:
    """Share 0..1 of a raw plane's energy that acts on no real input, `acting` being its effective plane."""
    effective_energy = np.square(np.abs(acting)).sum()
    energy_stored = np.square(np.abs(raw)).sum()
    return float(1 - effective_energy / max(energy_stored, LOWEST))


def decibel(amplitude: np.ndarray, reference: float = 1.0, floor: float = -60.0) -> np.ndarray:
    """20 log10 of an amplitude over a reference, in dB, at least `floor`."""
    ratio = np.maximum(np.abs(amplitude) / max(reference, LOWEST), LOWEST)
    return np.maximum(20 * np.log10(ratio), floor)


def rings(size: tuple[int, int]) -> np.ndarray:
    """Distance of each bin of a centred plane from DC, (H, W), in cycles per map along the shorter side.

    It is rounded to 9 digits, so that bins in the middle of two rings of a map twice as wide as high fall into one.
    """
    return (radii(size) * (min(size) / 2)).round(9)


def radii(size: tuple[int, int]) -> np.ndarray:
    """Distance of each bin of a centred plane from DC, (H, W), as a fraction of Nyquist; it is above 1 in corners."""
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


def spatial_kernel(half: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The circular convolution kernel (..., H, W) of a half spectrum of gains, its origin in the middle."""
    return np.fft.fftshift(np.fft.irfft2(half, s=size), axes=(-2, -1))


def column_weights(width: int) -> np.ndarray:
    """Number of frequencies that a column of a half spectrum stands for, (W // 2 + 1,): 1 at DC and Nyquist, else 2."""
    weights = np.full(width // 2 + 1, 2.0)
    weights[0] = 1
    if width % 2 == 0:
        weights[-1] = 1
    return weights


def power(half: np.ndarray, width: int) -> np.ndarray:
    """|H|^2 of each stored frequency, times the number of frequencies that it stands for."""
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

    0 is a wave along x, 90 along y (downwards). It is the energy-weighted mean of the doubled angle, without DC, which
    has no direction.
    """
    height = half.shape[-2]
    weight = power(half, width)
    total = (weight * half_directions(height, width)).sum((-2, -1))
    without_dc = weight.sum((-2, -1)) - weight[..., 0, 0]
    degrees = np.degrees(np.angle(total)) / 2 % 180
    degrees = np.where(degrees >= 180, 0.0, degrees)
    return degrees, np.abs(total) / np.maximum(without_dc, LOWEST)


def half_directions(height: int, width: int) -> np.ndarray:
    """The doubled angle of each frequency of a half spectrum as a complex number of length 1, 0 at DC.

    Where a frequency holds both signs of an angle it is their mean, which is real.
    """
    ky, kx = _half_waves(height, width)
    angle = np.arctan2(ky / height, kx / width)
    doubled: np.ndarray = np.exp(2j * angle)
    doubled[0, 0] = 0
    if width % 2 == 0:  # the Nyquist column and row hold both signs, so both angles, at once
        doubled[:, -1] = np.real(doubled[:, -1])
    if height % 2 == 0:
        doubled[height // 2] = np.real(doubled[height // 2])
    return doubled


def half_radii(height: int, width: int) -> np.ndarray:
    """Distance of each frequency of a half spectrum from DC, (H, W // 2 + 1), as a fraction of Nyquist."""
    ky, kx = _half_waves(height, width)
    return np.hypot(ky / (height / 2), kx / (width / 2))


def share_of_energy(energy: np.ndarray, local: np.ndarray, gamma: tuple[float, float]) -> np.ndarray:
    """Share 0..1 of the global branch in the sum of both branches' energies on white input, (...).

    Args:
        energy: of the filter, before gamma.
        local: weight of the 1x1 convolution.
        gamma: weights of the global and of the local branch.
    """
    far = gamma[0] ** 2 * energy
    near = gamma[1] ** 2 * np.square(local)
    return far / np.maximum(far + near, LOWEST)


def domain_colour(plane: np.ndarray, reference: float = 1.0, floor: float = -60.0) -> np.ndarray:
    """RGB 0..1 (..., 3) of complex values: hue of the phase, lightness of the amplitude in dB.

    All hues are equally light at one amplitude: scaling sRGB keeps CIELAB's L* equal to 0.5, in proportion to dB.
    """
    light = 1 - decibel(plane, reference, floor) / floor
    hue = _look_up(hues(), np.angle(plane))
    return hue * np.clip(light, 0, 1)[..., None]


def hues() -> np.ndarray:
    """256 colours of one lightness and chroma, (256, 3) in sRGB, phase -pi first.

    A circle in CIELAB (D65) at L* = 74 with radius 40, the largest that a screen can show whole: at one amplitude no
    phase looks stronger than another.
    """
    turn = 2 * np.pi * np.arange(256) / 256
    a = CHROMA * np.cos(turn)
    b = CHROMA * np.sin(turn)
    grey = (LIGHTNESS + 16) / 116
    cube_roots = np.stack([grey + a / 500, np.full(256, grey), grey - b / 200], 1)
    xyz = np.power(cube_roots, 3) * WHITE
    linear = xyz @ SRGB.T
    return 1.055 * np.power(linear, 1 / 2.4) - 0.055


def colour_table(name: str) -> np.ndarray:
    """256 colours (256, 3), evenly spaced over the whole range of a matplotlib map.

    Of a cyclic map the last colour is next to the first one. Indices 0..255 would take the first 256 entries, which is
    half of the 510 of twilight.
    """
    from matplotlib import colormaps

    steps = np.arange(256) / (256 if name.startswith("twilight") else 255)
    return colormaps[name](steps)[:, :3]


def _look_up(table: np.ndarray, phase: np.ndarray) -> np.ndarray:
    turn = (phase + np.pi) / (2 * np.pi)
    return table[np.rint(256 * turn).astype(int) % 256]


def _half_waves(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Signed cycles per map of a half spectrum: rows (H, 1) and columns (1, W // 2 + 1)."""
    ky = np.fft.fftfreq(height, 1 / height)
    kx = np.fft.rfftfreq(width, 1 / width)
    return ky[:, None], kx[None, :]


def _radial_moments(half: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Energy-weighted mean and standard deviation of the radius, both (...), as fractions of Nyquist."""
    radius = half_radii(half.shape[-2], width)
    weight = power(half, width)
    total = np.maximum(weight.sum((-2, -1)), LOWEST)
    mean = (weight * radius).sum((-2, -1)) / total
    mean_square = (weight * np.square(radius)).sum((-2, -1)) / total
    variance = np.maximum(mean_square - np.square(mean), 0)
    return mean, np.sqrt(variance)
