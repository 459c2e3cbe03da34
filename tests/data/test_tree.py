"""Image folders as people keep them: hidden things, names of splits, empty classes, links, accents, sizes."""

import os
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from famkd.data import build_data
from famkd.data.folder_source import of_classes, read_folders
from famkd.data.folders import path_and_size
from famkd.data.transforms import size_from
from famkd.data.tree import find_split, image_files, is_hidden
from famkd.errors import UserError

READERS = {"folder": {}, "imagenet": {"size": 8, "workers": 0}}
NFC, NFD = (unicodedata.normalize(form, "café crème") for form in ("NFC", "NFD"))


def put(root: Path, *names: str, size: tuple[int, int] = (8, 8)) -> Path:
    """Images under a root, each of one grey value, which follows from its class."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        value = sum(name.rpartition("/")[0].encode()) % 256
        Image.new("RGB", size, (value,) * 3).save(root / name, format="PNG")
    return root


def tree(root: Path, train: str = "train", test: str = "val") -> Path:
    return put(root, *(f"{split}/{name}/{n}.png" for split in (train, test) for name in ("a", "b") for n in range(2)))


def opened(reader: str, root: Path, **options):
    return build_data(reader, str(root), 2, **READERS[reader] | options)


def refused(reader: str, root: Path, **options) -> str:
    """The sentence that refuses a root."""
    with pytest.raises(UserError) as raised:
        opened(reader, root, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# hidden things ----------------------------------------------------------------------------------------------------

HIDDEN = (
    "train/.ipynb_checkpoints/1.png", "train/__MACOSX/1.png", "train/a/._0.png", "train/a/.DS_Store",
    "train/a/Thumbs.db", "train/a/@eaDir/0.png/SYNOPHOTO_THUMB_M.png", "train/.git/1.png", "val/b/._1.png",
    "val/.ipynb_checkpoints/1.png", ".cache/train/a/1.png", "train/a/.ipynb_checkpoints/0-checkpoint.png",
    "__MACOSX/train/a/._0.png", "train/$RECYCLE.BIN/1.png", "train/desktop.ini", "train/a/__pycache__/1.png",
)  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_what_systems_and_tools_leave_is_no_data(tmp_path, reader):
    put(tree(tmp_path), *HIDDEN)
    for name in HIDDEN:
        if "._" in name:
            (tmp_path / name).write_bytes(b"\0\5\26\7 no image")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = opened(reader, tmp_path)
    assert data.classes == ["a", "b"]
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert data.n_test == 4


def test_hidden_is_decided_by_the_name_in_any_case():
    hidden = (".x", "._x.png", "__MACOSX", "thumbs.db", "THUMBS.DB", "@eaDir", "Icon\r", "lost+found")
    assert all(map(is_hidden, hidden))
    assert not any(map(is_hidden, ("a.png", "thumbs.db.png", "eaDir", "x.", "macosx", "_x", "..x"[2:])))


# splits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("test", ["val", "Valid", "VALIDATION", "test", "Testing"])
@pytest.mark.parametrize("train", ["train", "Training", "TRAIN"])
def test_splits_are_found_by_their_usual_names_in_any_case(tmp_path, reader, train, test):
    data = opened(reader, tree(tmp_path, train, test))
    assert (len(data.labels), data.n_test) == (4, 4)


@pytest.mark.parametrize(("reader", "own"), [("folder", "test"), ("imagenet", "val")])
def test_of_validation_and_test_images_each_reader_takes_its_usual_ones(tmp_path, reader, own):
    tree(tmp_path, test="val")
    put(tmp_path, *(f"test/{name}/{n}.png" for name in "ab" for n in range(5)))
    assert opened(reader, tmp_path).n_test == {"test": 10, "val": 4}[own]
    assert opened(reader, tmp_path, splits=("train", "val")).n_test == 4
    assert opened(reader, tmp_path, splits=("train", "test")).n_test == 10
    assert len(opened(reader, tmp_path, splits=("test", "val")).labels) == 10


@pytest.mark.parametrize("reader", READERS)
def test_two_folders_for_one_split_are_both_named(tmp_path, reader):
    put(tree(tmp_path, "Train", "valid"), "validation/a/0.png")
    words = "has valid, validation: say which is meant by --data.splits"
    assert words in refused(reader, tmp_path, splits=("train", "val"))
    assert opened(reader, tmp_path, splits=("train", "Valid")).n_test == 4


def test_the_very_name_comes_first():
    assert find_split("val", ["Val", "val", "valid"], "") == "val"
    assert find_split("val", ["VAL", "valid"], "") == "VAL"
    assert find_split("dogs", ["Dogs", "cats"], "") == "Dogs"
    assert find_split("dogs", [".dogs"], "") is None


@pytest.mark.parametrize("reader", READERS)
def test_a_root_without_splits_says_what_is_there_and_what_is_wanted(tmp_path, reader):
    wanted = "Point --data.root at a folder with train/CLASS/*.jpg and"
    assert wanted in refused(reader, tmp_path / "nowhere")
    assert "nowhere does not exist" in refused(reader, tmp_path / "nowhere")
    assert f"{tmp_path} holds nothing" in refused(reader, tmp_path)
    put(tmp_path, "cat/0.png", "dog/0.png", "ant/0.png", "bee/0.png", "readme.png")
    words = refused(reader, tmp_path)
    assert "holds 4 folders (ant, bee, cat and 1 more) and 1 file (.png)" in words
    assert wanted in words
    tree(tmp_path / "inner")
    assert f"Did you mean {tmp_path / 'inner'}?" in refused(reader, tmp_path)
    (tmp_path / "data.zip").write_bytes(b"PK")
    assert "is a file, not a folder: unpack it" in refused(reader, tmp_path / "data.zip")


@pytest.mark.parametrize("reader", READERS)
def test_a_split_without_classes_says_what_it_holds(tmp_path, reader):
    put(tmp_path, "train/0.png", "train/1.png", "val/a/0.png")
    assert "train needs one folder per class" in refused(reader, tmp_path)
    assert "it holds 2 files (.png)" in refused(reader, tmp_path)


# classes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reader", READERS)
def test_classes_of_one_split_only_are_named(tmp_path, reader):
    put(tree(tmp_path), "train/c/0.png", "train/d/0.png")
    with pytest.warns(UserWarning, match="val has no images of c, d: these are not tested"):
        assert opened(reader, tmp_path).classes == ["a", "b", "c", "d"]
    put(tmp_path, "val/e/0.png", "val/A/0.png")
    words = refused(reader, tmp_path)
    assert "val has classes that" in words
    assert "lacks: A, e. Did you mean a?" in words


@pytest.mark.parametrize("reader", READERS)
def test_empty_class_folders_are_named_with_what_they_hold(tmp_path, reader):
    tree(tmp_path)
    for name in ("train/c", "train/d", "val/d"):
        (tmp_path / name).mkdir()
    (tmp_path / "train/d/list.txt").write_text("no image")
    words = refused(reader, tmp_path)
    assert "train has no images of c (the folder holds nothing), d (the folder holds 1 file (.txt))." in words
    put(tmp_path, "train/c/0.png", "train/d/0.png")
    with pytest.warns(UserWarning, match="val has no images of c, d: these are not tested"):
        opened(reader, tmp_path)


@pytest.mark.parametrize("reader", READERS)
def test_accents_that_are_stored_in_two_ways_are_one_class(tmp_path, reader):
    assert NFC != NFD
    put(tmp_path, f"train/{NFD}/bel été 1.png", f"val/{NFC}/b.png", "train/日本 語/ü.png", "val/日本 語/ü.png")
    data = opened(reader, tmp_path)
    assert data.classes == [NFC, "日本 語"]
    assert [batch.targets.tolist() for batch in data.test()] == [[0, 1]]


# links ------------------------------------------------------------------------------------------------------------


def test_links_are_followed_and_loops_end(tmp_path):
    put(tmp_path, "store/a/0.png", "store/b/0.png", "store/b/deep/1.png", "store/c.png")
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        for name in "ab":
            (tmp_path / split / name).symlink_to(tmp_path / "store" / name)
    loops = {"train/a/self": ".", "train/a/up": "..", "train/loop": "..", "train/b/deep/top": "../..", "train/me": "me",
             "train/a/me.png": "me.png"}  # fmt: skip
    for place, target in loops.items():
        (tmp_path / place).symlink_to(target)
    (tmp_path / "train/a/linked.png").symlink_to(tmp_path / "store/c.png")
    data = read_folders(tmp_path)
    assert data.classes == ["a", "b"]
    names = [os.path.relpath(data.train.name(i), tmp_path) for i in range(len(data.train))]
    assert names == ["train/a/0.png", "train/a/linked.png", "train/a/me.png", "train/b/0.png", "train/b/deep/1.png"]
    assert "train/a/me.png (a link to nothing)" in refused("imagenet", tmp_path)


def test_a_folder_that_is_linked_twice_is_read_once(tmp_path):
    put(tmp_path, "a/x/0.png")
    (tmp_path / "a/y").symlink_to("x")
    assert len(list(image_files(tmp_path / "a"))) == 1


def test_a_link_to_nothing_is_unreadable(tmp_path):
    tree(tmp_path)
    (tmp_path / "train/a/gone.png").symlink_to("nowhere.png")
    for reader in READERS:
        words = refused(reader, tmp_path)
        assert "gone.png cannot be read as an image (a link to nothing)" in words


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    tree(tmp_path)

    def scandir(folder, real=os.scandir):
        if str(folder).endswith("train/b"):
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    assert "Cannot read the folder" in refused("imagenet", tmp_path)
    assert "train/b: Permission denied" in refused("folder", tmp_path)


# endings ----------------------------------------------------------------------------------------------------------


def test_endings_are_known_in_any_case_at_any_depth(tmp_path):
    names = ("0.JPG", "1.Jpeg", "2.jfif", "3.PNG", "4.BMP", "5.gif", "6.WebP", "7.TIF", "8.tiff", "9.ppm", "x/10.pgm")
    put(tmp_path, *(f"{split}/a/{name}" for split in ("train", "val") for name in names))
    put(tmp_path, "train/a/notes.txt", "train/a/0.png.bak")
    for reader in READERS:
        assert len(opened(reader, tmp_path).labels) == len(names)


# sizes ------------------------------------------------------------------------------------------------------------


SIZES = {0: None, "0": None, 64: (64, 64), "64": (64, 64), "96x64": (96, 64), "96X64": (96, 64)}


@pytest.mark.parametrize("text", SIZES)
def test_a_size_is_one_number_or_height_x_width(text):
    assert size_from(text) == SIZES[text]


@pytest.mark.parametrize("text", ["x", "64x", "x64", "-1", -1, "64x0", "0x64", "64.5", "1x2x3", "", "999999", "64*64"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(UserError, match="is no size in pixels: write 64, or 96x64 for height x width"):
        size_from(text)


def test_a_root_may_end_in_a_size(tmp_path):
    assert path_and_size("data@64") == (Path("data"), (64, 64))
    assert path_and_size("a@b/data@96x64") == (Path("a@b/data"), (96, 64))
    assert path_and_size("a@b/data") == (Path("a@b/data"), None)
    (tmp_path / "set@2").mkdir()
    assert path_and_size(f"{tmp_path}/set@2") == (tmp_path / "set@2", None)
    for root in ("data@", "data@x64", "data@64x", "data@large", "@64", "data@0", "data@64x64x3"):
        with pytest.raises(UserError, match=r"does not end in a size: write PATH@64, or PATH@96x64"):
            path_and_size(root)


def test_images_are_cut_to_height_x_width(tmp_path):
    """Stripes across the height tell whether height and width were swapped, and that the middle is kept."""
    rows = np.repeat(np.arange(0, 240, 10, dtype=np.uint8)[:, None], 24, 1)
    for place in ("train/a/0.png", "val/a/0.png"):
        (tmp_path / place).parent.mkdir(parents=True)
        Image.fromarray(rows).save(tmp_path / place)
    data = build_data("folder", f"{tmp_path}@12x6", 1, augment=False)
    assert data.size == (12, 6)
    pixels = data.pictures([0]).pixels[0, :, :, 0]
    assert pixels.shape == (12, 6)
    assert pixels[:, 0].tolist() == pixels[:, 5].tolist()
    assert pixels[0, 0] < 20 < 210 < pixels[-1, 0]  # the height is kept, the width is cut
    data = build_data("imagenet", str(tmp_path), 1, size="12x6", workers=0)
    assert data.size == (12, 6)
    assert torch.equal(data.pictures([0]).pixels[0, :, 0, 0], data.pictures([0]).pixels[0, :, 5, 0])
    batch = data.take(next(iter(data.epoch(1))))
    assert batch.images.shape == (1, 3, 12, 6)
    assert data.probe().images.shape == (1, 3, 12, 6)


def test_a_square_is_cut_as_torchvision_cuts_it():
    from torchvision.transforms import v2

    from famkd.data.transforms import plain_view

    for side in (16, 200):
        shorter = round(side * 8 / 7) if side >= 128 else side
        usual = v2.Compose([v2.Resize(shorter, max_size=64 * shorter, antialias=True), v2.CenterCrop(side)])
        for size in ((40, 60), (61, 37), (300, 301), (8, 900), (256, 256)):
            image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
            assert np.array_equal(np.asarray(usual(image)), np.asarray(plain_view(side)(image)))


def test_images_of_one_size_are_measured_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for place in ("train/a", "val/a"):
        put(tmp_path, f"{place}/0.png", size=(6, 4))
        Image.new("RGB", (4, 6)).save(tmp_path / place / "1.jpg", exif=exif)
    assert build_data("folder", str(tmp_path), 1).size == (4, 6)
    put(tmp_path, "val/a/2.png", size=(4, 6))
    with pytest.raises(UserError, match=r"differ in size, .*0\.png \(4 high, 6 wide\) and .*2\.png \(6 high, 4 wide\)"):
        build_data("folder", str(tmp_path), 1)


def test_names_of_a_source_lead_to_its_files(tmp_path):
    put(tmp_path, f"{NFD}/0.png", "b/1.png")
    source = of_classes(tmp_path, [NFC, "b"])
    assert [os.path.exists(source.name(i)) for i in range(2)] == [True, True]
    assert source.read(1) == Path(source.name(1)).read_bytes()
