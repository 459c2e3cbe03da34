"""Images of one, four and more channels, and classes with different numbers of images."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from famkd.config.load import load_recipe
from famkd.data import DATA, build_data
from famkd.data.balance import class_weights, drawn
from famkd.data.jpeg import device_turn, turned, with_channels
from famkd.data.loader import Subset
from famkd.data.small import Images
from famkd.data.transforms import as_rgb
from famkd.distill.types import Batch, View
from famkd.errors import UserError
from famkd.models import MODELS, build_model
from famkd.tasks.classification import Classification
from famkd.training.loop import train

COUNTS = {"common": 12, "rare": 2}


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """RGBA images of 8 x 8 pixels, half of each transparent: 12 of one class and 2 of another."""
    root, draw = tmp_path_factory.mktemp("tree"), np.random.default_rng(0)
    for split in ("train", "val"):
        for name, count in COUNTS.items():
            (root / split / name).mkdir(parents=True)
            for n in range(count):
                pixels = draw.integers(0, 256, (8, 8, 4), np.uint8)
                pixels[:4, :, 3], pixels[4:, :, 3] = 0, 255
                Image.fromarray(pixels).save(root / split / name / f"{n:02d}.png")
    return root


@pytest.fixture(scope="module")
def shards(tree, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("shards")
    for split in ("train", "val"):
        (root / split).mkdir()
        files = sorted((tree / split).rglob("*.png"))
        for shard in range(2):
            with tarfile.open(root / split / f"{shard}.tar", "w") as tar:
                for n, file in enumerate(files[shard::2]):
                    for ending, data in (("png", file.read_bytes()), ("cls", file.parent.name.encode())):
                        info = tarfile.TarInfo(f"{n}.{ending}")
                        info.size = len(data)
                        tar.addfile(info, io.BytesIO(data))
    return root


READERS = {"folder": {}, "imagenet": {"size": 8, "workers": 0}}


# channels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_folders_have_the_channels_that_are_asked_for(tree, reader, channels):
    data = build_data(reader, str(tree), 2, channels=channels, augment=False, background="black", **READERS[reader])
    assert len(data.mean) == len(data.std) == channels
    images = next(data.test(14)).images
    assert images.shape == (14, channels, 8, 8)
    mean, std = (torch.tensor(each)[:, None, None] for each in (data.mean, data.std))
    pixels = (images[0] * std + mean) * 255
    stored = torch.from_numpy(np.asarray(Image.open(tree / "val/common/00.png"))).permute(2, 0, 1).float()
    if channels == 4:
        expected = stored
    else:
        expected = stored[:3] * stored[3:] / 255
    if channels == 1:
        expected = (expected * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0, keepdim=True)
    torch.testing.assert_close(pixels, expected, rtol=0, atol=1.0)
    shown = data.pictures([0]).pixels
    assert shown.shape == (1, 8, 8, 3)
    if channels == 1:
        assert torch.equal(shown[..., 0], shown[..., 2])
    assert data.take(next(iter(data.epoch(1)))).images.shape == (2, channels, 8, 8)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_arrays_may_have_any_number_of_channels(tmp_path, channels):
    draw = np.random.default_rng(1)
    x, y = draw.integers(0, 256, (6, 8, 8, channels), np.uint8), np.arange(6) % 2
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    data = build_data("npz", str(tmp_path / "a.npz"), 2, channels=1)
    images = next(data.test()).images
    assert images.shape == (6, channels, 8, 8)
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(channels), rtol=0, atol=1e-4)
    assert data.pictures([0]).pixels.shape == (1, 8, 8, 3)
    repeated = build_data("npz", str(tmp_path / "a.npz"), 2)
    assert next(repeated.test()).images.shape[1] == (3 if channels == 1 else channels)


def test_pictures_for_people():
    grey = torch.arange(4, dtype=torch.uint8).view(1, 2, 2, 1)
    assert torch.equal(as_rgb(grey), grey.expand(1, 2, 2, 3))
    half = torch.tensor([[[[100, 50, 0, 0], [100, 50, 0, 255]]]], dtype=torch.uint8)
    assert as_rgb(half).tolist() == [[[[255, 255, 255], [100, 50, 0]]]]
    assert torch.equal(as_rgb(torch.arange(5, dtype=torch.uint8).view(1, 1, 1, 5)), torch.tensor([[[[0, 1, 2]]]]))
    assert as_rgb(torch.tensor([[[[7, 9]]]], dtype=torch.uint8)).tolist() == [[[[7, 7, 7]]]]


def test_what_a_device_decoded_gets_the_same_channels():
    image = torch.randint(0, 256, (3, 5, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(with_channels(image, 3), image)
    assert torch.equal(with_channels(image, 4)[:3], image)
    assert (with_channels(image, 4)[3] == 255).all()
    by_pillow = torch.from_numpy(np.array(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L")))
    torch.testing.assert_close(with_channels(image, 1)[0].float(), by_pillow.float(), rtol=0, atol=1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_a_device_decoded_is_turned_as_pillow_turns_it(orientation):
    from famkd.data.pixels import upright

    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    expected = np.asarray(upright(Image.fromarray(image), orientation))
    made = turned(torch.from_numpy(image).permute(2, 0, 1), orientation).permute(1, 2, 0)
    assert np.array_equal(made.numpy(), expected)


def jpeg(mode: str = "RGB", **options) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (8, 8)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def test_only_plain_jpegs_are_left_to_the_device():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert device_turn(jpeg()) == device_turn(jpeg("L")) == 1
    assert device_turn(jpeg(exif=exif)) == 6
    assert device_turn(jpeg("CMYK")) == device_turn(jpeg()[:-2]) == device_turn(jpeg() + b"more") == 0
    assert device_turn(jpeg(keep_rgb=True)) == 0
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    assert device_turn(buffer.getvalue()) == 0


@pytest.mark.parametrize("name", MODELS)
def test_own_models_take_any_number_of_channels(name):
    grey = build_model(name, 5, channels=1).eval()
    with torch.no_grad():
        assert grey(torch.zeros(2, 1, 32, 32)).shape == (2, 5)


@pytest.mark.parametrize("channels", [1, 4])
def test_a_student_learns_from_a_teacher_on_other_channels(tree, small, channels):
    flags = ("--data", "folder", "--root", str(tree), "--data.channels", str(channels), "--data.batch_size", "7",
             "--epochs", "1", "--student.model", "resnet8")  # fmt: skip
    teacher = train(small(*flags), out="teacher")
    more = ("--method", "fam_review", "--teacher.model", "resnet8", "--teacher.weights", str(teacher.path))
    run = train(small(*flags, *more), out="student")
    assert run.student_state()["conv1.weight"].shape[1] == channels


# balance ----------------------------------------------------------------------------------------------------------


def test_class_weights_are_inverse_to_counts_and_have_mean_1_over_the_images():
    labels = torch.tensor([0] * 12 + [2] * 3)
    weights = class_weights(labels, 4)
    assert weights[0] * 12 == pytest.approx(weights[2] * 3)
    assert weights[[1, 3]].tolist() == [0, 0]
    assert weights[labels].mean() == pytest.approx(1)


def test_draws_without_weights_are_a_permutation():
    draw = torch.Generator().manual_seed(3)
    assert torch.equal(drawn(9, draw), torch.randperm(9, generator=torch.Generator().manual_seed(3)))


KINDS = {"folder": ("folder", {}), "imagenet": ("imagenet", {"size": 8, "workers": 0}),
         "shards": ("imagenet", {"size": 8, "workers": 0})}  # fmt: skip


@pytest.mark.parametrize("val", ["", "0.3"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_balanced_epoch_shows_each_class_equally_often(tree, shards, kind, val):
    name, options = KINDS[kind]
    root = str(shards if kind == "shards" else tree)

    def made(how):
        return build_data(name, root, 2, balance=how, val=val, **options)

    plain, balanced = made("none"), made("sample")
    assert balanced.steps == plain.steps
    shown = []
    for epoch in range(1, 61):
        for piece in balanced.epoch(epoch):
            batch = balanced.take(piece)
            assert torch.equal(balanced.labels[batch.index], batch.targets)
            assert batch.class_weights is None
            shown += batch.targets.tolist()
    assert np.mean(shown) == pytest.approx(0.5, abs=0.08)
    usual = [target for piece in plain.epoch(1) for target in plain.take(piece).targets.tolist()]
    assert np.mean(usual) < 0.3
    for one, two in zip(balanced.epoch(2), made("sample").epoch(2), strict=True):  # the same draws again
        assert torch.equal(one.index, two.index)


def test_a_subset_draws_only_its_own_images(tree):
    from famkd.data.folder_source import of_classes

    source = of_classes(tree / "train", list(COUNTS))
    subset = Subset(source, np.asarray([0, 1, 12]))
    weights = torch.tensor([0.25, 0.25, 0.5])
    counts = torch.zeros(3)
    for seed in range(300):
        order = subset.order(torch.Generator().manual_seed(seed), weights)
        assert len(order) == 3
        counts += order.bincount(minlength=3)
    torch.testing.assert_close(counts / counts.sum(), weights, rtol=0, atol=0.06)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_the_loss_come_with_training_batches_only(tree, shards, kind):
    name, options = KINDS[kind]
    data = build_data(name, str(shards if kind == "shards" else tree), 7, balance="loss", **options)
    weights = []
    for piece in data.epoch(1):
        batch = data.take(piece)
        assert batch.class_weights is not None
        torch.testing.assert_close(batch.class_weights, torch.tensor([14 / (2 * 12), 14 / (2 * 2)]))
        weights += batch.class_weights[batch.targets].tolist()
    assert np.mean(weights) == pytest.approx(1)
    assert all(batch.class_weights is None for batch in data.test())


def test_the_loss_is_weighted_image_by_image():
    draw = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(6, 3, generator=draw), torch.arange(6) % 3
    weights = torch.tensor([0.5, 1.0, 3.0])

    class Task(Classification):
        def teach(self, net, batch):
            return View(logits, [])

    def loss(weights):
        return Task().study(None, Batch(None, targets, targets, class_weights=weights))[0]["ce"]

    probabilities = logits.exp() / logits.exp().sum(1, keepdim=True)
    own = -probabilities[torch.arange(6), targets].log()
    torch.testing.assert_close(loss(weights), (own * weights[targets]).sum() / 6)
    assert torch.equal(loss(None), F.cross_entropy(logits, targets))


def test_balance_is_a_setting_of_a_recipe(tree, small):
    flags = (
        "--data",
        "folder",
        "--root",
        str(tree),
        "--data.batch_size",
        "7",
        "--epochs",
        "1",
        "--student.model",
        "resnet8",
    )
    runs = {how: train(small(*flags, "--data.balance", how), out=how) for how in ("none", "sample", "loss")}
    states = [run.student_state()["conv1.weight"] for run in runs.values()]
    assert not torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    assert load_recipe("quickstart").data.balance == "none"


def test_a_data_set_that_cannot_balance_is_refused(monkeypatch):
    class Own:
        def __init__(self, root, batch_size, device, seed, augment):
            pass

    monkeypatch.setitem(DATA, "own", Own)
    with pytest.raises(UserError, match=r"own cannot balance classes: leave --data\.balance out"):
        build_data("own", "", 1, balance="loss")


def test_a_plugins_images_are_balanced(monkeypatch):
    x, y = np.zeros((14, 8, 8, 1), np.uint8), np.asarray([0] * 12 + [1] * 2)
    monkeypatch.setitem(DATA, "mine", lambda root: Images(x, y, x, y, ["a", "b"], (0.5,), (0.5,)))
    data = build_data("mine", "", 14, balance="sample")
    rare = [float(data.take(piece).targets.float().mean()) for epoch in range(1, 41) for piece in data.epoch(epoch)]
    assert np.mean(rare) == pytest.approx(0.5, abs=0.08)
