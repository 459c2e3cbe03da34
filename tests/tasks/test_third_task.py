"""A third task is a class, a data set and a line in each table; nothing else asks for a name of either."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from famkd.cli import main
from famkd.config.load import load_recipe
from famkd.config.validate import validated
from famkd.data import DATA
from famkd.distill.types import Batch, Pictures, Scores, View
from famkd.errors import UserError
from famkd.evaluate import evaluate_run
from famkd.tasks import TASKS
from famkd.tasks.classification import Classification
from famkd.training.loop import train


class Segmenter(nn.Module):
    """Two convolutions, then a class for every pixel."""

    def __init__(self, classes: int, width: int = 4):
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(width, width, 3, 2, 1), nn.ReLU())
        self.out = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.out(self.two(self.one(x))), x.shape[-2:])


class Segmentation(Classification):
    """A class for every pixel: cross-entropy and pixel accuracy."""

    name = "segmentation"
    usual_data = "squares"
    models = {
        "segmenter": lambda classes, pretrained=False: Segmenter(classes),
        "wide_segmenter": lambda classes, pretrained=False: Segmenter(classes, 8),
    }
    measures_teacher = False
    returns_logits = False
    has_single_class = False

    def refuses(self, method) -> str:
        return "" if method.wants == "stages" else "does not compare stages"

    def study(self, net, batch: Batch) -> tuple[dict[str, Tensor], View]:
        logits, feats = net(batch.images)
        return {"ce": F.cross_entropy(logits, batch.targets)}, View(None, feats)

    def teach(self, net, batch: Batch) -> View:
        return View(None, net(batch.images)[1])

    @torch.no_grad()
    def evaluate(self, model: nn.Module, batches: Iterable[Batch]) -> Scores:
        right = [(model(batch.images).argmax(1) == batch.targets).float().mean() for batch in batches]
        return Scores({"pixels": 100 * float(torch.stack(right).mean())})


class Piece(NamedTuple):
    index: Tensor


class Squares:
    """Sixteen images of a bright square; every pixel in it is of class 1."""

    task = "segmentation"
    classes = ["ground", "square"]
    labels = None
    size = (8, 8)
    mean, std = (0.0,) * 3, (1.0,) * 3
    streamed = False
    steps = 2
    n_train, n_val, n_test = 16, 0, 16

    def __init__(self, root, batch_size, device="cpu", seed=0, augment=True, *, side: int = 3):
        self.device, self.batch_size = torch.device(device), 8
        self.masks = torch.zeros(16, 8, 8, dtype=torch.int64)
        for n in range(16):
            self.masks[n, n % 5 : n % 5 + side, n // 4 : n // 4 + side] = 1
        self.images = self.masks[:, None].float().repeat(1, 3, 1, 1)

    def epoch(self, number: int, done: int = 0) -> Iterator[Piece]:
        yield from (Piece(part) for part in list(torch.arange(16).split(8))[done:])

    def take(self, piece: Piece) -> Batch:
        return Batch(self.images[piece.index], self.masks[piece.index], piece.index)

    def probe(self) -> Batch:
        return self.take(Piece(torch.arange(8)))

    def test(self, batch_size: int = 0) -> Iterator[Batch]:
        yield self.take(Piece(torch.arange(16)))

    def pictures(self, index) -> Pictures:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def segmentation(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(TASKS, "segmentation", Segmentation())
    monkeypatch.setitem(DATA, "squares", Squares)
    torch.save(Segmenter(2, 8).state_dict(), "teacher.pt")
    (tmp_path / "pair.yaml").write_text(
        "task: segmentation\nstudent: {model: segmenter}\nteacher: {model: wide_segmenter, weights: teacher.pt}\n"
        "method: fam\ndata: {name: squares, side: 2}\noptim: {epochs: 2, lr: 0.05}\n"
    )


def test_it_is_trained_and_evaluated():
    recipe = load_recipe("pair.yaml")
    assert recipe.data.side == 2
    run = train(recipe, out="run")
    rows = run.metrics()
    assert [list(row) for row in rows] == [["epoch", "task.ce", "fam.mse", "pixels", "lr"]] * 2
    assert evaluate_run("run")[0] == {"pixels": pytest.approx(rows[-1]["pixels"])}


def test_its_options_are_flags(capsys):
    with pytest.raises(SystemExit):
        main(["train", "pair.yaml", "--help"])
    assert "--data.side" in capsys.readouterr().out
    assert load_recipe("pair.yaml", "--data.side", "4").data.side == 4
    with pytest.raises(UserError, match=r"--data\.side is an option of squares, not of digits"):
        load_recipe("quickstart", "--data.side", "4")


@pytest.mark.parametrize(("flags", "words"), [
    (("--student.model", "resnet20"), "resnet20 is a network for classification, not for segmentation: segmentation "
     "takes segmenter, wide_segmenter"),
    (("--data", "digits"), "The data set digits is for classification or unlabelled, not for segmentation"),
    (("--method", "kd"), "kd does not compare stages"),
    (("--task", "classification"), "segmenter is a network for segmentation, not for classification"),
])  # fmt: skip
def test_what_does_not_fit_it_is_refused(flags, words):
    with pytest.raises(UserError, match=words):
        validated(load_recipe("pair.yaml", *flags))
