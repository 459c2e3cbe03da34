"""Batches equal a naive crop and flip, plans follow from (seed, epoch), and bad files end in one sentence."""

import hashlib
import pickle
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, CIFAR100

from famkd.data import build_data
from famkd.data.archives import npz
from famkd.data.in_memory import InMemory
from famkd.data.small import CIFAR_MEAN, CIFAR_STD, Images, cifar10, cifar100, digits
from famkd.errors import UserError


def noise(n=23, size=(6, 9), **options) -> Images:
    """Random images, not square, so that a swap of axes shows."""
    draw = np.random.default_rng(0)
    x = draw.integers(0, 256, (n + 11, *size, 3), np.uint8)
    y = draw.integers(0, 4, n + 11)
    return Images(x[:n], y[:n], x[n:], y[n:], list("abcd"), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), **options)


def naive(images: Images, index: int, top: int, left: int, flip: bool) -> np.ndarray:
    """One image padded with black, cropped, mirrored and normalised, pixel by pixel: (3, H, W)."""
    picture, pad = images.x_train[index], images.pad
    h, w = picture.shape[:2]
    out = np.zeros((3, h, w))
    for row in range(h):
        for column in range(w):
            across = w - 1 - column if flip else column
            y, x = top + row - pad, left + across - pad
            for channel in range(3):
                value = picture[y, x, channel] / 255 if 0 <= y < h and 0 <= x < w else 0.0
                out[channel, row, column] = (value - images.mean[channel]) / images.std[channel]
    return out


@pytest.mark.parametrize("pad", [0, 1, 4])
@pytest.mark.parametrize("flip", [False, True])
def test_a_batch_is_the_naive_crop_and_flip_of_each_image(pad, flip):
    images = noise(pad=pad, flip=flip)
    data = InMemory(images, 23, seed=3)
    plan = next(data.epoch(1))
    batch = data.take(plan)
    draws = zip(plan.index.tolist(), plan.top.tolist(), plan.left.tolist(), plan.flip.tolist())
    expected = np.stack([naive(images, *draw) for draw in draws])
    np.testing.assert_allclose(batch.images.numpy(), expected, rtol=0, atol=1e-5)
    assert batch.targets.tolist() == [images.y_train[i] for i in plan.index.tolist()]
    assert torch.equal(batch.index, plan.index)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert plan.flip.any() == flip  # of 23 draws
    assert set(plan.top.tolist()) <= set(range(2 * pad + 1))
    assert pad == 0 or len(set(plan.left.tolist())) > 1


def test_every_crop_and_flip_is_drawn():
    data = InMemory(noise(2000, (2, 2), pad=2, flip=True), 50)
    plan = data.plan(1)
    counts = torch.bincount(plan.top * 5 + plan.left, minlength=25)
    assert counts.min() > 40  # 80 expected of each of 25
    assert 0.45 < plan.flip.double().mean() < 0.55


def test_without_augmentation_every_image_stays_as_it_is():
    images = noise(pad=4, flip=True)
    data = InMemory(images, 23, augment=False)
    batch = data.take(next(data.epoch(5)))
    for image, index in zip(batch.images.numpy(), batch.index.tolist()):
        expected = (images.x_train[index] / 255 - images.mean) / images.std
        np.testing.assert_allclose(image, expected.transpose(2, 0, 1), rtol=0, atol=1e-5)


def test_an_epoch_that_was_left_goes_on_with_the_same_pieces():
    whole, rest = (list(InMemory(noise(23), 5).epoch(2, done)) for done in (0, 3))
    assert len(whole) == 4
    assert all(torch.equal(one, two) for one, two in zip(rest[0], whole[3], strict=True))


@pytest.mark.parametrize(("n", "batch", "steps"), [(23, 5, 4), (20, 5, 4), (7, 64, 1)])
def test_an_epoch_shows_each_image_at_most_once_in_full_batches(n, batch, steps):
    data = InMemory(noise(n), batch)
    pieces = list(data.epoch(1))
    shown = torch.cat([piece.index for piece in pieces]).tolist()
    assert len(pieces) == data.steps == steps
    assert {len(piece.index) for piece in pieces} == {min(batch, n)}
    assert len(set(shown)) == len(shown)
    assert set(shown) <= set(range(n))


def test_a_plan_follows_from_seed_and_epoch_alone():
    def drawn(seed, epoch, disturbed=False):
        data = InMemory(noise(), 5, seed=seed)
        if disturbed:
            torch.manual_seed(99)
            data.plan(7)
        return torch.stack([t.long() for t in data.plan(epoch)])

    first = drawn(1, 1)
    assert torch.equal(first, drawn(1, 1, disturbed=True))
    for seed, epoch in [(1, 2), (2, 1), (0, 1)]:
        assert not torch.equal(first, drawn(seed, epoch)), (seed, epoch)
        assert not torch.equal(first[0], drawn(seed, epoch)[0]), (seed, epoch)


def test_left_over_images_come_in_another_epoch():
    data = InMemory(noise(23), 5)
    missed = [set(range(23)) - set(torch.cat([p.index for p in data.epoch(e)]).tolist()) for e in range(1, 6)]
    assert [len(left) for left in missed] == [3] * 5
    assert not set.intersection(*missed)


def test_the_probe_is_the_first_images_unmoved():
    images = noise(pad=2, flip=True)
    batch = InMemory(images, 4).probe()
    expected = np.stack([naive(images, i, 2, 2, False) for i in range(4)])
    np.testing.assert_allclose(batch.images.numpy(), expected, rtol=0, atol=1e-5)
    assert batch.index.tolist() == [0, 1, 2, 3]


def test_all_test_images_come_once_in_order():
    images = noise(pad=2, flip=True)
    batches = list(InMemory(images, 4).test(batch_size=4))
    assert [len(b.targets) for b in batches] == [4, 4, 3]
    assert torch.cat([b.targets for b in batches]).tolist() == images.y_test.tolist()
    assert torch.cat([b.index for b in batches]).tolist() == list(range(11))
    expected = (images.x_test / 255 - images.mean) / images.std
    shown = torch.cat([b.images for b in batches]).numpy()
    np.testing.assert_allclose(shown, expected.transpose(0, 3, 1, 2), rtol=0, atol=1e-5)


def test_the_digits():
    images = digits()
    assert (len(images.x_train), len(images.x_test)) == (1437, 360)  # 1,797 in all, every fifth for testing
    assert images.x_train.shape[1:] == (8, 8, 3)
    assert images.x_train.dtype == np.uint8
    assert images.x_train.max() == 255
    assert set(images.y_train) == set(images.y_test) == set(range(10))
    assert images.classes == list("0123456789")
    assert not images.flip  # a mirrored 3 is no 3
    assert not InMemory(images, 64).plan(1).flip.any()
    x = InMemory(images, 1437, augment=False).probe().images
    assert x.mean().abs() < 1e-3
    assert (x.std() - 1).abs() < 1e-3


def write(path: Path, **changes) -> Path:
    """An .npz of 6 + 4 good images with some arrays changed, and those that are None left out."""
    draw = np.random.default_rng(1)
    arrays = {
        "x_train": draw.integers(0, 256, (6, 8, 8, 3), np.uint8), "y_train": np.array([0, 1, 2, 0, 1, 2]),
        "x_test": draw.integers(0, 256, (4, 8, 8, 3), np.uint8), "y_test": np.array([2, 1, 0, 1]),
    } | changes  # fmt: skip
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_an_npz_of_ones_own(tmp_path):
    stored = npz(str(write(tmp_path / "a.npz", class_names=np.array(["cat", "dog", "owl"]))))
    assert stored.classes == ["cat", "dog", "owl"]
    assert stored.y_train.dtype == np.int64
    np.testing.assert_allclose(stored.mean, stored.x_train.reshape(-1, 3).mean(0) / 255)
    np.testing.assert_allclose(stored.std, stored.x_train.reshape(-1, 3).std(0) / 255)
    assert npz(str(write(tmp_path / "b.npz"))).classes == ["0", "1", "2"]


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1)])
def test_grey_images_become_three_equal_channels(tmp_path, shape):
    grey = np.random.default_rng(2).integers(0, 256, (6, *shape), np.uint8)
    stored = npz(str(write(tmp_path / "grey.npz", x_train=grey)))
    assert stored.x_train.shape == (6, 8, 8, 3)
    for channel in range(3):
        np.testing.assert_array_equal(stored.x_train[..., channel], grey.reshape(6, 8, 8))


BAD = {
    "x_train missing": ({"x_train": None}, "lacks x_train: .* It holds y_train, x_test, y_test"),
    "two missing": ({"y_train": None, "y_test": None}, "lacks y_train, y_test"),
    "floats": ({"x_train": np.zeros((6, 8, 8, 3))}, "x_train is float64"),
    "floats in 0..1": ({"x_test": np.full((4, 8, 8, 3), 0.5)}, r': save \(x \* 255\)\.round\(\)\.astype\("uint8"\)\.$'),
    "floats to 255": ({"x_test": np.full((4, 8, 8, 3), 9.5)}, r': save x\.round\(\)\.astype\("uint8"\)\.$'),
    "floats of other ranges": ({"x_test": np.full((4, 8, 8, 3), -1.5)}, r"\(N, H, W, 3\)\.$"),
    "channels first": ({"x_test": np.zeros((4, 3, 8, 8), np.uint8)}, r": save x\.transpose\(0, 2, 3, 1\)\.$"),
    "two channels": ({"x_test": np.zeros((4, 8, 8, 2), np.uint8)}, "and test images .8, 8, 2."),
    "vectors": ({"x_test": np.zeros((4, 64), np.uint8)}, "x_test is uint8"),
    "empty": ({"x_test": np.zeros((0, 8, 8, 3), np.uint8), "y_test": np.zeros(0, int)}, "holds 0 images"),
    "too few labels": ({"y_train": np.array([0, 1])}, "one label each"),
    "labels as one-hot": ({"y_train": np.eye(6, dtype=int)}, "one label each"),
    "labels as floats": ({"y_test": np.array([0.0, 1, 2, 1])}, "class indices"),
    "a negative label": ({"y_train": np.array([0, 1, 2, -1, 1, 2])}, "class indices"),
    "labels beyond the names": ({"class_names": np.array(["cat", "dog"])}, "names 2 classes but labels run to 2"),
    "objects": ({"class_names": np.array(["cat", None], object)}, "Cannot read"),
    "names as one text": ({"class_names": np.array("cat")}, "class_names is .* it must be a row of texts"),
    "names in two dimensions": ({"class_names": np.array([["a", "b", "c"]])}, "it must be a row of texts"),
    "names as floats": ({"class_names": np.zeros(3)}, "it must be a row of texts"),
    "a label without a row": ({"y_train": np.array(1)}, "give one label each"),
    "a huge label": ({"y_train": np.array([0, 1, 2, 0, 1, 10**17])}, "class indices from 0, as integers below 100,000"),
    "a label beyond int64": ({"y_test": np.array([0, 1, 2, 2**64 - 1], np.uint64)}, "integers below 100,000"),
    "images without pixels": ({"x_train": np.zeros((6, 0, 4, 3), np.uint8)}, r"6 images, \(0, 4, 3\) each"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_npz_ends_in_one_sentence(tmp_path, case):
    changes, words = BAD[case]
    with pytest.raises(UserError, match=words) as raised:
        npz(str(write(tmp_path / "bad.npz", **changes)))
    assert "bad.npz" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("part", [0, 1, 400, -30])
def test_a_truncated_npz_is_refused(tmp_path, part):
    path = write(tmp_path / "cut.npz")
    path.write_bytes(path.read_bytes()[:part])
    with pytest.raises(UserError, match=r"Cannot read .*cut\.npz"):
        npz(str(path))


def test_a_flipped_bit_of_an_npz_is_refused(tmp_path):
    path = write(tmp_path / "bit.npz")
    content = bytearray(path.read_bytes())
    content[300] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="Cannot read"):
        npz(str(path))


def test_a_missing_npz_and_an_unknown_name_say_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"no file .*none\.npz: point --data\.root at an \.npz"):
        npz(str(tmp_path / "none.npz"))
    with pytest.raises(UserError, match=r"no data set 'cifar'.*cifar10.*famkd ls data"):
        build_data("cifar", "", 8)


@pytest.fixture
def offline(monkeypatch):
    """torchvision's downloads fail as they do without a network."""

    def refuse(url, root, **options):
        Path(root).mkdir(exist_ok=True)  # as the real one does before it asks
        raise URLError("Name or service not known")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", refuse)


def test_cifar100_as_an_npz_keeps_the_protocols_statistics(tmp_path):
    write(tmp_path / "cifar100.npz")
    for root in (tmp_path, tmp_path / "cifar100.npz"):
        images = cifar100(str(root))
        assert (images.mean, images.std, images.pad, images.flip) == (CIFAR_MEAN, CIFAR_STD, 4, True)


def test_cifar100_in_torchvisions_own_files(tmp_path, offline, monkeypatch):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    draw = np.random.default_rng(3)
    contents = {
        "meta": {"fine_label_names": [f"class {n}" for n in range(100)]},
        **{part: {"data": draw.integers(0, 256, (n, 3072), np.uint8), "fine_labels": list(range(n))}
           for part, n in (("train", 100), ("test", 20))},
    }  # fmt: skip
    sums = {}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR100, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": sums["meta"]})
    images = cifar100(str(tmp_path))
    planes = contents["train"]["data"].reshape(100, 3, 32, 32)
    np.testing.assert_array_equal(images.x_train, planes.transpose(0, 2, 3, 1))
    assert images.y_test.tolist() == list(range(20))
    assert images.y_train.dtype == np.int64
    assert images.classes[7] == "class 7"


def test_cifar10_in_torchvisions_own_files(tmp_path, offline, monkeypatch):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    data = np.random.default_rng(3).integers(0, 256, (20, 3072), np.uint8)
    part, meta = {"data": data, "labels": list(range(10)) * 2}, {"label_names": list("abcdefghij")}
    sums = {}
    for name, content in (("part", part), ("meta", meta)):
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    for name in ("train_list", "test_list"):
        monkeypatch.setattr(CIFAR10, name, [["part", sums["part"]]])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "meta", "key": "label_names", "md5": sums["meta"]})
    images = cifar10(str(tmp_path))
    assert images.x_train.shape == images.x_test.shape == (20, 32, 32, 3)
    assert (images.y_test[3], images.classes[3], images.mean[0]) == (3, "d", 0.4914)
    with pytest.raises(UserError, match=r"CIFAR-10 is not under .* with cifar-10-batches-py or cifar10\.npz"):
        cifar10(str(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()
    write(tmp_path / "cifar10.npz")
    assert len(cifar10(str(tmp_path)).x_train) == 6


def test_cifar100_missing_and_out_of_reach(tmp_path, offline):
    with pytest.raises(UserError, match=r"CIFAR-100 is not under .*not known.*--data\.root at a folder") as raised:
        cifar100(str(tmp_path / "nothing"))
    assert "\n" not in str(raised.value)


def test_the_real_cifar100(real_data):
    images = cifar100(str(real_data("cifar100.npz").parent))
    assert images.x_train.shape == (50000, 32, 32, 3)
    assert images.x_test.shape == (10000, 32, 32, 3)
    assert np.bincount(images.y_train).tolist() == [500] * 100
    assert np.bincount(images.y_test).tolist() == [100] * 100
    assert images.classes == sorted(images.classes)
    np.testing.assert_allclose(images.x_train.mean((0, 1, 2)) / 255, CIFAR_MEAN, atol=1e-3)
    np.testing.assert_allclose(images.x_train.std((0, 1, 2)) / 255, CIFAR_STD, atol=1e-3)
