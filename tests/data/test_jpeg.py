"""JPEG files are decoded as Pillow decodes them, and at a reduced scale only where the view is much smaller."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from famkd.data.augment import Augment
from famkd.data.jpeg import decoded_pixels
from famkd.data.pixels import decoded
from famkd.data.seeded import drawing
from famkd.data.transforms import Preprocessing, normalised, plain_view, reduction, training_view, viewed


def photo(height: int, width: int) -> np.ndarray:
    """A smooth picture with some detail, (H, W, 3) uint8."""
    y, x = np.mgrid[:height, :width] / 40
    waves = [np.sin(x + c) * np.cos(y * (1 + c / 3)) + 0.2 * np.sin(9 * x) for c in range(3)]
    return (127 + 90 * np.stack(waves, -1)).clip(0, 255).astype(np.uint8)


def jpeg(pixels: np.ndarray, mode: str = "RGB", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    "data",
    [
        jpeg(photo(37, 53)),
        jpeg(photo(37, 53), "L"),
        jpeg(photo(37, 53), "CMYK"),
        jpeg(photo(37, 53), progressive=True, quality=40),
        jpeg(photo(37, 53), subsampling=0),
        jpeg(photo(37, 53), keep_rgb=True),
        *(jpeg(photo(37, 53), exif=turned(n)) for n in range(1, 10)),
    ],
)
def test_pixels_are_those_of_pillow(data, channels):
    pixels = decoded_pixels(data, channels).permute(1, 2, 0)
    expected = torch.from_numpy(np.array(decoded(data, channels)))
    assert torch.equal(pixels, expected.view(pixels.shape))


@pytest.mark.parametrize(
    ("own", "size", "expected"),
    [
        ((256, 256), 224, 1),
        ((1000, 1500), 224, 1),  # scaled to 256: 3.9 times as large
        ((1024, 1500), 224, 2),
        ((2048, 3000), 224, 4),
        ((4096, 9000), 224, 8),
        ((4096, 200), 32, 2),  # the shorter side decides
        ((255, 256), (64, 32), 1),
        ((256, 256), (64, 32), 2),
    ],
)
def test_reduction_for_test_images(own, size, expected):
    assert reduction(own, size, Preprocessing(), None) == expected


def test_reduction_for_training_images_leaves_twice_the_size():
    settings = Preprocessing(training=Augment(crop_scale=(0.05, 1.0)))
    seen = set()
    for seed in range(60):
        factor = reduction((1600, 2000), 64, settings, seed)
        assert factor == reduction((1600, 2000), 64, settings, seed)
        with drawing(seed):
            box = training_view(64, settings).transforms[0].make_params([torch.empty(3, 1600, 2000, device="meta")])
        shorter = min(box["height"], box["width"])
        assert factor == 1 or shorter / factor >= 128
        assert factor == 8 or shorter / (2 * factor) < 128
        seen.add(factor)
    assert {2, 4} < seen


def test_a_reduced_image_shows_the_same():
    data = jpeg(photo(1536, 2048), quality=95)
    whole = viewed(decoded_pixels(data), plain_view(128), 0).float()
    reduced = decoded_pixels(data, reduction=lambda own: reduction(own, 128, Preprocessing(), None))
    assert reduced.shape == (3, 384, 512)
    assert (viewed(reduced, plain_view(128), 0).float() - whole).abs().mean() < 1


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_reduced_sizes_round_up(factor):
    data = jpeg(photo(101, 203), exif=turned(6))
    asked = []

    def reduced(own):
        asked.append(own)
        return factor

    assert decoded_pixels(data, reduction=reduced).shape == (3, -(-203 // factor), -(-101 // factor))
    assert asked == [(203, 101)]  # upright


def test_rows_are_normalised_as_channels_are():
    pixels = torch.randint(0, 256, (2, 5, 4, 3), dtype=torch.uint8)
    scale, shift = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([1.0, 2.0, 3.0])
    found = normalised(pixels, scale.repeat(4), shift.repeat(4))
    torch.testing.assert_close(found, (pixels * scale + shift).permute(0, 3, 1, 2))
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_images_on_another_device_are_normalised_there():
    row = torch.empty(12, device="meta")
    assert normalised(torch.empty(2, 5, 4, 3, dtype=torch.uint8, device="meta"), row, row).device.type == "meta"
