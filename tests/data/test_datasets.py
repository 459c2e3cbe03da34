"""What holds for every data set: how it is built, its options, and the protocol that training relies on."""

import inspect

import numpy as np
import pytest
import torch
from helpers.tiny_coco import make_coco
from PIL import Image

from famkd.data import DATA, build_data, tasks_of_data
from famkd.data.in_memory import InMemory, in_memory
from famkd.data.loader import count_workers, local_processes
from famkd.data.small import Images
from famkd.distill.types import Batch, Dataset
from famkd.errors import UserError

STREAMED = {"coco", "imagenet"}
OFFLINE = set(DATA) - {"cifar10", "cifar100"}  # those two need files that are not made here; npz stands for them
OPTIONS = {"coco": {"sides": (64,), "longest": 100, "workers": 0}, "imagenet": {"size": 16, "workers": 0}}


@pytest.fixture(scope="module")
def roots(tmp_path_factory, few_digits) -> dict[str, str]:
    """The root of a small data set of each kind."""
    place = tmp_path_factory.mktemp("sets")
    draw = np.random.default_rng(0)
    for part, count in (("train", 3), ("val", 2)):
        for name in ("a", "b"):
            folder = place / "tree" / part / name
            folder.mkdir(parents=True)
            for n in range(count):
                Image.fromarray(draw.integers(0, 256, (20, 20, 3), np.uint8)).save(folder / f"{n}.png")
    tree = str(place / "tree")
    coco = str(make_coco(place / "coco"))
    return {"bands": "", "digits": "", "npz": str(few_digits), "folder": tree, "imagenet": tree, "coco": coco}


def built(name: str, roots: dict[str, str], batch_size: int = 4) -> Dataset:
    return build_data(name, roots[name], batch_size, seed=1, **OPTIONS.get(name, {}))


def arrays(count: int = 5) -> Images:
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 256, (count, 8, 8, 3), np.uint8), np.arange(count) % 2
    return Images(x, y, x, y, ["even", "odd"], (0.5,) * 3, (0.25,) * 3)


@pytest.mark.parametrize("name", DATA)
def test_a_builder_takes_the_common_arguments_and_options_by_keyword(name):
    parameters = list(inspect.signature(DATA[name]).parameters.values())
    options = [each for each in parameters[5:] if each.name != "task"]
    assert [each.name for each in parameters[:5]] == ["root", "batch_size", "device", "seed", "augment"]
    assert all(each.kind is each.KEYWORD_ONLY for each in options)
    assert {each.name for each in options} >= set(OPTIONS.get(name, {}))
    help_text = inspect.getdoc(DATA[name])
    assert help_text.splitlines()[0].endswith(".")
    assert all(f"\n    {each.name}: " in help_text for each in options)
    assert tasks_of_data(name)[0] == ("detection" if name == "coco" else "classification")


@pytest.mark.parametrize("name", sorted(OFFLINE))
def test_a_data_set_is_what_the_protocol_says(name, roots):
    data = built(name, roots)
    assert data.task == tasks_of_data(name)[0]
    assert data.streamed == (name in STREAMED)
    assert data.device == torch.device("cpu")
    assert (len(data.mean), len(data.std)) == (3, 3)
    pieces = list(data.epoch(1))
    assert len(pieces) == data.steps >= 1
    batch = data.take(pieces[0])
    assert isinstance(batch, Batch)
    assert len(batch.images) == len(batch.targets) == len(batch.index) == data.batch_size == 4
    assert len(data.probe().images) == 4
    if data.labels is None:
        assert data.size is None
    else:
        assert torch.equal(data.labels[batch.index], batch.targets)
        assert data.size == tuple(batch.images.shape[2:])
        assert int(data.labels.max()) < len(data.classes)


@pytest.mark.parametrize("name", sorted(OFFLINE))
def test_all_test_images_come_in_order_whatever_the_batch(name, roots):
    data = built(name, roots)
    for batch_size in (0, 3):
        index = torch.cat([batch.index for batch in data.test(batch_size)])
        assert index.tolist() == list(range(data.n_test))


@pytest.mark.parametrize("name", sorted(OFFLINE - {"coco"}))
def test_pictures_are_the_test_images_at_some_positions(name, roots):
    data = built(name, roots)
    images = torch.cat([batch.images for batch in data.test()])
    targets = torch.cat([batch.targets for batch in data.test()])
    shown = data.pictures([3, 0])
    assert torch.equal(shown.images, images[[3, 0]])
    assert torch.equal(shown.labels, targets[[3, 0]])
    assert shown.pixels.dtype == torch.uint8
    normalised = (shown.pixels / 255 - torch.tensor(data.mean)) / torch.tensor(data.std)
    torch.testing.assert_close(normalised.permute(0, 3, 1, 2), shown.images, rtol=0, atol=1e-5)


def test_images_with_boxes_have_no_pictures(roots):
    with pytest.raises(UserError, match="COCO differ in size"):
        built("coco", roots).pictures([0])


def test_an_option_of_another_data_set_is_refused():
    with pytest.raises(UserError, match=r"--data\.size is an option of imagenet, not of digits"):
        build_data("digits", "", 8, size=32)
    with pytest.raises(UserError, match=r"--data\.workers is an option of coco and imagenet, not of bands"):
        build_data("bands", "", 8, workers=2)
    with pytest.raises(UserError, match=r"No data set has an option 'wokers'. Did you mean workers\?"):
        build_data("imagenet", "", 8, wokers=2)


def test_a_plugins_function_from_a_root_to_images_is_a_data_set(monkeypatch):
    monkeypatch.setitem(DATA, "mine", lambda root: arrays(len(root)))
    data = build_data("mine", "seven..", 3, seed=2, augment=False)
    expected = InMemory(arrays(7), 3, "cpu", 2, False)
    assert isinstance(data, InMemory)
    for one, two in zip(data.epoch(1), expected.epoch(1), strict=True):
        assert torch.equal(data.take(one).images, expected.take(two).images)


def test_a_plugins_function_may_have_options(monkeypatch):
    def mine(root: str, *, count: int = 5) -> Images:
        return arrays(count)

    monkeypatch.setitem(DATA, "mine", mine)
    assert build_data("mine", "", 2).n_test == 5
    assert build_data("mine", "", 2, count=6).n_test == 6
    with pytest.raises(UserError, match=r"--data\.count is an option of mine, not of digits"):
        build_data("digits", "", 2, count=6)


def test_in_memory_makes_a_builder_with_the_functions_help():
    def mine(root: str) -> Images:
        """Images of my own."""
        return arrays()

    build = in_memory(mine)
    assert (build.__name__, build.__doc__) == ("mine", "Images of my own.")
    data = build("", 2, "cpu", 3, False)
    assert (data.batch_size, data.seed, data.pad) == (2, 3, 0)


@pytest.mark.parametrize("augment", [True, False])
def test_images_gives_back_the_loaded_arrays(augment):
    images = arrays()
    back = InMemory(images, 2, augment=augment).images()
    for field in ("x_train", "y_train", "x_test", "y_test"):
        np.testing.assert_array_equal(getattr(back, field), getattr(images, field))
    assert (back.pad, back.flip) == ((images.pad, images.flip) if augment else (0, False))


def test_workers_are_as_asked_or_a_share_of_the_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(64), raising=False)
    assert [count_workers(asked, 4) for asked in (0, 1, 40)] == [0, 1, 40]
    assert [count_workers(-1, processes) for processes in (1, 4, 8, 64, 100)] == [16, 16, 8, 1, 1]
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert local_processes() == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert local_processes() == 8


def test_importing_the_data_sets_does_not_import_torchvision(python):
    code = "import sys, famkd.data; print('torchvision' in sys.modules)"
    assert python("-c", code) == (0, "False\n", "")


def test_every_reader_of_files_knows_the_same_endings(tmp_path):
    for part in ("train", "val"):
        folder = tmp_path / part / "a"
        folder.mkdir(parents=True)
        for ending in ("jpg", "PNG", "bmp", "webp", "ppm", "gif", "tiff"):
            Image.new("RGB", (8, 8), (200, 10, 10)).save(folder / f"image.{ending}")
        (folder / "notes.txt").write_text("no image")
    assert len(build_data("folder", str(tmp_path), 2).labels) == 7
    assert len(build_data("imagenet", str(tmp_path), 2, workers=0).labels) == 7
