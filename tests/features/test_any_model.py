"""Networks of other libraries and of the user, data of the user: each learns one step, or says why not."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import famkd
from famkd.data import build_data
from famkd.distill.distiller import Distiller
from famkd.distill.types import Batch, Method
from famkd.errors import UserError
from famkd.features.find import discover
from famkd.features.layout import as_maps, layout_of
from famkd.features.taps import Tapped
from famkd.layers.fourier import FilterOptions
from famkd.methods import METHODS
from famkd.models import build_model
from famkd.tasks import Classification

PAIRS = {
    "ConvNet taught by tokens": ("torchvision:resnet18", "timm:vit_tiny_patch16_224", 64),
    "ConvNeXt taught by ResNet": ("timm:convnext_atto", "torchvision:resnet18", 64),
    "ResNet taught by channels last": ("torchvision:resnet18", "timm:swin_tiny_patch4_window7_224", 64),
    "tokens taught by ConvNet": ("timm:vit_tiny_patch16_224", "torchvision:mobilenet_v3_small", 64),
}


def a_batch(side: int, classes: int = 5, n: int = 2) -> Batch:
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(n, 3, side, side, generator=draw)
    return Batch(images, torch.randint(classes, (n,), generator=draw), torch.arange(n))


@pytest.mark.sample(2)
@pytest.mark.parametrize("pair", PAIRS)
def test_unlike_families_learn_a_step_by_every_kind_of_method(pair):
    *names, side = PAIRS[pair]
    student, teacher = (build_model(name, 5, size=(side, side)) for name in names)
    batch = a_batch(side)
    for method in ("kd", "at", "reviewkd", "fam_review"):
        options = {method: {"filter": FilterOptions(filter="lowrank")}} if method == "fam_review" else {}
        distiller = Distiller(
            Classification(), student, teacher, {method: METHODS[method]}, probe=batch, options=options
        )
        losses = distiller.train()(batch)[0]
        total = sum(term for group in losses.values() for term in group.values())
        distiller.zero_grad()
        total.backward()
        assert torch.isfinite(total)
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in student.parameters())
        distiller.student.remove()
        distiller.teacher.remove()


class Tokens(nn.Module):
    """Patches to tokens and two blocks; the position of a patch is written into its token."""

    def __init__(self, prefix: int, blocks: int = 2):
        super().__init__()
        self.patch, self.prefix = nn.Conv2d(3, 8, 4, 4), prefix
        self.blocks = nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.GELU()) for _ in range(blocks)))
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.cat((tokens.new_zeros(len(x), self.prefix, 8), tokens), 1)
        return self.head(self.blocks(tokens)[:, 0])


@pytest.mark.parametrize("prefix", [0, 1, 5])
@pytest.mark.parametrize("size", [(32, 32), (16, 48), (28, 36)])
def test_tokens_fold_back_to_where_they_came_from(prefix, size):
    grid = (size[0] // 4, size[1] // 4)
    wanted = torch.randn(2, 8, *grid)
    tokens = torch.cat((torch.zeros(2, prefix, 8), wanted.flatten(2).transpose(1, 2)), 1)
    (folded,) = as_maps([tokens], size, prefix)
    assert torch.equal(folded, wanted)


def test_the_number_of_prefix_tokens_is_found_where_the_model_does_not_name_it():
    assert layout_of((2, 197, 192), (224, 224)) == ("tokens", (14, 14), 1)
    assert layout_of((2, 201, 192), (224, 224)) == ("tokens", (14, 14), 5)
    assert layout_of((2, 23, 192), (224, 224)).kind == "other"


def test_channels_last_is_told_by_shape_and_by_its_neighbours_where_shape_does_not_tell():
    last, either = torch.randn(2, 8, 8, 96), torch.randn(2, 16, 16, 16)
    maps = as_maps([either, last], (64, 64))
    assert torch.equal(maps[0], either.permute(0, 3, 1, 2))
    assert torch.equal(maps[1], last.permute(0, 3, 1, 2))
    assert as_maps([either], (64, 64))[0] is either
    assert torch.equal(as_maps([either], (64, 64), channels_last=True)[0], either.permute(0, 3, 1, 2))
    plain = torch.randn(2, 96, 8, 8)
    assert as_maps([plain], (64, 64))[0] is plain
    pooled = torch.randn(2, 96, 1, 1)
    assert as_maps([pooled], (64, 48))[0] is pooled


def test_a_network_of_one_size_is_looked_at_in_four_blocks():
    model = Tokens(1, blocks=8)
    taps, head = discover(model, torch.randn(2, 3, 32, 32))
    assert taps["stages"] == ("blocks.1", "blocks.3", "blocks.5", "blocks.7")
    assert (taps["embed"], head) == (("head:in",), "head")


def test_a_stage_ends_with_a_whole_block_and_not_inside_the_next():
    taps, _ = discover(build_model("torchvision:resnet50", 5), torch.randn(2, 3, 64, 64))
    assert taps["stages"] == ("layer1", "layer2", "layer3", "layer4")
    taps, _ = discover(build_model("torchvision:mobilenet_v3_small", 5), torch.randn(2, 3, 64, 64))
    assert taps["stages"] == ("features.1", "features.3", "features.8", "features")


def test_images_that_a_network_cannot_take_are_said_so():
    with pytest.raises(UserError, match=r"cannot be built for images of 8 x 8"):
        build_model("timm:vit_tiny_patch16_224", 5, size=(8, 8))
    with pytest.raises(UserError, match=r"does not run on images of 3x20x20"):
        discover(build_model("torchvision:vit_b_32", 5, size=(32, 32)), torch.randn(2, 3, 20, 20))


def test_weights_that_cannot_be_fetched_are_said_so(monkeypatch):
    import timm

    def offline(*_, **options):
        raise ConnectionError("the hub is out of reach")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(UserError, match=r"weights of timm:resnet18 could not be downloaded: check the network"):
        build_model("timm:resnet18", 5, pretrained=True)


class MyNet(nn.Module):
    def __init__(self, classes: int):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(16, classes)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


class Mine(Method):
    """Nearness of both logits."""

    def __init__(self, probe, *, power: float = 2.0):
        super().__init__(probe)
        self.power = power

    def forward(self, student, teacher, batch):
        return {"near": (student.logits - teacher.logits).abs().pow(self.power).mean()}


def test_a_network_and_a_method_of_ones_own_are_trained_in_five_lines(small, monkeypatch):
    monkeypatch.setitem(famkd.MODELS, "mynet", MyNet)
    monkeypatch.setitem(famkd.METHODS, "mine", Mine)
    teacher = famkd.train(small("--student.model", "mynet", "--epochs", "1"), out="teacher")
    flags = ("--student.model", "mynet", "--teacher.model", "mynet", "--teacher.weights", str(teacher.path))
    run = famkd.train(small(*flags, "--method", "mine+fam_review", "--mine.power", "1.5", "--epochs", "1"))
    assert run.finished
    assert {"mine.near", "fam_review.review"} <= set(run.metrics()[-1])
    assert run.recipe.mine.power == 1.5


def test_a_loop_of_ones_own_takes_the_distiller_alone():
    batch = a_batch(16)
    student, teacher = MyNet(5), MyNet(5)
    distiller = famkd.Distiller(Classification(), student, teacher, {"kd": famkd.METHODS["kd"]}, probe=batch)
    sum(loss for group in distiller(batch)[0].values() for loss in group.values()).backward()
    assert all(p.grad is not None for p in student.parameters())
    assert all(p.grad is None for p in teacher.parameters())


def test_importing_the_package_imports_no_torch():
    code = "import sys, famkd; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert all(getattr(famkd, name) is not None for name in famkd.__all__)
    assert callable(famkd.train)
    with pytest.raises(AttributeError):
        famkd.nothing  # noqa: B018


def test_a_deep_copy_of_a_tapped_network_sees_for_itself():
    from copy import deepcopy

    tapped = Tapped(MyNet(5), ["body.1", "head:in"])
    copy, images = deepcopy(tapped), torch.randn(2, 3, 8, 8)
    assert all(torch.equal(a, b) for a, b in zip(tapped(images)[1], copy(images)[1], strict=True))


@pytest.fixture
def photos(tmp_path):
    """Two classes of two plain colours; one test image is larger than it is high."""
    for part, name, n, size in (("train", "red", 3, (8, 8)), ("train", "sky", 2, (8, 8)), ("val", "sky", 1, (8, 8))):
        (tmp_path / part / name).mkdir(parents=True)
        colour = (250, 0, 0) if name == "red" else (0, 0, 250)
        for k in range(n):
            Image.new("RGB", size, colour).save(tmp_path / part / name / f"{k}.png")
    return tmp_path


def test_an_image_folder_is_read_by_class(photos):
    data = build_data("folder", str(photos), 2)
    assert data.classes == ["red", "sky"]
    assert data.size == (8, 8)
    assert data.labels.tolist() == [0, 0, 0, 1, 1]
    (batch,) = data.test()
    assert batch.targets.tolist() == [1]
    pixel = batch.images[0, :, 0, 0] * torch.tensor(data.std) + torch.tensor(data.mean)
    np.testing.assert_allclose(pixel.numpy() * 255, (0, 0, 250), atol=0.1)


def test_images_of_several_sizes_need_a_size(photos):
    Image.new("RGB", (20, 10), (0, 0, 250)).save(photos / "val" / "sky" / "wide.png")
    with pytest.raises(UserError, match=r"differ in size.*PATH@64"):
        build_data("folder", str(photos), 2)
    assert build_data("folder", f"{photos}@16", 2).size == (16, 16)


def test_what_is_wrong_with_a_folder_is_said(photos):
    (photos / "train" / "red" / "0.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"0\.png cannot be read as an image"):
        build_data("folder", str(photos), 2)
    (photos / "val" / "dog").mkdir()
    with pytest.raises(UserError, match=r"val has classes that .*train lacks: dog"):
        build_data("folder", str(photos), 2)
    with pytest.raises(UserError, match=r"There is no folder .*train: .*val holds "):
        build_data("folder", str(photos / "val"), 2)
