"""Files that cannot be read: all of them are found before training, named at once, and refused or skipped."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny_coco import make_coco
from PIL import Image

from famkd.data import build_data, unreadable
from famkd.data.folder_source import of_classes
from famkd.data.unreadable import Found, find_unreadable, settle, why_unreadable
from famkd.errors import UserError

NOISE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)


def file_of(kind: str, mode: str = "RGB", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(NOISE).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def flipped(data: bytes) -> bytes:
    """A PNG with one changed byte in its pixels."""
    place = data.index(b"IDAT") + 200
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def scrambled(data: bytes) -> bytes:
    """A JPEG with the header of another one in the middle of its data, and its end in place."""
    middle, header = len(data) // 2, data[data.index(b"\xff\xc0") :][:19]
    return data[:middle] + header + data[middle + 19 :]


JPEG, PNG = file_of("JPEG", quality=95), file_of("PNG")
BAD = {  # what a file holds, and the reason that is given
    "empty": (b"", "empty"),
    "text": (b"no picture at all", "no image, or of a kind that Pillow does not read"),
    "zeros": (bytes(3000), "no image"),
    "page": (b"<!DOCTYPE html><html>404</html>", "a web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200), "HEIC: convert it to JPEG or PNG"),
    "jpeg cut early": (JPEG[:200], "truncated"),
    "jpeg cut late": (JPEG[:-300], "truncated"),
    "png cut early": (PNG[:40], ""),
    "png cut late": (PNG[:-300], ""),
    "jpeg without its end": (JPEG[:-2], "truncated"),
    "png with a flipped byte": (flipped(PNG), ""),
    "gif cut": (file_of("GIF")[:-500], ""),
    "webp cut": (file_of("WEBP")[:-300], ""),
    "bmp cut": (file_of("BMP")[:-300], "truncated"),
    "tiff cut": (file_of("TIFF")[:3000], ""),
    "float tiff": (file_of("TIFF", "F"), "float pixels of unknown range"),
    "integer tiff": (file_of("TIFF", "I"), "32-bit integer pixels of unknown range"),
}
GOOD = {
    "jpeg": JPEG, "png": PNG, "gif": file_of("GIF"), "webp": file_of("WEBP"), "bmp": file_of("BMP"),
    "tiff": file_of("TIFF"), "jpeg with bytes behind": JPEG + bytes(10), "jpeg with a trailer": JPEG + b"trailer" * 30,
    "png without its end": PNG[:-12], "progressive jpeg": file_of("JPEG", progressive=True),
    "cmyk jpeg": file_of("JPEG", "CMYK"), "grey png": file_of("PNG", "L"), "ppm": file_of("PPM"),
}  # fmt: skip


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("case", BAD)
def test_every_kind_of_damage_is_found_with_its_reason(case, whole):
    data, words = BAD[case]
    found = why_unreadable(io.BytesIO(data), whole=whole)
    assert found
    assert words in found
    assert "\n" not in found


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("case", GOOD)
def test_nothing_is_wrong_with_good_files(case, whole):
    assert why_unreadable(io.BytesIO(GOOD[case]), whole=whole) == ""


def test_damage_inside_a_jpeg_is_found_where_the_set_is_decoded_whole():
    assert why_unreadable(io.BytesIO(scrambled(JPEG)), whole=False) == ""
    assert why_unreadable(io.BytesIO(scrambled(JPEG)), whole=True)


def test_a_png_is_checked_by_its_checksums_without_being_decoded(monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda *a: pytest.fail("decoded"))
    assert why_unreadable(io.BytesIO(PNG), whole=False) == ""


# sets -------------------------------------------------------------------------------------------------------------


def write_tree(root: Path, bad: dict[str, bytes]) -> None:
    """Five good images in each of two classes of train and val, some of them replaced."""
    for split in ("train", "val"):
        for name in ("a", "b"):
            (root / split / name).mkdir(parents=True)
            for n in range(5):
                path = f"{split}/{name}/{n}.png"
                (root / path).write_bytes(bad.get(path, PNG))


def write_shards(root: Path, bad: dict[str, bytes]) -> None:
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        with tarfile.open(root / split / "0.tar", "w") as tar:
            for label, name in enumerate(("a", "b")):
                for n in range(5):
                    image = bad.get(f"{split}/{name}/{n}.png", PNG)
                    for ending, data in (("png", image), ("cls", str(label).encode())):
                        info = tarfile.TarInfo(f"{name}/{n}.{ending}")
                        info.size = len(data)
                        tar.addfile(info, io.BytesIO(data))


OPEN: dict[str, tuple[Callable[[Path, dict[str, bytes]], None], str, dict]] = {
    "folder": (write_tree, "folder", {}),
    "imagenet": (write_tree, "imagenet", {"size": 16, "workers": 0}),
    "webdataset": (write_shards, "imagenet", {"size": 16, "workers": 0}),
}
FOUR = {"train/a/1.png": b"", "train/b/3.png": PNG[:-300], "val/a/0.png": b"no picture", "val/b/4.png": flipped(PNG)}


@pytest.mark.parametrize("reader", OPEN)
def test_all_unreadable_files_are_named_at_once_and_refused(tmp_path, reader):
    write, name, options = OPEN[reader]
    write(tmp_path, FOUR)
    with pytest.raises(UserError) as raised:
        build_data(name, str(tmp_path), 2, **options)
    words = str(raised.value)
    assert words.startswith("4 of 20 images cannot be read: ")
    assert "a/1" in words and "(empty)" in words and "b/3" in words  # noqa: PT018
    assert words.endswith("and 1 more. Restore or remove them, or pass --data.unreadable skip.")


@pytest.mark.parametrize("reader", OPEN)
def test_they_are_left_out_where_that_is_asked_for(tmp_path, reader):
    write, name, options = OPEN[reader]
    write(tmp_path, FOUR)
    with pytest.warns(UserWarning, match="4 of 20 images cannot be read and are left out: ") as warned:
        data = build_data(name, str(tmp_path), 2, unreadable="skip", **options)
    assert len([each for each in warned if "left out" in str(each.message)]) == 1
    assert data.labels.tolist() == [0] * 4 + [1] * 4
    assert (data.steps, data.n_test) == (4, 8)
    tested = [(i, target) for b in data.test() for i, target in zip(b.index.tolist(), b.targets.tolist())]
    assert tested == list(enumerate([0] * 4 + [1] * 4))
    seen = [i for piece in data.epoch(1) for i in data.take(piece).index.tolist()]
    assert sorted(seen) == list(range(8))


@pytest.mark.parametrize("reader", OPEN)
def test_a_single_one_is_refused_by_name(tmp_path, reader):
    write, name, options = OPEN[reader]
    write(tmp_path, {"val/b/2.png": b""})
    words = r"2(\.png)? cannot be read as an image \(empty\): restore or remove it, or pass --data.unreadable skip"
    with pytest.raises(UserError, match=words):
        build_data(name, str(tmp_path), 2, **options)


@pytest.mark.parametrize("reader", OPEN)
def test_a_class_that_loses_all_of_its_images_is_refused(tmp_path, reader):
    write, name, options = OPEN[reader]
    write(tmp_path, {f"train/b/{n}.png": b"" for n in range(5)})
    with pytest.raises(UserError, match=r"No training image of (b|1) can be read: restore some, or remove the class"):
        build_data(name, str(tmp_path), 2, unreadable="skip", **options)


def test_one_tree_for_training_and_test_is_counted_once(tmp_path):
    write_tree(tmp_path, FOUR)
    with pytest.raises(UserError, match=r"^2 of 10 images cannot be read"):
        build_data("imagenet", str(tmp_path / "train"), 2, splits=(".", "."), workers=0)


def test_the_check_of_shards_is_kept_in_their_index(tmp_path, monkeypatch):
    write_shards(tmp_path, FOUR)
    for _ in range(2):
        with pytest.raises(UserError, match=r"^4 of 20 images"):
            build_data("imagenet", str(tmp_path), 2, workers=0)
        monkeypatch.setattr("famkd.data.shard_samples.why_unreadable", lambda *a, **b: pytest.fail("checked again"))


def coco_set(root: Path) -> Path:
    """A COCO of which one image is missing, one is cut off and one has another size than its annotations say."""
    make_coco(root)
    (root / "val2017/0.jpg").unlink()
    data = (root / "val2017/1.jpg").read_bytes()
    (root / "val2017/1.jpg").write_bytes(data[: len(data) // 2])
    (root / "val2017/2.jpg").write_bytes((root / "val2017/3.jpg").read_bytes())
    (root / "train2017/4.jpg").unlink()
    return root


def test_coco_names_missing_cut_off_and_differing_images_at_once(tmp_path):
    root = str(coco_set(tmp_path))
    options = {"sides": (64,), "longest": 100, "workers": 0}
    words = (r"3 of 5 images cannot be read: .*0\.jpg \(missing\), .*1\.jpg \(truncated\), .*2\.jpg \(it is 80x120, "
             r"height x width, but its annotations say 90x90\)\. Restore")  # fmt: skip
    with pytest.raises(UserError, match=words):
        build_data("coco", root, 2, **options)
    with pytest.warns(UserWarning, match="3 of 5 images cannot be read and are left out"):
        data = build_data("coco", root, 2, unreadable="skip", **options)
    batches = list(data.test())
    assert [batch.index.tolist() for batch in batches] == [[0], [1]]
    assert [len(batch.targets[0]["boxes"]) for batch in batches] == [3, 2]  # of the images 3, with a crowd, and 4
    with pytest.warns(UserWarning, match=r"1 of 5 images .* left out: .*4\.jpg \(missing\)"):
        assert data.steps == 2
    assert sorted(i for piece in data.epoch(1) for i in piece.index.tolist()) in ([0, 1, 2, 3],)


def test_coco_without_damage_is_read_without_a_word(tmp_path, recwarn):
    data = build_data("coco", str(make_coco(tmp_path)), 2, workers=0)
    assert data.n_test == 5
    assert not recwarn.list


# how the check runs -----------------------------------------------------------------------------------------------


def test_workers_find_the_same(tmp_path, monkeypatch):
    write_tree(tmp_path, FOUR)
    source = of_classes(tmp_path / "train", ["a", "b"])
    alone = find_unreadable(source, 0)
    assert list(alone) == [1, 8]
    monkeypatch.setattr(unreadable, "ALONE", 0)
    monkeypatch.setattr(unreadable, "CHUNK", 3)
    unreadable.forget()
    assert find_unreadable(source, 2) == alone


def test_a_second_check_of_the_same_files_is_not_run_and_of_changed_ones_is(tmp_path, monkeypatch):
    write_tree(tmp_path, FOUR)
    source = of_classes(tmp_path / "train", ["a", "b"])
    find_unreadable(source, 0)
    with monkeypatch.context() as patched:
        patched.setattr(unreadable, "why_unreadable", lambda *a, **b: pytest.fail("checked again"))
        assert list(find_unreadable(source, 0)) == [1, 8]
    (tmp_path / "train/a/2.png").write_bytes(b"x")
    assert list(find_unreadable(source, 0)) == [1, 2, 8]


def test_only_small_sets_are_decoded_whole(tmp_path, monkeypatch):
    write_tree(tmp_path, {"train/a/1.png": scrambled(JPEG)})
    source = of_classes(tmp_path / "train", ["a", "b"])
    assert list(find_unreadable(source, 0)) == [1]
    monkeypatch.setattr(unreadable, "WHOLE", 100)
    unreadable.forget()
    assert find_unreadable(source, 0) == {}


def test_nothing_is_said_where_nothing_is_wrong(recwarn):
    settle(Found({}, 10), "refuse")
    settle(Found({}, 10), "skip")
    assert not recwarn.list


def test_a_set_without_a_readable_image_is_refused_anyway():
    with pytest.raises(UserError, match=r"None of 2 images can be read: a \(empty\), b \(empty\)"):
        settle(Found({"a": "empty", "b": "empty"}, 2), "skip")


def test_names_do_not_control_the_terminal():
    with pytest.warns(UserWarning, match="left out") as warned:
        settle(Found({"\x1b[31m.png": "empty"}, 2), "skip")
    assert "\x1b" not in str(warned[0].message)


def test_the_option_is_part_of_the_recipe(small, tmp_path):
    recipe = small(
        "--data", "folder", "--root", str(tmp_path), "--data.unreadable", "skip", "--data.background", "black"
    )
    assert (recipe.data.unreadable, recipe.data.background) == ("skip", "black")
    assert json.loads(json.dumps(recipe.to_dict()))["data"]["unreadable"] == "skip"
