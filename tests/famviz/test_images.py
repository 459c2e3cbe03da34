"""Images in every form, and how each network gets them."""

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn
from torch.utils.data import Dataset
from torchvision import transforms as T

from famkd.errors import UserError
from famviz.networks.images import as_images
from famviz.networks.prepare import Preparation, as_bytes, framed, normalisation, preparation_of

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 8, 3), np.uint8)
LABELS = [1, 0, 1, 0]


class Pairs(Dataset):
    """Pictures with labels, which are known only when they are read."""

    classes = ("ant", "bee")

    def __init__(self):
        self.reads = 0

    def __len__(self):
        return 4

    def __getitem__(self, at):
        self.reads += 1
        return Image.fromarray(PIXELS[at]), LABELS[at]


@pytest.fixture
def folder(tmp_path):
    for at, (pixels, label) in enumerate(zip(PIXELS, LABELS)):
        place = tmp_path / ("ant", "bee")[label]
        place.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(place / f"{at}.png")
    (tmp_path / "ant" / "notes.txt").write_text("no image")
    return tmp_path


def drawn(images):
    return np.stack([np.asarray(images.picture(at)) for at in range(len(images))])


FORMS = {
    "array": lambda: PIXELS,
    "bytes": lambda: torch.from_numpy(PIXELS).permute(0, 3, 1, 2),
    "PIL": lambda: [Image.fromarray(each) for each in PIXELS],
    "arrays": lambda: list(PIXELS),
    "pairs": lambda: [(Image.fromarray(each), label) for each, label in zip(PIXELS, LABELS)],
    "data set": Pairs,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_pictures(form):
    images = as_images(FORMS[form]())
    np.testing.assert_array_equal(drawn(images), PIXELS)
    if form in ("pairs", "data set"):
        assert images.labels.tolist() == LABELS
    else:
        assert images.labels is None
    given = as_images(FORMS[form](), [0, 0, 1, 1], ["a", "b"])
    assert given.labels.tolist() == [0, 0, 1, 1]
    assert given.classes == ["a", "b"]


def test_files_and_folders_are_read_when_they_are_needed(folder):
    by_class = as_images(folder)
    assert by_class.classes == ["ant", "bee"]
    assert by_class.labels.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(drawn(by_class), PIXELS[[1, 3, 0, 2]])
    np.testing.assert_array_equal(drawn(as_images(str(folder / "bee"))), PIXELS[[0, 2]])
    np.testing.assert_array_equal(drawn(as_images(folder / "bee" / "0.png")), PIXELS[:1])
    np.testing.assert_array_equal(drawn(as_images([folder / "bee" / "2.png"])), PIXELS[2:3])
    own = torchvision.datasets.ImageFolder(str(folder))
    assert as_images(own).labels.tolist() == own.targets
    missing = as_images([folder / "bee" / "9.png"])  # nothing is read yet
    with pytest.raises(UserError, match="There is no image"):
        missing.picture(0)


def test_labels_of_a_data_set_are_read_once():
    pairs = Pairs()
    images = as_images(pairs)
    assert pairs.reads == 0
    assert images.labels.tolist() == images.labels.tolist() == LABELS
    assert pairs.reads == 4


def test_pictures_may_have_names():
    named = as_images({"one": Image.fromarray(PIXELS[0]), "two": PIXELS[1]})
    np.testing.assert_array_equal(drawn(named), PIXELS[:2])


def test_other_class_names_are_not_those_of_the_callers_images():
    images = as_images(PIXELS, classes=["a", "b"])
    assert as_images(images, classes=["c", "d"]).classes == ["c", "d"]
    assert images.classes == ["a", "b"]


def test_grey_pictures_and_floats():
    grey = as_images([Image.fromarray(PIXELS[0, ..., 0]), PIXELS[0, ..., 0]])
    np.testing.assert_array_equal(drawn(grey), np.repeat(PIXELS[:1, ..., :1], 3, 3).repeat(2, 0))
    floats = torch.randn(2, 3, 5, 5)
    assert torch.equal(as_images(floats).picture(1), floats[1])


@pytest.mark.parametrize(
    ("source", "words"),
    [(7, "cannot be a int: pass a tensor"), ({1}, "cannot be a set"), ({}, "no images"), ([], "no images"),
     ("nowhere", "nothing at"), (torch.zeros(3, 5, 5), "4 dimensions"),
     ([torch.zeros(2)], "An image cannot be a Tensor")],
)  # fmt: skip
def test_other_things_are_refused(source, words):
    with pytest.raises(UserError, match=words):
        as_images(source).picture(0)


def test_damaged_files_and_wrong_labels_are_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"a\.png cannot be read as an image"):
        as_images(tmp_path).picture(0)
    with pytest.raises(UserError, match="4 images and 3 labels"):
        as_images(PIXELS, [0, 1, 0])


def test_a_network_says_how_it_wants_its_images():
    timm = pytest.importorskip("timm")
    lite = preparation_of(timm.create_model("tf_efficientnet_lite2", num_classes=2))
    assert (lite.size, tuple(lite.mean), lite.named) == ((260, 260), (0.5, 0.5, 0.5), True)
    vit = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=2)
    assert preparation_of(vit).size == (64, 64)  # as it was built, not as it was trained
    theirs = torchvision.models.VisionTransformer(48, 8, 1, 1, 8, 8)
    assert preparation_of(theirs).size == (48, 48)
    other = preparation_of(nn.Linear(2, 2))
    assert (other.size, other.named) == ((224, 224), False)
    assert tuple(other.mean) == (0.485, 0.456, 0.406)


def test_a_picture_is_resized_and_normalised_as_torchvision_does():
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (50, 40, 3), np.uint8))
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    steps = [T.Resize((32, 24), T.InterpolationMode.BICUBIC), T.ToTensor(), T.Normalize(mean, std)]
    wanted = T.Compose(steps)(picture)
    torch.testing.assert_close(Preparation((32, 24), mean, std)(picture), wanted)
    small = Preparation((224, 224), named=False)(picture)
    assert small.shape == (3, 50, 40)  # a network of any size takes it as it is
    assert Preparation((224, 224))(picture).shape == (3, 224, 224)


@pytest.mark.parametrize(
    ("size", "sides", "crop", "wanted"),
    [
        ((500, 375), [(224, 224)], 0.875, (328, 328)),  # the centre of ImageNet's evaluation
        ((500, 375), [(224, 224), (260, 260)], 1.0, (375, 375)),
        ((256, 256), [(224, 224)], 0.875, (224, 224)),
        ((240, 300), [(224, 224)], 0.875, (224, 224)),  # not below the size of the network
        ((32, 32), [(224, 224)], 0.875, (32, 32)),  # nothing of a small picture is lost
        ((400, 400), [(100, 200)], 0.5, (200, 100)),
    ],
)
def test_all_networks_see_one_centre(size, sides, crop, wanted):
    columns = np.tile(np.arange(size[0], dtype=np.uint16).astype(np.uint8)[None, :, None], (size[1], 1, 3))
    part = framed(Image.fromarray(columns), sides, crop)
    assert part.size == wanted
    left = (size[0] - wanted[0]) // 2
    assert np.asarray(part)[0, 0, 0] == left % 256


def test_bytes_are_what_was_normalised():
    images = torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255
    steps = T.Compose([T.Resize(9), T.Compose([T.Normalize((0.2, 0.3, 0.4), (0.5, 0.6, 0.7))])])
    np.testing.assert_allclose(normalisation(steps), [[0.2, 0.3, 0.4], [0.5, 0.6, 0.7]])
    assert normalisation(T.Normalize((0.5,), (0.25,))) == ([0.5] * 3, [0.25] * 3)
    normalised = T.Normalize((0.2, 0.3, 0.4), (0.5, 0.6, 0.7))(images)
    np.testing.assert_array_equal(as_bytes(normalised, steps), PIXELS)
    own = as_bytes(normalised, None)
    assert (own.min((1, 2, 3)) == 0).all()
    assert (own.max((1, 2, 3)) == 255).all()
