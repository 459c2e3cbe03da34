"""Image folders and shards: every kind of file, the same epoch however it is read, and bad files are skipped."""

import os
import pickle
import re
import signal
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.pictures import CLASSES, jpeg, pack, picture
from helpers.processes import finish, spoken, wait_for_epochs
from PIL import Image
from torchvision.transforms import v2

from famkd import distributed
from famkd.config.load import load_recipe
from famkd.data import build_data
from famkd.data.folder_source import read_folders
from famkd.data.imagenet import read_imagenet
from famkd.data.jpeg import decoded_on, decoded_pixels
from famkd.data.pixels import decoded
from famkd.data.seeded import seed_of
from famkd.data.transforms import plain_view, training_view, viewed
from famkd.data.webdataset import WINDOW, ShardSource
from famkd.errors import UserError
from famkd.run.directory import Run
from famkd.training import loop as training
from famkd.training.loop import train
from famviz.networks import run_images


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Path:
    """train/ with 5 images a class and val/ with 3, two classes alike; a grey, a CMYK and a palette file among them."""
    root = tmp_path_factory.mktemp("tree")
    for split, count in (("train", 5), ("val", 3)):
        for label, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            for n in range(count):
                image = picture(n + 10 * (split == "val"), label)
                (root / split / name / f"{n}.JPEG").write_bytes(jpeg(image))
    picture(0, 0).convert("L").save(root / "train/dark/0.JPEG")
    picture(1, 0).convert("CMYK").save(root / "train/dark/1.JPEG")
    picture(2, 0).convert("P").save(root / "train/dark/2.png")
    (root / "train/dark/2.JPEG").unlink()
    (root / "train/dark/notes.txt").write_text("no image")
    return root


@pytest.fixture
def damaged(tree, tmp_path) -> Path:
    """A copy of the tree in which one training and one test file are cut off."""
    import shutil

    root = shutil.copytree(tree, tmp_path / "damaged")
    for file in (root / "train/mid/3.JPEG", root / "val/light/0.JPEG"):
        file.write_bytes(file.read_bytes()[:200])
    return root


def stream(root, batch_size=4, **options):
    return build_data("imagenet", str(root), batch_size, **{"size": 32, "workers": 0, **options})


def pieces(data, epoch=1) -> list[torch.Tensor]:
    """Everything that an epoch shows, in order."""
    made = list(data.epoch(epoch))
    return [torch.cat([getattr(piece, field) for piece in made]) for field in ("pixels", "targets", "index")]


def same(one, two) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two))


# the protocol of data sets ----------------------------------------------------------------------------------------


def test_a_tree_is_a_data_set(tree):
    data = stream(tree)
    assert data.classes == sorted(CLASSES)
    assert data.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert (data.batch_size, data.steps, data.size) == (4, 3, (32, 32))
    batches = [data.take(piece) for piece in data.epoch(1)]
    assert len(batches) == 3
    for batch in batches:
        assert batch.images.shape == (4, 3, 32, 32)
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(data.labels[batch.index], batch.targets)
    assert len({int(i) for batch in batches for i in batch.index}) == 12
    assert data.probe().index.tolist() == [0, 1, 2, 3]
    tested = list(data.test(4))
    assert [len(batch.targets) for batch in tested] == [4, 4, 1]
    assert torch.cat([batch.index for batch in tested]).tolist() == list(range(9))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_that_was_left_goes_on_with_the_same_pieces(tree, workers):
    whole, rest = list(stream(tree, workers=workers).epoch(2)), list(stream(tree, workers=workers).epoch(2, 1))
    assert len(rest) == len(whole) - 1 == 2
    assert all(same(one, two) for one, two in zip(rest, whole[1:]))


def test_what_comes_out_is_imagenets_arithmetic(tree):
    """By torchvision's own reference: resize, crop, to floats, subtract and divide."""
    file = tree / "val" / "mid" / "0.JPEG"
    by_hand = v2.Compose([
        v2.Resize(256), v2.CenterCrop(224), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
        v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])(Image.open(file))  # fmt: skip
    batch = next(stream(tree, size=0).test(9))
    torch.testing.assert_close(batch.images[6], by_hand, rtol=0, atol=1e-5)  # dark, light, mid


def test_grey_cmyk_and_palette_files_are_pictures_like_others(tree):
    shown = stream(tree, batch_size=3, augment=False).probe()
    assert shown.images.shape == (3, 3, 32, 32)
    grey = shown.images[0] * torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    grey = grey + torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    torch.testing.assert_close(grey[0], grey[1], rtol=0, atol=1e-4)
    for n, file in enumerate(("0.JPEG", "1.JPEG", "2.png")):
        bright = np.asarray(decoded((tree / "train/dark" / file).read_bytes())).mean()
        assert bright == pytest.approx(np.asarray(picture(n, 0)).mean(), abs=12)


# the same epoch, however it is read -------------------------------------------------------------------------------


def test_neither_workers_nor_batches_nor_what_came_before_change_an_epoch(tree):
    first = pieces(stream(tree))
    assert same(first, pieces(stream(tree, workers=2)))
    assert same(first, pieces(stream(tree, batch_size=6)))
    later = stream(tree, workers=1)
    second = pieces(later, 2)
    assert not same(first, second)
    assert same(first, pieces(later, 1))
    list(later.test())
    assert same(second, pieces(later, 2))
    assert not same(first, pieces(stream(tree, seed=1)))


def test_every_epoch_cuts_an_image_otherwise(tree):
    data = stream(tree, batch_size=15)
    cuts = [pixels[index.argsort()] for pixels, _, index in (pieces(data, epoch) for epoch in (1, 2))]
    assert not any(torch.equal(*pair) for pair in zip(*cuts))


def test_reading_leaves_the_generator_alone(tree):
    data = stream(tree)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    list(data.epoch(1))
    assert torch.equal(torch.rand(1), expected)


def test_processes_share_an_epoch(tree, monkeypatch):
    whole, tested = pieces(stream(tree))[2], []
    monkeypatch.setattr(distributed, "world", lambda: 2)
    monkeypatch.setattr(distributed, "on_rank_zero", lambda call: call())
    halves = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        data = stream(tree)
        halves.append(pieces(data)[2].view(3, 2))
        tested += [int(i) for batch in data.test() for i in batch.index]
    assert torch.equal(torch.cat(halves, 1).flatten(), whole)
    assert tested == list(range(9))


def test_without_augmentation_an_image_is_always_the_same(tree):
    pixels, _, index = pieces(stream(tree, augment=False), 1)
    again, _, other = pieces(stream(tree, augment=False), 2)
    by_index = {int(i): p for p, i in zip(pixels, index)}
    assert all(torch.equal(by_index[int(i)], p) for p, i in zip(again, other) if int(i) in by_index)


def test_close_seeds_draw_apart():
    seeds = {seed_of(s, e, i) % 2**32 for s in range(3) for e in range(3) for i in range(300)}
    assert len(seeds) == 2700
    crops = [viewed(picture(0, 0), training_view(8), seed_of(0, 1, i)) for i in range(40)]
    assert len({tuple(crop.flatten().tolist()) for crop in crops}) > 35


# what cannot be read ---------------------------------------------------------------------------------------------


@pytest.fixture
def found_late(monkeypatch):
    """A check before training that finds nothing, as of damage in the middle of files of a large set."""
    monkeypatch.setattr("famkd.data.folder_source.find_unreadable", lambda *a: {})


@pytest.mark.parametrize("workers", [0, 2])
def test_damage_that_training_finds_is_skipped_and_named_once(damaged, found_late, workers):
    data = stream(damaged, batch_size=5, workers=workers, unreadable="skip")
    with pytest.warns(UserWarning, match=r"1 training images cannot be read.*the first .*mid.3\.JPEG"):
        pixels, _, index = pieces(data)
    assert len(pixels) == 15  # every step is full: the next readable image stands in
    assert 13 not in index.tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pieces(data, 2)
    with pytest.warns(UserWarning, match=r"1 test images cannot be read.*the first .*light.0\.JPEG"):
        tested = torch.cat([batch.index for batch in data.test()])
    assert tested.tolist() == [0, 1, 2, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("workers", [0, 2])
def test_damage_that_training_finds_is_refused_by_default(damaged, found_late, workers):
    with pytest.raises(UserError, match=r"mid.3\.JPEG cannot be read: restore it and go on with --resume, or"):
        pieces(stream(damaged, batch_size=5, workers=workers))
    with pytest.raises(UserError, match=r"light.0\.JPEG cannot be read"):
        list(stream(damaged).test())


def test_a_set_of_damaged_files_is_refused(damaged, found_late):
    for file in (damaged / "train").rglob("*.*"):
        file.write_bytes(b"nothing")
    with pytest.raises(UserError, match="None of the first images can be read"):
        stream(damaged, unreadable="skip").probe()
    with pytest.raises(UserError, match="training images in a row cannot be read"):
        next(stream(damaged, unreadable="skip").epoch(1))


def test_trees_that_cannot_be_trained_on(tree, tmp_path):
    with pytest.raises(UserError, match=r"no folder .*train: .*--data\.splits \(\. \."):
        stream(tree / "train")


def test_one_tree_for_both(tree):
    with pytest.warns(UserWarning, match=r"holds the training images and the test images.*Pass --data\.val 0\.2"):
        data = stream(tree / "train", splits=(".", "."))
    assert len(data.labels) == sum(len(batch.index) for batch in data.test()) == 15


# decoding on the device ------------------------------------------------------------------------------------------


@pytest.fixture
def on_device(monkeypatch):
    """The path of a GPU, its decoder played by the CPU's."""
    monkeypatch.setattr("famkd.data.streamed.device_decodes", lambda device: True)


def test_the_devices_decoder_shows_the_same(tree, on_device):
    pixels, targets, index = pieces(stream(tree))
    raw, same_targets, same_index = pieces(stream(tree, gpu_decode=True))
    assert torch.equal(index, same_index)
    assert torch.equal(targets, same_targets)
    assert (raw.float() - pixels.float()).abs().mean() < 2.5  # two scalers, one crop
    assert stream(tree, gpu_decode=True, batch_size=3).probe().images.shape == (3, 3, 32, 32)  # a .png among them


def test_the_devices_decoder_skips_what_is_damaged(damaged, on_device, found_late):
    data = stream(damaged, batch_size=5, gpu_decode=True, unreadable="skip")
    with pytest.warns(UserWarning, match="1 training images cannot be read"):
        pixels, _, index = pieces(data)
    assert len(pixels) == 15
    assert 13 not in index.tolist()
    with pytest.warns(UserWarning, match="1 test images cannot be read"):
        assert sum(len(batch.index) for batch in data.test()) == 8


def test_without_a_gpu_its_decoder_is_the_cpu(tree):
    with pytest.warns(UserWarning, match="gpu_decode needs a CUDA device"):
        data = stream(tree, gpu_decode=True)
    assert same(pieces(data), pieces(stream(tree)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_decodes(tree):
    file = torch.frombuffer(bytearray((tree / "train/mid/0.JPEG").read_bytes()), dtype=torch.uint8)
    (image,) = decoded_on([file], torch.device("cuda"))
    torch.testing.assert_close(image.cpu().float(), decoded_on([file], torch.device("cpu"))[0].float(), rtol=0, atol=8)


# shards ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def shards(tmp_path) -> Path:
    pack(tmp_path, "train", 4, 5)
    pack(tmp_path, "val", 4, 2)
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    return tmp_path


def test_shards_are_read_in_place(shards):
    data = stream(shards)
    assert data.classes == list(CLASSES)
    assert data.labels.tolist() == [0, 1, 2] * 5
    batch = next(data.test(6))
    assert batch.targets.tolist() == [0, 1, 2] * 2
    expected = viewed(decoded_pixels(jpeg(picture(1, 2))), plain_view(32), 0)
    assert torch.equal(stream(shards, batch_size=15)._train.__getitems__([(0, 5)]).pixels[0], expected)
    first = pieces(data)
    assert same(first, pieces(stream(shards, workers=2)))
    assert torch.equal(data.labels[first[2]], first[1])


def test_an_index_is_kept_and_made_again_when_shards_change(shards, monkeypatch):
    source = ShardSource(f"{shards}/train")
    assert (shards / "train/index.npz").is_file()
    with monkeypatch.context() as patched:
        patched.setattr(ShardSource, "_samples", lambda *a: pytest.fail("indexed again"))
        kept = ShardSource(f"{shards}/train")
    assert kept.labels.tolist() == source.labels.tolist()
    assert [kept.name(i) for i in range(15)] == [source.name(i) for i in range(15)]
    assert pickle.loads(pickle.dumps(kept)).read(3) == source.read(3)
    (shards / "train/00003.tar").unlink()
    assert len(ShardSource(f"{shards}/train")) == 12
    (shards / "train/index.npz").write_bytes(b"damaged")
    assert len(ShardSource(f"{shards}/train")) == 12


def test_an_epoch_of_shards_stays_within_a_few_of_them(shards, monkeypatch):
    monkeypatch.setattr("famkd.data.webdataset.WINDOW", 2)
    source = ShardSource(f"{shards}/train")
    order = source.order(torch.Generator().manual_seed(0))
    assert sorted(order.tolist()) == list(range(15))
    visited = source._shard[order.numpy()]
    changes = [set(visited[:8].tolist()), set(visited[8:].tolist())]
    assert len(changes[0] & changes[1]) <= 1  # the last shard is shorter than the others
    assert len(changes[0]) <= 3
    assert not torch.equal(order, source.order(torch.Generator().manual_seed(1)))
    assert WINDOW > 2


def test_shards_behind_an_address(shards):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(shards), "/famkd-test", recursive=True)
    try:
        data = stream("memory://famkd-test")
        assert data.classes == list(CLASSES)
        assert same(pieces(data), pieces(stream(shards)))
    finally:
        memory.rm("/famkd-test", recursive=True)


def test_shards_that_cannot_be_trained_on(shards):
    (shards / "classes.txt").write_text("dark\nmid")
    with pytest.raises(UserError, match="names 2 classes but the shards use 3"):
        read_imagenet(str(shards))
    tar = shards / "train/00001.tar"
    whole = tar.read_bytes()
    tar.write_bytes(b"x" * 2000)
    with pytest.raises(UserError, match=r"Cannot read .*00001\.tar"):
        read_imagenet(str(shards))
    tar.write_bytes(whole[: 3 * 512])  # the first sample's class and the header of its image
    with pytest.raises(UserError, match=r"Cannot read .*00001\.tar|holds? no image"):
        read_imagenet(str(shards))
    with tarfile.open(tar, "w") as file:
        file.addfile(tarfile.TarInfo("alone.jpg"))
    with pytest.raises(UserError, match=r"alone has no \.cls file"):
        read_imagenet(str(shards))
    with pytest.raises(UserError, match="cannot be read"):
        read_imagenet("nosuch://place")


# training --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*cannot be read and are skipped")
def test_a_student_learns_from_folders_and_resumes_exactly(damaged, found_late, small, monkeypatch):
    flags = ("--data", "imagenet", "--root", str(damaged), "--data.size", "16", "--data.batch_size", "5",
             "--student.model", "resnet8", "--epochs", "2", "--data.unreadable", "skip")  # fmt: skip
    whole = train(small(*flags, "--data.workers", "0"), out="whole")
    real = training.train_epoch

    def first_only(moment, *arguments):
        if moment.epoch == 2:
            raise KeyboardInterrupt
        return real(moment, *arguments)

    monkeypatch.setattr(training, "train_epoch", first_only)
    with pytest.raises(KeyboardInterrupt):
        train(small(*flags, "--data.workers", "1"), out="cut")
    monkeypatch.setattr(training, "train_epoch", real)
    resumed = train(small(*flags, "--data.workers", "1"), out="cut", resume=True)
    assert whole.metrics() == resumed.metrics()
    assert all(torch.equal(value, resumed.student_state()[key]) for key, value in whole.student_state().items())
    shown = run_images(whole, [3, 0, 1])  # 3 is the damaged one
    assert shown.pixels.shape == (2, 16, 16, 3)
    assert shown.labels.tolist() == [0, 0]
    assert len(run_images(whole).images) == 8


@pytest.mark.slow
def test_a_signal_to_all_processes_of_a_job_saves_the_step(tree, small, background):
    """As SLURM sends it: the workers that read images hear it too, and must live on until the step is saved."""
    flags = ("--data", "imagenet", "--root", str(tree), "--data.size", "16", "--data.batch_size", "4",
             "--data.workers", "2", "--epochs", "3", "--optim.steps")  # fmt: skip
    whole = train(small(*flags), out="whole")
    job = background("-m", "famkd", "train", "small.yaml", "--out", "cut", "--engine", "eager", *flags[:-2], "1000",
                     "--optim.steps", new_session=True)  # fmt: skip
    wait_for_epochs("cut", 1, job)
    os.killpg(job.pid, signal.SIGTERM)
    code, _, err = finish(job)
    assert code == 75, err
    assert re.fullmatch(r"famkd: stopped by SIGTERM .*\n", spoken(err)), err
    assert Run("cut").metrics()[0] == whole.metrics()[0]


@pytest.mark.parametrize("name", ["tiny-imagenet-10k", "imagenet1k-one-per-class"])
def test_real_images(name, real_data):
    root = real_data(name)
    splits = ("train", "val") if "tiny" in name else (".", ".")
    recipe = load_recipe("imagenet/resnet34-resnet18")
    data = build_data(recipe.data.name, str(root), 8, size=64, workers=0, splits=splits)
    batch = data.take(next(data.epoch(1)))
    assert len(data.classes) == (200 if "tiny" in name else 1000)
    assert batch.images.shape == (8, 3, 64, 64)
    assert 0.3 < batch.images.std() < 2
    assert len(read_folders(str(root), splits).train) == len(data.labels)
