"""Images with a known truth: the class is the frequency and direction of a grating inside a known mask.

A map of what a network attends to can be compared with this truth. Nothing is downloaded, and the images are the same
every time and on every machine.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from famkd.data.small import Images

SIDE = 32  # pixels
N_TRAIN, N_TEST = 2000, 400
FREQUENCIES = (5.0, 9.0)  # cycles per map of the class gratings
ORIENTATIONS = (0.0, 45.0, 90.0, 135.0)  # degrees from the x axis (to the right) towards the y axis (down)
DISTRACTORS = ((1.5, 2.5), (13.0, 15.0))  # ranges of frequency of gratings that belong to no class
RADII = (6.0, 9.0)  # pixels of the mask
CONTRAST = (0.25, 1.0)  # amplitude of the class grating; the other gratings and the noise's deviation are at 0.6


@dataclass(frozen=True)
class Truth:
    """Where in each image the class grating is, and its wave in each class.

    `masks` is (N, H, W) bool, one for each image in the order of the data set; `frequency` (cycles per map) and
    `orientation` (degrees of the wave vector, from x to the right towards y down) are (classes,).
    """

    masks: np.ndarray
    frequency: np.ndarray
    orientation: np.ndarray

    def wave_vectors(self) -> np.ndarray:
        """Signed (ky, kx) of each class in cycles per map, (classes, 2); a spectrum peaks there and at minus that."""
        angle = np.deg2rad(self.orientation)
        return self.frequency[:, None] * np.stack((np.sin(angle), np.cos(angle)), 1)


def bands(root: str = "") -> Images:
    """Eight classes of gratings (two frequencies, four directions) in a disc over noise and other gratings, 32 x 32.

    2,000 images for training and 400 for testing. A mirrored image may be of another class, so none is flipped.
    """
    pixels, labels = _draw()[0].copy(), _draw()[1].copy()
    train, test = slice(0, N_TRAIN), slice(N_TRAIN, None)
    mean = pixels[train].mean((0, 1, 2)) / 255
    std = pixels[train].std((0, 1, 2)) / 255
    return Images(
        pixels[train],
        labels[train],
        pixels[test],
        labels[test],
        classes=[f"{f:g} cycles at {o:g} degrees" for f in FREQUENCIES for o in ORIENTATIONS],
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        pad=2,
        flip=False,
    )


def bands_truth(part: Literal["test", "train"] = "test") -> Truth:
    """The truth about the test images, or the training images, of `bands`."""
    masks = _draw()[2].copy()
    return Truth(
        masks[N_TRAIN:] if part == "test" else masks[:N_TRAIN],
        frequency=np.repeat(FREQUENCIES, len(ORIENTATIONS)),
        orientation=np.tile(ORIENTATIONS, len(FREQUENCIES)),
    )


@cache  # it takes seconds, and a notebook calls it often; callers get copies
def _draw() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All images (N, H, W, 3) uint8, classes (N,) and masks (N, H, W); those for testing are last.

    Drawn from RandomState, the one generator of numpy whose stream is promised never to change. Every draw must keep
    its place in the sequence.
    """
    draw, n = np.random.RandomState(20240305), N_TRAIN + N_TEST
    labels = draw.permutation(np.arange(n) % (len(FREQUENCIES) * len(ORIENTATIONS))).astype(np.int64)
    frequency = np.repeat(FREQUENCIES, len(ORIENTATIONS))[labels]
    orientation = np.tile(ORIENTATIONS, len(FREQUENCIES))[labels]
    radius = draw.uniform(*RADII, n)
    centre = radius + draw.uniform(0, 1, (2, n)) * (SIDE - 1 - 2 * radius)
    masks = _disc(centre, radius)
    grey = 0.6 * _pink_noise(draw, n)
    for low, high in DISTRACTORS:
        centre = draw.uniform(0, SIDE, (2, n))
        other_frequency, degrees = draw.uniform(low, high, n), draw.uniform(0, 180, n)
        grating = _gratings(draw, other_frequency, degrees)
        grey += 0.6 * grating * _disc(centre, draw.uniform(*RADII, n))
    contrast = draw.uniform(*CONTRAST, (n, 1, 1))
    degrees = orientation + draw.uniform(-6, 6, n)
    grey += contrast * _gratings(draw, frequency, degrees) * masks
    tint = draw.uniform(0.6, 1.0, (n, 1, 1, 3))
    tint = tint * draw.uniform(0.7, 1.3, (n, 1, 1, 1))
    colour = 0.1 * _pink_noise(draw, 3 * n).reshape(3, n, SIDE, SIDE).transpose(1, 2, 3, 0)
    light = 128 + 12 * draw.standard_normal((n, 1, 1, 3))
    pixels = light + 55 * tint * (grey[..., None] + colour)
    return pixels.round().clip(0, 255).astype(np.uint8), labels, masks


def _disc(centre: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """(N, H, W) bool discs around (2, N) centres."""
    y, x = np.mgrid[:SIDE, :SIDE]
    centre_y, centre_x = centre[:, :, None, None]
    return np.hypot(y - centre_y, x - centre_x) <= radius[:, None, None]


def _gratings(draw: np.random.RandomState, frequency: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """(N, H, W) sinusoids of amplitude 1 and random phase; frequencies in cycles per map."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    angle = np.deg2rad(degrees)[:, None, None]
    phase = draw.uniform(0, 2 * np.pi, (len(frequency), 1, 1))
    along = np.cos(angle) * x + np.sin(angle) * y
    return np.sin(2 * np.pi * frequency[:, None, None] * along + phase)


def _pink_noise(draw: np.random.RandomState, n: int) -> np.ndarray:
    """(N, H, W) noise of unit deviation whose amplitude falls as one over the frequency, as in photographs."""
    rows, columns = np.fft.fftfreq(SIDE, 1 / SIDE), np.fft.rfftfreq(SIDE, 1 / SIDE)
    frequency = np.hypot(rows[:, None], columns[None])
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(draw.standard_normal((n, SIDE, SIDE))) / frequency
    noise = np.fft.irfft2(spectrum, (SIDE, SIDE))
    return noise / noise.std((1, 2), keepdims=True)
