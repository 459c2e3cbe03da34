"""Held-out images: the same share of each class, never trained on, the same whatever the training's seed is."""

import io
import tarfile

import numpy as np
import pytest
import torch
from helpers.tiny_coco import make_coco
from PIL import Image

from famkd import distributed
from famkd.config.load import load_recipe
from famkd.config.validate import validated
from famkd.data import DATA, build_data
from famkd.data.small import Images
from famkd.data.split import Split, read_split
from famkd.errors import UserError
from famkd.training.build import build_recipe_data

OPTIONS = {
    "coco": {"sides": (64,), "longest": 100, "workers": 0},
    "imagenet": {"size": 16, "workers": 0, "splits": ("train", "test")},
    "shards": {"size": 16, "workers": 0, "splits": ("train", "test")},
}
KINDS = ["bands", "coco", "digits", "folder", "imagenet", "npz", "shards"]
NAMED = {"coco": "more2017", "folder": "more", "imagenet": "more", "npz": "more", "shards": "more"}


def labels(*counts: int) -> np.ndarray:
    return np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))


@pytest.mark.parametrize(("counts", "fraction", "expected"), [
    ((50, 50), 0.1, [5, 5]),
    ((100, 20, 5), 0.2, [20, 4, 1]),
    ((10, 10, 10), 0.15, [2, 1, 1]),  # 4.5 of 30, rounded to the even number; what is left goes to the first class
    ((30, 0, 30), 0.1, [3, 0, 3]),  # a class number without images
    ((1, 40), 0.5, [0, 20]),  # a class of one image is trained on
    ((3, 3), 0.9, [2, 2]),  # one image of each class stays
])  # fmt: skip
def test_each_class_gives_its_share(counts, fraction, expected):
    truth = labels(*counts)
    chosen = Split(fraction).draw(truth)
    assert np.bincount(truth[chosen], minlength=len(counts)).tolist() == expected
    assert np.all(np.diff(chosen) > 0)


def test_a_split_is_the_same_on_every_machine_and_differs_by_seed():
    truth = np.arange(40) % 4
    assert Split(0.2).draw(truth).tolist() == [4, 10, 11, 15, 20, 22, 25, 29]
    assert Split(0.2, seed=1).draw(truth).tolist() != Split(0.2).draw(truth).tolist()
    held_out = [tuple(Split(0.2, seed=seed).draw(truth)) for seed in range(200)]
    times = np.bincount(np.concatenate(held_out), minlength=40)
    assert len(set(held_out)) == 200
    assert times.min() > 15  # of 40 expected: every image is drawn


def test_what_the_option_may_be():
    assert read_split("0.1", 3) == Split(0.1, seed=3)
    assert read_split("valid") == Split(name="valid")
    for wrong in ("0", "1", "-0.2", "25", "nan"):
        with pytest.raises(UserError, match=rf"--data\.val is {wrong}: pass a fraction between 0 and 1"):
            read_split(wrong)
    with pytest.raises(UserError, match=r"--data\.val is 10%: write it as a fraction, such as 0\.1"):
        read_split("10%")
    with pytest.raises(UserError, match=r"--data\.val 0\.01 of 20 images holds none out"):
        Split(0.01).draw(labels(10, 10))


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> dict[str, str]:
    """The root of a data set of each kind, with a further split named `more`."""
    place = tmp_path_factory.mktemp("sets")
    draw = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 8), ("test", 2), ("more", 3)):
        pixels = draw.integers(0, 256, (2 * count, 20, 20, 3), np.uint8)
        arrays |= {f"x_{part}": pixels, f"y_{part}": np.arange(2 * count) % 2}
        (place / "shards" / part).mkdir(parents=True)
        with tarfile.open(place / "shards" / part / "0.tar", "w") as tar:
            for n, image in enumerate(pixels):
                name = "ab"[n % 2]
                file = place / "tree" / part / name / f"{n:02d}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(file)
                for ending, content in (("png", file.read_bytes()), ("cls", str(n % 2).encode())):
                    entry = tarfile.TarInfo(f"{n:02d}.{ending}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
    np.savez(place / "set.npz", **arrays)
    coco = make_coco(place / "coco", count=10)
    for name in ("instances_more2017.json", "more2017"):
        source = coco / "annotations" / name if name.endswith("json") else coco / name
        source.symlink_to(str(source).replace("more2017", "val2017"))
    tree = str(place / "tree")
    return {
        "bands": "", "digits": "", "npz": str(place / "set.npz"), "folder": tree, "imagenet": tree,
        "coco": str(coco), "shards": str(place / "shards"),
    }  # fmt: skip


def built(kind: str, roots: dict[str, str], val: str = "", seed: int = 0, **options):
    name = "imagenet" if kind == "shards" else kind
    return build_data(name, roots[kind], 1, seed=seed, augment=False, val=val, **OPTIONS.get(kind, {}), **options)


def trained_on(data) -> list[bytes]:
    """The pixels of every training image, in the order of their positions."""
    batches = [data.take(piece) for piece in data.epoch(1)]
    batches.sort(key=lambda batch: int(batch.index))
    assert [int(batch.index) for batch in batches] == list(range(len(batches)))
    return [batch.images[0].numpy().tobytes() for batch in batches]


def seen(batches) -> list[bytes]:
    return [image.numpy().tobytes() for batch in batches for image in batch.images]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bands"])  # those that are quick to read one by one
def test_held_out_images_and_the_rest_are_all_training_images(kind, roots):
    whole, data = built(kind, roots), built(kind, roots, "0.25")
    assert whole.n_val == 0
    rest, held_out = trained_on(data), seen(data.val(1))
    assert sorted(rest + held_out) == sorted(trained_on(whole))
    assert len(held_out) == data.n_val == round(0.25 * len(rest + held_out))
    assert not set(rest) & set(held_out)
    assert seen(data.test(1)) == seen(whole.test(1))
    if data.labels is not None:
        assert len(data.labels) == len(rest)
        targets = torch.cat([batch.targets for batch in data.val()])
        assert abs(int((targets == 0).sum()) - int((whole.labels == 0).sum()) / 4) < 1


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_images_come_in_order_and_do_not_depend_on_the_training_seed(kind, roots):
    data = built(kind, roots, "0.25")
    assert torch.cat([batch.index for batch in data.val(3)]).tolist() == list(range(data.n_val))
    once = seen(data.val())
    assert seen(built(kind, roots, "0.25", seed=5).val()) == once
    assert seen(built(kind, roots, "0.25", val_seed=5).val()) != once
    following = [seen(built(kind, roots, "0.25", seed=seed, val_seed=-1).val()) for seed in (5, 6)]
    assert following[0] == seen(built(kind, roots, "0.25", val_seed=5).val())
    assert following[0] != following[1]


@pytest.mark.parametrize("kind", NAMED)
def test_a_split_of_its_own_is_held_out_by_name(kind, roots):
    whole, data = built(kind, roots), built(kind, roots, NAMED[kind])
    assert trained_on(data) == trained_on(whole)
    assert data.n_val == {"coco": 10}.get(kind, 6)
    if kind == "coco":  # its further split is the test set under another name
        assert seen(data.val()) == seen(data.test())
    else:
        assert not set(seen(data.val(1))) & set(trained_on(whole) + seen(whole.test(1)))
        assert sorted(torch.cat([batch.targets for batch in data.val()]).tolist()) == [0] * 3 + [1] * 3


def test_several_processes_share_the_held_out_images(roots, monkeypatch):
    whole = seen(built("npz", roots, "0.3").val())
    monkeypatch.setattr(distributed, "world", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        shares.append(seen(built("npz", roots, "0.3").val()))
    assert [image for share in shares for image in share] == whole
    assert [len(share) for share in shares] == [1, 2, 2]


@pytest.mark.parametrize(("kind", "val", "words"), [
    ("digits", "valid", "this data set has no further split: pass a fraction such as 0.1"),
    ("npz", "test", "--data.val test is the test split"),
    ("npz", "other", r"set.npz lacks x_other, y_other: it needs x_other and y_other"),
    ("folder", "test", "tree/test holds the training or test images"),
    ("folder", "other", "there is no folder .*tree/other: name one, or pass a fraction"),
    ("imagenet", "train", "tree/train holds the training or test images"),
    ("shards", "test", "test holds the training or test images"),
    ("shards", "other", "there are no shards in .*/other"),
    ("coco", "val2017", "val2017 holds the training or test images"),
    ("coco", "other", "There is no json of other boxes under"),
])  # fmt: skip
def test_what_cannot_be_held_out_is_refused(kind, val, words, roots):
    with pytest.raises(UserError, match=words):
        _ = built(kind, roots, val).n_val


def test_a_further_split_must_fit_the_training_images(roots, tmp_path):
    with np.load(roots["npz"]) as stored:
        arrays = dict(stored)
    for name, value in (("x_more", np.zeros((6, 8, 8, 3), np.uint8)), ("y_more", arrays["y_more"] + 1)):
        np.savez(tmp_path / "bad.npz", **arrays | {name: value})
        with pytest.raises(UserError, match="must hold images of 20 x 20 and classes below 2"):
            build_data("npz", str(tmp_path / "bad.npz"), 1, val="more")


def test_a_plugins_images_are_held_out_and_a_class_that_cannot_is_refused(monkeypatch):
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 256, (20, 8, 8, 3), np.uint8), np.arange(20) % 2
    monkeypatch.setitem(DATA, "mine", lambda root: Images(x, y, x, y, ["even", "odd"], (0.5,) * 3, (0.25,) * 3))
    data = build_data("mine", "", 20, val="0.2")
    assert (data.n_val, len(data.labels), data.batch_size) == (4, 16, 16)

    class Own:
        def __init__(self, root, batch_size, device, seed, augment):
            pass

    monkeypatch.setitem(DATA, "own", Own)
    with pytest.raises(UserError, match=r"The data set own cannot hold images out of training: leave --data\.val out"):
        build_data("own", "", 1, val="0.2")


def test_it_is_a_setting_of_a_recipe():
    recipe = load_recipe("quickstart", "--data.val", "0.1", "--data.val_seed", "2", "--patience", "3")
    data = build_recipe_data(validated(recipe))
    assert data.n_val == 144
    with pytest.raises(UserError, match=r"--data\.val is 2: pass a fraction"):
        validated(load_recipe("quickstart", "--data.val", "2"))
    with pytest.raises(UserError, match=r"--patience 3 looks at held-out images: pass --data\.val too"):
        validated(load_recipe("quickstart", "--patience", "3"))
