"""Shards as others write them: classes as numbers or names, names of images, of tars and of splits."""

import gzip
import io
import json
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from famkd.data import build_data
from famkd.data.imagenet import read_imagenet
from famkd.data.shard_samples import read_samples
from famkd.data.webdataset import CAPTIONS, ShardSource, find_tars
from famkd.errors import UserError

CLASSES = ("ant", "bee", "cat")


def image(value: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (value,) * 3).save(buffer, kind)
    return buffer.getvalue()


def tar_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def write(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_of(members))


def samples(label, count: int = 6, ending: str = "png") -> dict[str, bytes]:
    """Members of `count` samples in three classes in turn; `label` makes the file with the class of each."""
    members = {}
    for n in range(count):
        name, data = label(n % 3)
        members |= {f"{n:04d}.{ending}": image(80 * (n % 3)), f"{n:04d}.{name}": data}
    return members


def table(key: str, value) -> tuple[str, bytes]:
    return "json", json.dumps({"url": "x", "width": 8, key: value}).encode()


NUMBERS = {
    "cls": lambda n: ("cls", str(n).encode()),
    "cls with a line end": lambda n: ("CLS", f"{n}\n".encode()),
    "txt": lambda n: ("txt", str(n).encode()),
    "json label": lambda n: table("label", n),
    "json class": lambda n: table("class", n),
    "json cls": lambda n: table("cls", n),
    "json text": lambda n: table("label", str(n)),
    "json float": lambda n: table("label", float(n)),
    "json list": lambda n: table("label", [n]),
    "json of a number": lambda n: ("json", str(n).encode()),
    "a longer ending": lambda n: ("label.cls", str(n).encode()),
    "marked utf-8": lambda n: ("cls", b"\xef\xbb\xbf" + str(n).encode()),
}
NAMES = {
    "cls": lambda n: ("cls", CLASSES[n].encode()),
    "txt": lambda n: ("txt", f" {CLASSES[n]}\n".encode()),
    "json label": lambda n: table("label", CLASSES[n]),
    "json class_name": lambda n: table("class_name", CLASSES[n]),
}


def opened(root, **options):
    return build_data("imagenet", str(root), 2, augment=False, **{"size": 8, "workers": 0} | options)


def truths(data) -> list[int]:
    return [target for batch in data.test() for target in batch.targets.tolist()]


def refused(root, **options) -> str:
    with pytest.raises(UserError) as raised:
        opened(root, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# classes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", NUMBERS)
def test_classes_as_numbers_are_read_from_every_kind_of_file(tmp_path, case):
    for split in ("train", "val"):
        write(tmp_path / split / "0.tar", samples(NUMBERS[case]))
    data = opened(tmp_path)
    assert data.classes == ["0", "1", "2"]
    assert data.labels.tolist() == truths(data) == [0, 1, 2] * 2


@pytest.mark.parametrize("case", NAMES)
def test_classes_as_names_are_numbered_in_alphabetical_order(tmp_path, case):
    write(tmp_path / "train/0.tar", samples(NAMES[case]))
    write(tmp_path / "val/0.tar", samples(lambda n: NAMES[case](2 - n)))
    data = opened(tmp_path)
    assert data.classes == list(CLASSES)
    assert data.labels.tolist() == [0, 1, 2] * 2
    assert truths(data) == [2, 1, 0] * 2
    grey = [int(value) for value in data.pictures(range(3)).pixels[:, 0, 0, 0]]
    assert grey == [0, 80, 160]


def test_classes_txt_says_the_order_of_names(tmp_path):
    for split in ("train", "val"):
        write(tmp_path / split / "0.tar", samples(NAMES["cls"]))
    (tmp_path / "classes.txt").write_text("cat\nbee\ndog\nant\n")
    data = opened(tmp_path)
    assert data.classes == ["cat", "bee", "dog", "ant"]
    assert data.labels.tolist() == [3, 1, 0] * 2
    (tmp_path / "classes.txt").write_text("cat\nbee\n")
    assert "classes.txt lacks: ant" in refused(tmp_path)


def test_a_class_that_training_lacks_is_named(tmp_path):
    write(tmp_path / "train/0.tar", samples(NAMES["cls"]))
    write(tmp_path / "val/0.tar", samples(lambda n: ("cls", b"dog" if n else b"ant")))
    assert "val have classes that" in refused(tmp_path)
    assert "train lacks: dog" in refused(tmp_path)


def test_the_class_file_comes_before_the_json_unless_its_key_is_named(tmp_path):
    def both(n):
        more = json.dumps({"breed": n % 2, "label": 9}).encode()
        return {f"{n}.png": image(0), f"{n}.cls": str(n % 3).encode(), f"{n}.json": more}

    for split in ("train", "val"):
        write(tmp_path / split / "0.tar", {key: value for n in range(4) for key, value in both(n).items()})
    assert opened(tmp_path).labels.tolist() == [0, 1, 2, 0]
    assert opened(tmp_path, label_key="breed").labels.tolist() == [0, 1, 0, 1]
    assert opened(tmp_path).labels.tolist() == [0, 1, 2, 0]  # the index of the other key is not taken for this one
    assert "no .json with the key 'colour'. It has the files" in refused(tmp_path, label_key="colour")


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"a.png": b"", "a.xml": b""}, "sample a has no .cls file with its class, no .json or .txt. It has the files "
         ".png, .xml"),
        ({"x/a.png": b"", "x/a.json": b'{"caption": "a cat", "url": 1}'}, "sample x/a has no .cls"),
        ({"a.png": b"", "a.json": b'{"caption": "a cat", "url": 1}'}, "and the keys caption, url in its .json: name "
         "one by --data.label_key"),
        ({"a.npy": b"", "a.cls": b"0"}, "holds no images: sample a has the files .cls, .npy"),
        ({"a.png": b"", "a.json": b"{"}, "the .json of sample a tells no class: Expecting"),
        ({"a.png": b"", "a.json": b'{"label": {"id": 3}}'}, "a class is a number or a name, not {'id': 3}"),
        ({"a.png": b"", "a.json": b'{"label": true}'}, "a class is a number or a name, not True"),
        ({"a.png": b"", "a.cls": b""}, "the .cls of sample a tells no class: '' is no name"),
        ({"a.png": b"", "a.txt": b"one line\nand another"}, "is no name of a class, in one line"),
        ({"a.png": b"", "a.cls": b"\xff\xfe"}, "the .cls of sample a tells no class: 'utf-8' codec"),
        ({"a.png": b"", "a.cls": b"-1"}, "hold a class that is no number from 0 to 99,999"),
    ],
)  # fmt: skip
def test_what_was_found_instead_is_named(tmp_path, members, words):
    for split in ("train", "val"):
        write(tmp_path / split / "0.tar", {name: data or image(0) if name.endswith("png") else data
                                           for name, data in members.items()})  # fmt: skip
    assert words in refused(tmp_path)


def test_captions_are_no_classes(tmp_path):
    members = {}
    for n in range(CAPTIONS):
        members |= {f"{n}.png": image(0), f"{n}.txt": f"a picture of the {n}th thing".encode()}
    for split in ("train", "val"):
        write(tmp_path / split / "0.tar", members)
    assert "these are captions. Name the class by --data.label_key, or add .cls files" in refused(tmp_path)


# images -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["jpg", "JPEG", "png", "webp", "ppm", "tif", "bmp", "gif", "image.png", "input.jpg"])
def test_images_are_known_by_every_ending(tmp_path, ending):
    for split in ("train", "val"):
        write(tmp_path / split / "0.tar", samples(NUMBERS["cls"], ending=ending))
    assert opened(tmp_path).labels.tolist() == [0, 1, 2] * 2


def test_of_several_images_the_plain_one_is_taken():
    others = {"a.seg.png": image(9), "a.cls": b"1", "a.depth.jpg": image(8), "a.gif": image(6)}
    members = others | {"a.jpg": image(7, "JPEG")}
    data = tar_of(members)
    (found,) = read_samples(io.BytesIO(data), "")
    assert data[found.start : found.stop] == members["a.jpg"]


def test_hidden_members_are_no_samples():
    members = {"a.png": image(0), "a.cls": b"0", "._a.png": b"x", "__MACOSX/a.png": b"x", "x/.cache/b.png": b"x"}
    assert [found.key for found in read_samples(io.BytesIO(tar_of(members)), "")] == ["a"]


def test_samples_without_an_image_are_counted():
    members = {"a.png": image(0), "a.cls": b"0", "b.cls": b"1", "c.json": b"{}"}
    with pytest.warns(UserWarning, match="here: 2 samples have no image: b, c"):
        assert len(read_samples(io.BytesIO(tar_of(members)), "here")) == 1


def test_a_compressed_tar_is_refused(tmp_path):
    write(tmp_path / "val/0.tar", samples(NUMBERS["cls"]))
    (tmp_path / "train").mkdir()
    (tmp_path / "train/0.tar").write_bytes(gzip.compress(tar_of(samples(NUMBERS["cls"]))))
    assert "0.tar: it is compressed: unpack it to a plain .tar" in refused(tmp_path)


# splits and names of tars -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("test", ["val", "validation", "Valid", "test"])
def test_splits_are_found_by_their_usual_names(tmp_path, test):
    write(tmp_path / "Train/0.tar", samples(NUMBERS["cls"]))
    write(tmp_path / test / "0.tar", samples(NUMBERS["cls"], 3))
    data = opened(tmp_path)
    assert (len(data.labels), data.n_test) == (6, 3)


NAMES_OF_TARS = [
    ("imagenet-train-{:04d}.tar", "imagenet-validation-{:02d}.tar"),
    ("train.{}.tar", "val.{}.tar"),
    ("x_train_{}.tar", "x_test_{}.tar"),
]


@pytest.mark.parametrize("names", NAMES_OF_TARS)
def test_shards_of_all_splits_may_lie_in_the_root(tmp_path, names):
    for pattern, count in zip(names, (6, 3)):
        for shard in range(2):
            write(tmp_path / pattern.format(shard), samples(NUMBERS["cls"], count))
    data = opened(tmp_path)
    assert (len(data.labels), data.n_test) == (12, 6)
    again = opened(tmp_path)  # by the saved indexes
    assert (len(again.labels), again.n_test) == (12, 6)


def test_splits_may_be_patterns(tmp_path):
    for shard in range(12):
        write(tmp_path / f"all-{shard:03d}.tar", samples(NUMBERS["cls"], 3))
    patterns = {
        ("all-{000..008}.tar", "all-{009..011}.tar"): (27, 9),
        ("all-00?.tar", "all-01*.tar"): (30, 6),
        ("all-{000,002}.tar", "all-0{0,1}1.tar"): (6, 6),
        (f"../{tmp_path.name}/all-000.tar", "all-001.tar"): (3, 3),
    }
    for splits, counts in patterns.items():
        for _ in range(2):  # made, and read from its index
            data = opened(tmp_path, splits=splits)
            assert (len(data.labels), data.n_test) == counts
    words = refused(tmp_path, splits=("all-{009..015}.tar", "all-000.tar"))
    assert "There is no all-012.tar, all-013.tar, all-014.tar and 1 more in" in words
    assert "There is no none-*.tar in" in refused(tmp_path, splits=("none-*.tar", "all-000.tar"))


def test_a_pattern_cannot_stand_for_any_number_of_files(tmp_path):
    with pytest.raises(UserError, match="stands for more than 100,000 files"):
        ShardSource(str(tmp_path), "{0000..9999}-{0000..9999}.tar")


def test_hidden_tars_are_left_out(tmp_path):
    import fsspec

    write(tmp_path / "0.tar", {})
    (tmp_path / "._0.tar").write_bytes(b"x")
    assert list(find_tars(fsspec.filesystem("file"), str(tmp_path), "*.tar")) == ["0.tar"]


def test_a_missing_split_says_what_is_there(tmp_path):
    write(tmp_path / "train/0.tar", samples(NUMBERS["cls"]))
    (tmp_path / "other").mkdir()
    words = refused(tmp_path)
    assert "There are no shards of val under" in words
    assert "it holds other, train. Name a folder of .tar files, or the files, by --data.splits" in words


def test_a_tar_beside_folders_of_classes_is_no_shard(tmp_path):
    for place in ("train/a", "val/a"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "0.png").write_bytes(image(0))
    write(tmp_path / "train.tar", {"train/a/0.png": image(0)})
    assert read_imagenet(str(tmp_path)).classes == ["a"]


def test_an_index_of_an_older_version_is_made_again(tmp_path):
    for split in ("train", "val"):
        write(tmp_path / split / "0.tar", samples(NUMBERS["cls"]))
    size = (tmp_path / "train/0.tar").stat().st_size
    rows = {"shard": np.zeros(6, np.int64), "place": np.zeros((6, 2), np.int64), "keys": np.asarray(["x"] * 6),
            "labels": np.zeros(6, np.int64)}  # fmt: skip
    np.savez(tmp_path / "train/index.npz", shards=np.asarray(["0.tar"]), sizes=np.asarray([size], np.int64), **rows)
    assert opened(tmp_path).labels.tolist() == [0, 1, 2] * 2


def test_an_index_is_read_without_a_word(tmp_path):
    for split in ("train", "val"):
        write(tmp_path / split / "0.tar", samples(NAMES["cls"]))
    first = opened(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = opened(tmp_path)
    assert first.classes == second.classes
    assert first.labels.tolist() == second.labels.tolist()
