"""Images of every mode and format of Pillow as bytes, against formulas of numpy; files are written by the tests."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from famkd.data.pixels import MODES, TURNS, colour, converted, decoded, opened, size_of
from famkd.errors import UserError

HEIGHT, WIDTH = 5, 6
DRAW = np.random.RandomState(0)
RGB = DRAW.randint(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
GREY = DRAW.randint(0, 256, (HEIGHT, WIDTH)).astype(np.uint8)
ALPHA = DRAW.randint(1, 256, (HEIGHT, WIDTH)).astype(np.uint8)
DEEP = DRAW.randint(0, 65536, (HEIGHT, WIDTH)).astype(np.uint16)
ORIENTATION = 0x0112


def file_of(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(pixels: np.ndarray, kind: int, before: bytes = b"", after: bytes = b"") -> bytes:
    """A PNG of the colour type `kind` as its standard says, 8 or 16 bits, with chunks before or after the pixels."""
    depth = 16 if pixels.dtype == np.uint16 else 8
    rows = b"".join(b"\0" + row.astype(pixels.dtype.newbyteorder(">")).tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], depth, kind, 0, 0, 0)
    parts = chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(rows)) + after + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def tiff(data: bytes, bits: int, sample: int = 1, photometric: int = 1) -> bytes:
    """An uncompressed grey TIFF: samples are unsigned (1), signed (2) or floats (3); photometric 0 has white at 0."""
    tags = ((256, 4, WIDTH), (257, 4, HEIGHT), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 8),
            (277, 3, 1), (278, 4, HEIGHT), (279, 4, len(data)), (339, 3, sample))  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return struct.pack("<4sI", b"II*\0", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def grey3(values: np.ndarray) -> np.ndarray:
    """Grey values 0..255, rounded, as RGB."""
    return np.repeat(np.rint(values).astype(int)[..., None], 3, 2)


def over(pixels: np.ndarray, alpha: np.ndarray, behind: tuple[int, int, int]) -> np.ndarray:
    share = alpha[..., None] / 255
    return pixels * share + np.asarray(behind) * (1 - share)


def luma(pixels: np.ndarray) -> np.ndarray:
    return pixels @ (0.299, 0.587, 0.114)


def premultiplied() -> Image.Image:
    return Image.fromarray(np.dstack((RGB, ALPHA))).convert("RGBa")


def palette(transparent: int | None = None) -> Image.Image:
    """Colours 0 to 29 of a palette in turn, one of them transparent."""
    image = Image.fromarray(np.arange(30, dtype=np.uint8).reshape(HEIGHT, WIDTH), "P")
    image.putpalette(RGB.flatten().tolist())
    if transparent is not None:
        image.info["transparency"] = transparent
    return image


def hsv() -> tuple[Image.Image, np.ndarray]:
    """Full saturation and value at six hues: red, yellow, green, cyan, blue and magenta."""
    hue = np.tile(np.asarray([0, 42.5, 85, 127.5, 170, 212.5]).round().astype(np.uint8), (HEIGHT, 1))
    full = np.full_like(hue, 255)
    image = Image.merge("HSV", [Image.fromarray(each) for each in (hue, full, full)])
    colours = [(255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 255, 255), (0, 0, 255), (255, 0, 255)]
    return image, np.tile(np.asarray(colours), (HEIGHT, 1, 1))


def ycbcr() -> np.ndarray:
    y, cb, cr = (each.astype(float) for each in np.moveaxis(RGB, 2, 0))
    red, blue = y + 1.402 * (cr - 128), y + 1.772 * (cb - 128)
    green = y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128)
    return np.stack((red, green, blue), 2).clip(0, 255)


def cmyk(stored: np.ndarray) -> np.ndarray:
    ink = stored.astype(float) / 255
    return 255 * (1 - ink[..., :3]) * (1 - ink[..., 3:])


CMYK = np.dstack((RGB, GREY // 2))
NEUTRAL = np.linspace(0, 100, WIDTH)  # L* of CIE Lab, whose luminance is ((L + 16) / 116) ** 3 above 8
LUMINANCE = np.where(NEUTRAL > 8, ((NEUTRAL + 16) / 116) ** 3, NEUTRAL / 903.3)
SRGB = np.where(LUMINANCE > 0.0031308, 1.055 * LUMINANCE ** (1 / 2.4) - 0.055, 12.92 * LUMINANCE)
# a* and b* are signed bytes in a file.
LAB = np.stack((np.tile(NEUTRAL * 2.55, (HEIGHT, 1)).round(), *np.zeros((2, HEIGHT, WIDTH))), 2).astype(np.uint8)

# mode -> the image, its right RGB pixels on a white background, and by how much they may differ
MODE_TABLE = {
    "1": (Image.fromarray(GREY > 127), grey3(np.where(GREY > 127, 255, 0)), 0),
    "L": (Image.fromarray(GREY), grey3(GREY), 0),
    "LA": (Image.fromarray(np.dstack((GREY, ALPHA))), over(grey3(GREY), ALPHA, (255,) * 3), 1),
    "La": (Image.fromarray(np.dstack((GREY, ALPHA))).convert("La"), over(grey3(GREY), ALPHA, (255,) * 3), 2),
    "P": (palette(), RGB, 0),
    "PA": (palette().convert("PA"), RGB, 0),
    "RGB": (Image.fromarray(RGB), RGB, 0),
    "RGBA": (Image.fromarray(np.dstack((RGB, ALPHA))), over(RGB, ALPHA, (255,) * 3), 1),
    "RGBa": (premultiplied(), over(RGB, ALPHA, (255,) * 3), 2),
    "RGBX": (Image.fromarray(RGB).convert("RGBX"), RGB, 0),
    "CMYK": (Image.fromarray(CMYK, "CMYK"), cmyk(CMYK), 1),
    "YCbCr": (Image.fromarray(RGB, "YCbCr"), ycbcr(), 1),
    "HSV": (*hsv(), 8),
    "LAB": (Image.fromarray(LAB, "LAB"), grey3(np.tile(SRGB * 255, (HEIGHT, 1))), 3),
    "I;16": (Image.fromarray(DEEP), grey3(DEEP / 257), 0),
    "I;16L": (Image.frombytes("I;16L", (WIDTH, HEIGHT), DEEP.astype("<u2").tobytes()), grey3(DEEP / 257), 0),
    "I;16B": (Image.frombytes("I;16B", (WIDTH, HEIGHT), DEEP.astype(">u2").tobytes()), grey3(DEEP / 257), 0),
}
REFUSED = {"F": "float", "I": "32-bit integer"}


@pytest.mark.filterwarnings("ignore:'mode' parameter")
@pytest.mark.parametrize("mode", MODE_TABLE)
def test_every_mode_becomes_rgb_by_its_formula(mode):
    image, expected, tolerance = MODE_TABLE[mode]
    assert image.mode == mode
    made = converted(image)
    assert (made.mode, made.size) == ("RGB", (WIDTH, HEIGHT))
    np.testing.assert_allclose(np.asarray(made).astype(float), expected, rtol=0, atol=tolerance + 0.5)


@pytest.mark.parametrize("mode", MODE_TABLE)
def test_every_mode_becomes_the_channels_that_are_asked_for(mode):
    image, expected, tolerance = MODE_TABLE[mode]
    grey, four = converted(image, 1), converted(image, 4)
    assert (grey.mode, four.mode) == ("L", "RGBA")
    np.testing.assert_allclose(np.asarray(grey).astype(float), luma(expected), rtol=0, atol=tolerance + 1)
    if "A" not in mode.upper().replace("LAB", ""):
        assert (np.asarray(four)[..., 3] == 255).all()
        assert np.array_equal(np.asarray(four)[..., :3], np.asarray(converted(image)))


def test_the_table_has_every_mode_of_pillow():
    known = set(getattr(Image, "MODES", [])) - {"I;16N"}
    assert known <= MODE_TABLE.keys() | REFUSED.keys()


@pytest.mark.parametrize("mode", REFUSED)
def test_pixels_of_unknown_range_are_refused_in_words(mode):
    with pytest.raises(ValueError, match=f"{REFUSED[mode]} pixels of unknown range: save them as 8-bit or unsigned"):
        converted(Image.new(mode, (2, 2)))


# files ------------------------------------------------------------------------------------------------------------

DEEP3, DEEP4 = np.dstack((DEEP, DEEP[::-1], DEEP[:, ::-1])), np.dstack((DEEP, DEEP, DEEP[::-1], DEEP[:, ::-1]))
KEYED = np.where((DEEP[1, 2] == DEEP)[..., None], 255, grey3(DEEP / 257))
TWELVE = DEEP >> 4


def packed(values: np.ndarray) -> bytes:
    """Values of 12 bits, two in three bytes."""
    pairs = values.reshape(-1, 2).astype(int).tolist()
    return b"".join(bytes((a >> 4, (a & 15) << 4 | b >> 8, b & 255)) for a, b in pairs)


FILES = {
    "png grey 8": (png(GREY[..., None], 0), grey3(GREY), 0),
    "png grey 16": (png(DEEP[..., None], 0), grey3(DEEP / 257), 0),
    "png grey 16, one value transparent": (
        png(DEEP[..., None], 0, before=chunk(b"tRNS", struct.pack(">H", DEEP[1, 2]))), KEYED, 0,
    ),
    "png rgb 16": (png(DEEP3, 2), DEEP3 / 257, 1),
    "png rgb 16, one colour transparent": (
        png(DEEP3, 2, before=chunk(b"tRNS", struct.pack(">HHH", *DEEP3[1, 2].tolist()))),
        np.where((DEEP3[1, 2] == DEEP3).all(2)[..., None], 255, DEEP3 / 257), 1,
    ),
    "png rgb 8, one colour transparent": (
        png(RGB, 2, before=chunk(b"tRNS", struct.pack(">HHH", *RGB[1, 2].tolist()))),
        np.where((RGB[1, 2] == RGB).all(2)[..., None], 255, RGB), 0,
    ),
    "png grey and alpha 16": (
        png(np.dstack((DEEP, DEEP[::-1])), 4), over(grey3(DEEP / 257), DEEP[::-1] / 257, (255,) * 3), 2,
    ),
    "png rgba 16": (png(DEEP4, 6), over(DEEP4[..., :3] / 257, DEEP4[..., 3] / 257, (255,) * 3), 2),
    "png palette, one colour transparent": (
        file_of(palette(8), "PNG", transparency=8), np.where((RGB[1, 2] == RGB).all(2)[..., None], 255, RGB), 0,
    ),
    "png palette, alphas": (
        file_of(palette(), "PNG", transparency=ALPHA.tobytes()), over(RGB, ALPHA, (255,) * 3), 1,
    ),
    "tiff grey 16": (tiff(DEEP.astype("<u2").tobytes(), 16), grey3(DEEP / 257), 0),
    "tiff grey 16, white at 0": (tiff(DEEP.astype("<u2").tobytes(), 16, photometric=0), grey3(255 - DEEP / 257), 0),
    "tiff grey 8, white at 0": (tiff(GREY.tobytes(), 8, photometric=0), grey3(255 - GREY.astype(float)), 0),
    "tiff grey 12": (tiff(packed(TWELVE), 12), grey3(TWELVE * (255 / 4095)), 0),
    "tiff big-endian grey 16": (
        file_of(Image.frombytes("I;16B", (WIDTH, HEIGHT), DEEP.astype(">u2").tobytes()), "TIFF"), grey3(DEEP / 257), 0,
    ),
    "tiff cmyk": (file_of(MODE_TABLE["CMYK"][0], "TIFF"), cmyk(CMYK), 1),
    "tiff lab": (file_of(MODE_TABLE["LAB"][0], "TIFF"), MODE_TABLE["LAB"][1], 3),
    "pgm 16": (b"P5 6 5 65535\n" + DEEP.astype(">u2").tobytes(), grey3(DEEP / 257), 0),
    "pgm 12": (b"P5 6 5 4095\n" + TWELVE.astype(">u2").tobytes(), grey3(TWELVE * (255 / 4095)), 1),
    "ppm 16": (b"P6 6 5 65535\n" + DEEP3.astype(">u2").tobytes(), DEEP3 / 257, 1),
    "jpeg cmyk": (
        file_of(Image.new("CMYK", (WIDTH, HEIGHT), (200, 100, 50, 30)), "JPEG", quality=100),
        np.tile(cmyk(np.asarray([[[200, 100, 50, 30]]])), (HEIGHT, WIDTH, 1)), 3,
    ),
    "gif, one colour transparent": (
        file_of(palette(8), "GIF", transparency=8), np.where((RGB[1, 2] == RGB).all(2)[..., None], 255, RGB), 0,
    ),
    "webp with alpha": (
        file_of(Image.fromarray(np.dstack((RGB, ALPHA))), "WEBP", lossless=True), over(RGB, ALPHA, (255,) * 3), 2,
    ),
    "bmp": (file_of(Image.fromarray(RGB), "BMP"), RGB, 0),
    "jpeg 2000, grey 16": (file_of(Image.fromarray(DEEP), "JPEG2000"), grey3(DEEP / 257), 0),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_files_of_every_kind_have_the_right_pixels(case):
    data, expected, tolerance = FILES[case]
    if "2000" in case and not features.check("jpg_2000"):
        pytest.skip("this Pillow reads no JPEG 2000")
    made = decoded(data)
    assert made.mode == "RGB"
    np.testing.assert_allclose(np.asarray(made).astype(float), expected, rtol=0, atol=tolerance + 0.5)


@pytest.mark.parametrize(("bits", "sample", "kind"), [(32, 1, "<u4"), (32, 2, "<i4"), (32, 3, "<f4"), (16, 2, "<i2"),
                                                      (8, 2, "i1")])  # fmt: skip
def test_tiffs_of_unknown_range_are_refused(bits, sample, kind):
    with pytest.raises(ValueError, match="of unknown range: save them as 8-bit or unsigned 16-bit"):
        decoded(tiff(GREY.astype(kind).tobytes(), bits, sample))


def test_a_16_bit_image_keeps_its_shades():
    """Clipped instead of scaled, 99 of 100 of these values are white."""
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    for data in (png(ramp[..., None], 0), file_of(Image.fromarray(ramp), "TIFF")):
        assert np.asarray(decoded(data, 1)).flatten().tolist() == list(range(256))


# backgrounds ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["black", "#102030", "white"])
def test_transparent_pixels_lie_on_the_named_colour(name):
    behind = colour(name)
    data = file_of(Image.fromarray(np.dstack((RGB, ALPHA))), "PNG")
    np.testing.assert_allclose(np.asarray(decoded(data, 3, behind)), over(RGB, ALPHA, behind), rtol=0, atol=1.5)
    expected = luma(over(RGB, ALPHA, behind))
    np.testing.assert_allclose(np.asarray(decoded(data, 1, behind)).astype(float), expected, rtol=0, atol=2)
    assert np.array_equal(np.asarray(decoded(data, 4, behind)), np.dstack((RGB, ALPHA)))


def test_a_colour_that_is_none_is_refused():
    with pytest.raises(UserError, match="no colour 'blanc'"):
        colour("blanc")


# orientation, frames, sizes ---------------------------------------------------------------------------------------


def upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """What EXIF means by each orientation, by numpy."""
    turned = {
        1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1], 5: stored.swapaxes(0, 1),
        6: np.rot90(stored, -1), 7: stored[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(stored),
    }  # fmt: skip
    return turned[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "PNG, exif last"])
def test_images_are_turned_upright_and_measured_after_it(kind, orientation):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    flat = np.kron(RGB, np.ones((8, 8, 1), np.uint8))  # large areas, which lossy formats keep
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    if kind == "PNG, exif last":
        data = png(flat, 2, after=chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    else:
        data = file_of(Image.fromarray(flat), kind, exif=exif, **({"quality": 100} if kind in ("JPEG", "AVIF") else {}))
    made = np.asarray(decoded(data)).astype(int)
    expected = upright(flat, orientation)
    assert made.shape == expected.shape
    assert np.abs(made - expected).mean() < 25
    if kind != "PNG, exif last":  # which is found when it is decoded
        assert size_of(opened(io.BytesIO(data))) == expected.shape[:2]


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"])
def test_damaged_exif_data_turn_nothing(exif):
    data = file_of(Image.fromarray(RGB), "JPEG", exif=exif)
    assert decoded(data).size == (WIDTH, HEIGHT)
    assert size_of(opened(io.BytesIO(data))) == (HEIGHT, WIDTH)


def test_an_unknown_orientation_turns_nothing():
    assert set(TURNS) == set(range(2, 9))
    exif = Image.Exif()
    exif[ORIENTATION] = 9
    data = file_of(Image.fromarray(RGB), "PNG", exif=exif)
    assert np.array_equal(np.asarray(decoded(data)), RGB)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_several_frames_the_first_is_taken(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((200, 0, 0), (0, 200, 0), (0, 0, 200))]
    data = file_of(frames[0], kind, save_all=True, append_images=frames[1:])
    assert opened(io.BytesIO(data)).n_frames == 3
    red, green, blue = np.asarray(decoded(data)).mean((0, 1))
    assert red > 190
    assert max(green, blue) < 10


def test_lab_is_undone_by_the_same_profiles():
    """A picture to Lab and back, by littlecms, is the same picture but for rounding."""
    soft = np.asarray(Image.fromarray(RGB // 2 + 64))
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(Image.fromarray(soft), srgb, lab, outputMode="LAB")
    assert np.abs(np.asarray(converted(image)).astype(int) - soft).max() <= 6


def test_modes_are_by_number_of_channels():
    assert MODES == {1: "L", 3: "RGB", 4: "RGBA"}
