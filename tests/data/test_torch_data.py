"""Any Dataset or DataLoader of torch as a data set: every kind of image and label, and what is refused."""

import random
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset, WeightedRandomSampler

from famkd import Datasets
from famkd.config.load import load_recipe
from famkd.data import DATA, build_data
from famkd.data.torch_data import TorchData, pixels_of
from famkd.data.torch_labels import labels_of
from famkd.errors import UserError
from famkd.training.loop import train
from famviz.networks import run_images

BYTES = np.random.default_rng(0).integers(0, 256, (12, 8, 6, 3), np.uint8)
LABELS = [0, 1, 2] * 4


class Listed(torch.utils.data.Dataset):
    """Images as `make` makes them of (8, 6, 3) bytes; the labels are listed."""

    def __init__(self, make, labels=LABELS):
        self.make, self.targets = make, list(labels)

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        return self.make(BYTES[index]), self.targets[index]


def first(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)


def grey(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., 0]


# what a Dataset returns, the (H, W, C) that is read, and its type
IMAGES = {
    "PIL RGB": (Image.fromarray, BYTES, torch.uint8),
    "PIL grey": (lambda x: Image.fromarray(grey(x)), BYTES[..., :1], torch.uint8),
    "PIL 16 bit": (lambda x: Image.fromarray(grey(x).astype(np.uint16) * 257), BYTES[..., :1], torch.uint8),
    "uint8 tensor": (first, BYTES, torch.uint8),
    "uint8 grey tensor": (lambda x: first(x)[0], BYTES[..., :1], torch.uint8),
    "uint8, 1 channel": (lambda x: first(x)[:1], BYTES[..., :1], torch.uint8),
    "uint8, 4 channels": (lambda x: torch.cat((first(x), first(x)[:1])), BYTES[..., [0, 1, 2, 0]], torch.uint8),
    "uint8, 5 channels": (lambda x: first(x)[[0, 1, 2, 0, 1]], BYTES[..., [0, 1, 2, 0, 1]], torch.uint8),
    "uint8 array": (lambda x: x, BYTES, torch.uint8),
    "float tensor": (lambda x: first(x) / 255, BYTES.astype(np.float32) / 255, torch.float32),
    "double tensor": (lambda x: first(x).double(), BYTES.astype(np.float32), torch.float32),
    "float array": (lambda x: x.astype(np.float32), BYTES.astype(np.float32), torch.float32),
}


def opened(dataset, test=None, batch_size=4, **fields) -> TorchData:
    return TorchData(Datasets(dataset, test or dataset, **{"workers": 0} | fields), batch_size)


@pytest.mark.parametrize("case", IMAGES)
def test_images_of_every_kind_reach_the_networks(case):
    make, expected, dtype = IMAGES[case]
    data = opened(Listed(make))
    assert data.size == (8, 6)
    assert data.classes == ["0", "1", "2"]
    assert data.labels.tolist() == LABELS
    assert len(data.mean) == len(data.std) == expected.shape[-1]
    images = torch.cat([batch.images for batch in data.test(5)])
    wanted = torch.from_numpy(expected.astype(np.float32)).permute(0, 3, 1, 2)
    if dtype == torch.uint8:
        mean, std = (torch.tensor(each)[:, None, None] for each in (data.mean, data.std))
        wanted = (wanted / 255 - mean) / std
        torch.testing.assert_close(wanted.mean((0, 2, 3)), torch.zeros(expected.shape[-1]), rtol=0, atol=1e-4)
    else:
        assert (set(data.mean), set(data.std)) == ({0.0}, {1.0})
    torch.testing.assert_close(images, wanted, rtol=0, atol=1e-4)
    shown = data.pictures([3, 0])
    assert shown.pixels.dtype == torch.uint8
    assert shown.pixels.shape == (2, 8, 6, 3)
    assert torch.equal(shown.images, images[[3, 0]])


def test_the_protocol_holds_with_and_without_workers():
    alone, helped = opened(Listed(first)), opened(Listed(first), workers=2)
    for epoch in (1, 2):
        pieces = list(alone.epoch(epoch))
        assert len(pieces) == alone.steps == 3
        for one, two in zip(pieces, helped.epoch(epoch), strict=True):
            assert all(map(torch.equal, one, two))
        seen = torch.cat([piece.index for piece in pieces])
        assert sorted(seen.tolist()) == list(range(12))
        batch = alone.take(pieces[0])
        assert torch.equal(alone.labels[batch.index], batch.targets)
    rest = list(alone.epoch(2, done=1))
    assert all(map(torch.equal, rest[0], list(alone.epoch(2))[1]))
    assert alone.probe().index.tolist() == [0, 1, 2, 3]


def test_what_a_dataset_draws_follows_from_seed_epoch_and_index():
    def noisy(x):
        values = (float(torch.rand(())), random.random(), float(np.random.rand()))
        return torch.tensor(values)[:, None, None].expand(3, 8, 6)

    def images(epoch, workers=0, batch_size=4, seed=0):
        data = TorchData(Datasets(Listed(noisy), Listed(noisy), workers=workers), batch_size, seed=seed)
        made = [data.take(piece) for piece in data.epoch(epoch)]
        index = torch.cat([batch.index for batch in made])
        return torch.cat([batch.images for batch in made])[index.argsort()]

    torch.manual_seed(5)
    before = torch.get_rng_state(), random.getstate()
    once = images(1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    for other in (images(1), images(1, workers=2), images(1, batch_size=6)):
        assert torch.equal(once, other)
    assert not torch.equal(once, images(2))
    assert not torch.equal(once, images(1, seed=1))
    assert len({tuple(image[:, 0, 0].tolist()) for image in once}) == 12


# labels -----------------------------------------------------------------------------------------------------------


class Silent(Listed):
    """The same without a list of its labels."""

    def __init__(self, make, labels=LABELS, as_label=int):
        super().__init__(make, labels)
        self._hidden, self.as_label = self.targets, as_label
        del self.targets

    def __len__(self):
        return len(self._hidden)

    def __getitem__(self, index):
        return self.make(BYTES[index]), self.as_label(self._hidden[index])


class Dicts(Listed):
    def __getitem__(self, index):
        return {"image": self.make(BYTES[index]), "label": self.targets[index], "more": 0}


class Changed(Listed):
    """A target_transform changes the labels that are listed."""

    def __getitem__(self, index):
        return self.make(BYTES[index]), 2 - self.targets[index]


class Paths(Silent):
    """Lists (path, label), as torchvision's folders do."""

    @property
    def samples(self):
        return [(f"{n}.png", label) for n, label in enumerate(self._hidden)]


LISTED = {
    "list": Listed(first),
    "paths": Paths(first),
    "dictionaries": Dicts(first),
    "subset": Subset(Listed(first), [2, 3, 7]),
    "subset of a subset": Subset(Subset(Listed(first), [2, 3, 7]), [2, 0]),
    "concatenation": ConcatDataset([Listed(first), Subset(Listed(first), [5])]),
    "tensors": TensorDataset(torch.from_numpy(BYTES), torch.tensor(LABELS)),
}


@pytest.mark.parametrize("case", LISTED)
def test_listed_labels_are_taken_without_a_word(case):
    dataset = LISTED[case]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        labels = labels_of(dataset, 0)
    expected = [dataset[n]["label"] if case == "dictionaries" else int(dataset[n][1]) for n in range(len(dataset))]
    assert labels.tolist() == expected


@pytest.mark.parametrize("as_label", [int, torch.tensor, np.int32, lambda label: torch.tensor([label])])
@pytest.mark.parametrize("workers", [0, 2])
def test_labels_that_are_not_listed_are_read(as_label, workers, monkeypatch):
    monkeypatch.setattr("famkd.data.torch_labels.CHUNK", 5)
    with pytest.warns(UserWarning, match="Silent does not list its labels: all 12 samples are read once"):
        assert labels_of(Silent(first, as_label=as_label), workers).tolist() == LABELS


def test_listed_labels_that_a_transform_changes_are_read():
    with pytest.warns(UserWarning, match="Changed does not list its labels"):
        assert labels_of(Changed(first), 0).tolist() == [2 - label for label in LABELS]


def test_names_of_classes_are_given_or_those_of_the_dataset():
    assert opened(Listed(first), classes=["a", "b", "c", "d"]).classes == ["a", "b", "c", "d"]
    named = Listed(first)
    named.classes = ["x", "y", "z"]
    assert opened(named).classes == ["x", "y", "z"]
    assert opened(Subset(named, [0, 1, 2])).classes == ["x", "y", "z"]
    with pytest.raises(UserError, match="2 names of classes are given, but labels run to 2"):
        opened(Listed(first), classes=["a", "b"])


# DataLoaders ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [True, False])
def test_of_a_loader_the_dataset_is_read(shuffle):
    loader = DataLoader(Listed(first), batch_size=3, shuffle=shuffle, num_workers=0)
    data = TorchData(Datasets(loader, DataLoader(Listed(first))), 4)
    assert data._workers == 0
    expected = opened(Listed(first))
    for one, two in zip(data.epoch(1), expected.epoch(1), strict=True):
        assert all(map(torch.equal, one, two))


class Endless(IterableDataset):
    def __iter__(self):
        yield BYTES[0], 0


REFUSED = {
    "sampler": (lambda: DataLoader(Listed(first), sampler=WeightedRandomSampler([1.0] * 12, 12)),
                "draws by a WeightedRandomSampler, .* pass its Dataset, and --data.balance sample"),
    "collate": (lambda: DataLoader(Listed(first), collate_fn=list), "has a collate_fn of its own"),
    "iterable": (lambda: Endless(), "A Endless has no samples by number"),
    "iterable in a loader": (lambda: DataLoader(Endless()), "no samples by number|draws by"),
    "empty": (lambda: Listed(first, []), "The Listed is empty"),
    "no dataset": (lambda: 3, "A int has no samples by number"),
    "image alone": (lambda: TensorDataset(torch.from_numpy(BYTES)), "a sample is a tuple: return .image, label."),
    "keys": (lambda: [{"picture": 1, "label": 2}] * 3, "has the keys picture, label: it needs image and label"),
    "vector": (lambda: Listed(lambda x: torch.zeros(5)), r"an image is a Tensor of shape \(5,\)"),
    "text": (lambda: Listed(lambda x: "a.png"), "an image is a str: return a PIL image"),
    "integers": (lambda: Listed(lambda x: first(x).long()), "an image is torch.int64: return uint8, or floats"),
    "float PIL": (lambda: Listed(lambda x: Image.fromarray(grey(x).astype(np.float32))), "pixels of unknown range"),
    "negative": (lambda: Listed(first, [-1, 0, 1]), "labels from -1 to 1: they must be class indices"),
    "one-hot": (lambda: Silent(first, [0, 1, 2], lambda label: torch.eye(3)[label]), r"is a Tensor of shape \(3,\)"),
    "name": (lambda: Silent(first, [0, 1, 2], str), "its label is a str '0': return the index of its class"),
    "fraction": (lambda: Silent(first, [0, 1, 2], float), "its label is a float 0.0: return the index"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*does not list its labels")
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_in_a_sentence(case):
    make, words = REFUSED[case]
    with pytest.raises(UserError, match=words) as raised:
        opened(make(), Listed(first))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_the_dataset_is_named_with_its_sample(workers):
    class Broken(Listed):
        def __getitem__(self, index):
            if index == 7:
                raise OSError("disk on fire")
            return super().__getitem__(index)

    data = opened(Broken(lambda x: first(x) / 255), workers=workers)
    with pytest.raises(UserError, match="sample 7 of Broken: OSError: disk on fire"):
        list(data.epoch(1))


def test_images_of_several_sizes_or_types_are_named():
    def make(x):
        return first(x)[:, : 8 - (x[0, 0, 0] == BYTES[7, 0, 0, 0])] / 255

    with pytest.raises(UserError, match="sample 7 of Listed is float32 of 3 x 7 x 6, but the first is float32"):
        list(opened(Listed(make)).test())


@pytest.mark.slow
def test_mean_and_std_may_be_given():
    data = opened(Listed(first), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    torch.testing.assert_close(data.probe().images[0], (first(BYTES[0]) / 255 - 0.5) / 0.25)
    floats = opened(Listed(lambda x: (first(x) / 255 - 0.5) / 0.25), mean=(0.5,) * 3, std=(0.25,) * 3)
    torch.testing.assert_close(floats.probe().images, data.probe().images)
    assert torch.equal(floats.pictures([2]).pixels, torch.from_numpy(BYTES[2:3]))
    for mean, std in (((0.5,), (0.5,)), ((0.5,) * 3, (0.0,) * 3), ((0.5,) * 3, ())):
        with pytest.raises(UserError, match="give 3 numbers each as mean and std"):
            opened(Listed(first), mean=mean, std=std)


def test_pixels_do_not_share_memory_with_what_the_dataset_keeps():
    image = pixels_of(Image.fromarray(BYTES[0]))
    image += 1
    assert not np.array_equal(image.numpy(), BYTES[0])


# by name ----------------------------------------------------------------------------------------------------------


def test_a_function_of_a_root_that_returns_two_datasets_is_a_data_set(monkeypatch):
    def mine(root: str, *, count: int = 12):
        """My images."""
        return Listed(first, LABELS[:count]), Listed(first)

    monkeypatch.setitem(DATA, "mine", mine)
    assert len(build_data("mine", "", 2, count=6).labels) == 6
    data = build_data("mine", "", 2, val="0.25")
    assert (data.n_val, len(data.labels), data.n_test) == (3, 9, 12)
    assert sum(len(batch.targets) for batch in data.val()) == 3
    with pytest.raises(UserError, match=r"return famkd\.Datasets with val="):
        build_data("mine", "", 2, val="val")
    monkeypatch.setitem(DATA, "more", lambda root: Datasets(Listed(first), Listed(first), val=Listed(first, [0, 1])))
    assert build_data("more", "", 2, val="val").n_val == 2
    monkeypatch.setitem(DATA, "none", lambda root: 5)
    with pytest.raises(UserError, match=r"returned a int: return famkd.data.small.Images, or a training and a test"):
        build_data("none", "", 2)
    monkeypatch.setitem(DATA, "own", lambda root: Path(root, "labels").read_text())
    with pytest.raises(UserError, match=r"The data set own cannot be read from nowhere: FileNotFoundError: "):
        build_data("own", "nowhere", 2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*worker")
def test_a_student_is_trained_distilled_resumed_and_shown(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(DATA, "mine", lambda root: Datasets(Listed(first), Listed(first), workers=0))
    (tmp_path / "mine.yaml").write_text(
        "{student: {model: resnet8}, data: {name: mine, batch_size: 4}, optim: {steps: [1]}}"
    )
    teacher = train(load_recipe("mine.yaml", "--epochs", "1"), out="teacher")
    flags = ("--method", "fam_review+kd", "--teacher.model", "resnet8", "--teacher.weights", str(teacher.path))
    whole = train(load_recipe("mine.yaml", "--epochs", "2", *flags), out="whole")
    assert len(whole.metrics()) == 2
    again = train(load_recipe("mine.yaml", "--epochs", "2", *flags), out="again")
    assert whole.metrics() == again.metrics()
    assert run_images(whole, [0, 1]).pixels.shape == (2, 8, 6, 3)
