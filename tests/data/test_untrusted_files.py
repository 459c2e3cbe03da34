"""Data files that claim more than they hold, or hold something else, end in one sentence before memory is taken."""

import io
import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from famkd.data import build_data
from famkd.data.archives import npz
from famkd.data.folder_source import of_classes
from famkd.data.loader import FileImages
from famkd.data.pixels import decoded
from famkd.errors import UserError
from famkd.files import total_memory


def arrays(**changes) -> dict[str, np.ndarray]:
    x, y = np.zeros((3, 4, 4, 3), np.uint8), np.arange(3)
    return {"x_train": x, "y_train": y, "x_test": x, "y_test": y, **changes}


def header(shape: tuple[int, ...], kind: str) -> bytes:
    """The header of an .npy file, with no data behind it."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (63 - (len(text) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    ("shape", "kind", "words"),
    [
        ((10**6, 10**6), "|u1", "claims to be"),
        ((1 << 62, 4), "|u1", "claims to be"),
        ((10**12,), "<U0", "claims to be"),
        ((-1, 4, 4, 3), "|u1", "negative"),
        ((3,), "|O", "Object arrays cannot be loaded"),
    ],
)
def test_an_array_that_claims_more_than_its_file_holds_is_not_allocated(tmp_path, shape, kind, words):
    file = tmp_path / "a.npz"
    np.savez(file, **arrays())
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("class_names.npy", header(shape, kind))
    tracemalloc.start()
    with pytest.raises(UserError, match=rf"Cannot read .*a\.npz: .*{words}"):
        npz(str(file))
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class_names": np.array("abc")}, "class_names is .* it must be a row of texts"),
        ({"class_names": np.array([["a", "b", "c"]])}, "it must be a row of texts"),
        ({"class_names": np.zeros(3)}, "it must be a row of texts"),
        ({"class_names": np.zeros(100_001, np.int64)}, "has 100,001 names; give at most 100,000"),
        ({"y_train": np.array(1)}, "give one label each"),
        ({"y_train": np.array([0, 1, 10**17])}, "class indices from 0, as integers below 100,000"),
        ({"y_test": np.array([0, 1, 2**64 - 1], np.uint64)}, "integers below 100,000"),
        ({"x_train": np.zeros((3, 0, 4, 3), np.uint8)}, r"3 images, \(0, 4, 3\) each"),
    ],
)
def test_arrays_of_the_wrong_kind_are_refused(tmp_path, changes, words):
    np.savez(tmp_path / "a.npz", **arrays(**changes))
    with pytest.raises(UserError, match=words):
        npz(str(tmp_path / "a.npz"))


def test_an_encrypted_archive_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays())
    data = bytearray((tmp_path / "a.npz").read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(mark)
        while at >= 0:
            data[at + place] |= 1  # the flag "encrypted" of each file
            at = data.find(mark, at + 1)
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(UserError, match="encrypted"):
        npz(str(tmp_path / "a.npz"))


def test_the_memory_of_this_machine_is_known():
    assert total_memory() > 1 << 28


@pytest.fixture
def tree(tmp_path) -> Path:
    """A folder of images for training and testing, each of 8 x 8 pixels."""
    for place in ("train/a", "train/b", "val/a"):
        (tmp_path / place).mkdir(parents=True)
        Image.new("RGB", (8, 8), (9, 9, 9)).save(tmp_path / place / "0.png")
    return tmp_path


def test_a_folder_larger_than_the_memory_is_refused_before_it_is_read(tree):
    with pytest.raises(UserError, match=r"too large to be held: it takes .* GiB"):
        build_data("folder", f"{tree}@99999", 2)


def test_a_file_with_too_many_pixels_is_not_passed_to_the_devices_decoder(tree):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    size = data.index(b"\xff\xc0") + 5
    data[size : size + 4] = struct.pack(">HH", 65_500, 65_500)
    (tree / "train/a/0.jpg").write_bytes(data)
    items = FileImages(of_classes(tree / "train", ["a", "b"]), 16, 0, False, raw=True)
    assert items.one(0, 0) == (None, 0, [0])
    assert items.one(0, 1)[1:] == (1, [])


def test_a_line_of_pixels_is_not_scaled_to_gigabytes(tree):
    Image.new("RGB", (1, 60_000)).save(tree / "val/a/1.png")
    data = build_data("imagenet", str(tree), 2, size=200, workers=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the image may be shown or left out
        assert 1 <= sum(len(batch.images) for batch in data.test()) <= 2


def test_an_image_is_decoded_by_its_content_whatever_its_name():
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM", "TIFF"):
        buffer = io.BytesIO()
        Image.new("RGB", (4, 3)).save(buffer, kind)
        assert decoded(buffer.getvalue()).size == (4, 3)
