"""Whatever a network returns, a step gets its logits, or one sentence says what came and how to name the right part."""

from collections import namedtuple
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

import famkd
from famkd.config.load import Recipe, parse_recipe
from famkd.distill.distiller import Distiller, total_loss
from famkd.distill.types import Batch, Dataset
from famkd.errors import UserError
from famkd.tasks import TASKS, Classification
from famkd.training.build import build_distiller, build_recipe_data

CLASSES = 3  # of the digits in `small`
Aux = namedtuple("Aux", ["logits", "aux_logits"])
Unlike = namedtuple("Unlike", ["aux", "main"])


@dataclass
class Output:
    logits: Tensor
    loss: Tensor | None = None
    hidden: tuple = ()


class Slots:
    __slots__ = ("logits",)

    def __init__(self, logits: Tensor):
        self.logits = logits


class Parts(NamedTuple):
    """What a network can return parts of."""

    logits: Tensor
    other: Tensor  # logits of another head
    embed: Tensor
    maps: Tensor
    training: bool


class Net(nn.Module):
    """Two stages and two heads; `answer` makes what it returns from its parts."""

    def __init__(self, answer, classes: int = CLASSES, channels: int = 3):
        super().__init__()
        self.answer = answer
        self.one = nn.Sequential(nn.Conv2d(channels, 4, 3, 1, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU())
        self.drop, self.fc, self.aux = nn.Dropout(0.5), nn.Linear(6, classes), nn.Linear(6, classes)

    def forward(self, x: Tensor):
        maps = self.two(self.one(x))
        embed = self.drop(maps.mean((2, 3)))
        return self.answer(Parts(self.fc(embed), self.aux(embed), embed, maps, self.training))


class Case(NamedTuple):
    answer: object
    sentence: str = ""  # what is said instead of a step; "" for a step with the logits of `fc`
    output: str = ""
    only: str = ""  # the network that the sentence is about, where the other one is accepted


def maps_of(p: Parts) -> Tensor:
    """Maps (B, classes, h, w) whose mean are the logits."""
    return p.logits[:, :, None, None] + torch.tensor([[1.0, -1.0], [2.0, -2.0]])


SEVERAL = r"may be the logits: name the right one, as in --WHO\.output "
NONE = r"in which no part is logits of shape \(batch, 3\): return them"
CASES = {
    "tensor": Case(lambda p: p.logits),
    "tuple of logits and maps": Case(lambda p: (p.logits, p.maps)),
    "tuple of embedding and logits": Case(lambda p: (p.embed, p.logits)),
    "tuple of logits and all stages": Case(lambda p: (p.logits, [p.maps, p.maps])),
    "list of one": Case(lambda p: [p.logits]),
    "tuple with None": Case(lambda p: (None, p.logits, None)),
    "named tuple": Case(lambda p: Aux(p.logits, p.other)),
    "auxiliary first": Case(lambda p: Unlike(p.other, p.logits)),
    "auxiliary in training only": Case(lambda p: (p.logits, p.other) if p.training else p.logits),
    "auxiliary in training only, first": Case(lambda p: [p.other, p.logits] if p.training else p.logits),
    "named in training only": Case(lambda p: Aux(p.logits, p.other) if p.training else p.logits),
    "features in training only": Case(lambda p: {"x": p.embed, "y": p.logits} if p.training else p.logits),
    "dictionary": Case(lambda p: {"logits": p.logits}),
    "dictionary as of torchvision's segmentation": Case(lambda p: {"out": p.logits, "aux": p.other}),
    "dictionary of several": Case(lambda p: {"embedding": p.embed, "other": p.other, "logits": p.logits}),
    "dictionary by numbers": Case(lambda p: {0: p.embed, 1: p.logits}),
    "dictionary within": Case(lambda p: {"head": {"logits": p.logits, "second": p.other}}),
    "dataclass": Case(lambda p: Output(p.logits, hidden=(p.maps, p.other))),
    "namespace": Case(lambda p: SimpleNamespace(logits=p.logits, other=p.other)),
    "slots": Case(lambda p: Slots(p.logits)),
    "one tensor twice": Case(lambda p: {"a": p.logits, "b": p.logits}),
    "maps of one pixel": Case(lambda p: p.logits[:, :, None, None]),
    "maps": Case(maps_of),
    "maps in a dictionary": Case(lambda p: {"out": maps_of(p)}),
    "vector before maps": Case(lambda p: (p.other[:, :, None, None].expand(-1, -1, 4, 4), p.logits)),
    "sequence of one": Case(lambda p: p.logits[:, None]),
    "sequence of one, last": Case(lambda p: p.logits[:, :, None]),
    "half precision": Case(lambda p: p.logits.half()),
    "bfloat16 in a tuple": Case(lambda p: (p.logits.bfloat16(), p.embed)),
    "double": Case(lambda p: p.logits.double()),
    "a view": Case(lambda p: torch.cat((p.logits, p.other), 1)[:, :CLASSES]),
    "named by index": Case(lambda p: (p.other, p.logits), output="1"),
    "named from the end": Case(lambda p: (p.other, p.logits), output="-1"),
    "named by key": Case(lambda p: {"a": p.other, "b": p.logits}, output="b"),
    "named by path": Case(lambda p: {"a": {"b": [p.other, p.logits]}, "c": p.other}, output="a.b.1"),
    "named by attribute": Case(lambda p: SimpleNamespace(x=p.other, y=p.logits), output="y"),
    "named by field": Case(lambda p: Unlike(p.other, p.logits), output="main"),
    "named container": Case(lambda p: {"a": (p.embed, p.logits), "b": p.other}, output="a"),
    "named key with a dot": Case(lambda p: {"a.b": p.logits, "a.c": p.other}, output="a.b"),
    "named for training": Case(lambda p: (p.other, p.logits) if p.training else p.logits, output="1", only="teacher",
                               sentence=r"returns one tensor, so --WHO\.output has no effect"),
    "two heads": Case(lambda p: (p.logits, p.other), SEVERAL + "0"),
    "two heads by key": Case(lambda p: {"left": p.logits, "right": p.other}, SEVERAL + "left"),
    "exits": Case(lambda p: [p.other, p.other + 1, p.logits], r"0 and 1 and 2 " + SEVERAL),
    "part that is not there": Case(lambda p: {"a": p.logits}, r"a dict of a \(batch, 3\) float32, without a part 'b'",
                                   output="b"),
    "output of one tensor": Case(lambda p: p.logits, r"returns one tensor, so --WHO\.output has no effect", output="1"),
    "features": Case(lambda p: p.embed, r"returns 6 logits for each image, but the data set has 3 classes"),
    "too few": Case(lambda p: p.logits[:, :2], r"returns 2 logits for each image, but the data set has 3 classes"),
    "too many": Case(lambda p: p.logits.repeat(1, 4), r"returns 12 logits for each image, but .* 3 classes: build it"),
    "too many in a dictionary": Case(lambda p: {"logits": p.logits.repeat(1, 4), "three": p.other},
                                     r"returns 12 logits for each image \(a dict of logits \(batch, 12\) float32, thr"),
    "stages only": Case(lambda p: p.maps, r"returns a tensor \(batch, 6, 4, 4\) float32, " + NONE),
    "maps of other widths": Case(lambda p: {"x": p.maps}, r"returns a dict of x \(batch, 6, 4, 4\) float32, " + NONE),
    "a sequence of tokens": Case(lambda p: p.logits[:, None].repeat(1, 5, 1), r"\(batch, 5, 3\) float32, " + NONE),
    "classes before the batch": Case(lambda p: p.logits.T, NONE),
    "one row for all": Case(lambda p: p.logits.mean(0, keepdim=True), NONE),
    "predictions": Case(lambda p: p.logits.argmax(1), r"returns a tensor \(batch\) int64, " + NONE),
    "one-hot predictions": Case(lambda p: (p.logits > 0).long(), r"\(batch, 3\) int64, " + NONE),
    "nothing": Case(lambda p: None, r"returns None, in which no part is logits .*: return them from its forward"),
    "words": Case(lambda p: "cat", r"returns a str without tensors, in which no part is logits"),
    "empty dictionary": Case(lambda p: {}, r"returns a dict without tensors"),
    "probabilities": Case(lambda p: p.logits.softmax(1), r"returns probabilities .* leave its softmax out"),
    "detached": Case(lambda p: p.logits.detach(), r"logits of the student carry no gradient", only="student"),
    "detached view": Case(lambda p: {"logits": p.logits.data[:, :3]}, r"carry no gradient", only="student"),
}  # fmt: skip


@pytest.fixture(scope="module")
def recipes(few_digits) -> dict[str, Recipe]:
    """A recipe of a student and a teacher for each method."""
    tree = {"student": {"model": "mine"}, "teacher": {"model": "theirs"}, "data": {"name": "npz"}}
    tree["data"]["root"] = str(few_digits)
    return {method: parse_recipe({**tree, "method": method}, [], name="pair") for method in ("kd", "fam", "none")}


@pytest.fixture(scope="module")
def data(recipes) -> Dataset:
    return build_recipe_data(recipes["none"])


@pytest.fixture
def step(recipes, data, monkeypatch):
    """Build a student and a teacher, whose answers may differ, and take one step."""

    def take(method: str, student: Case, teacher: Case) -> tuple[Distiller, Batch]:
        monkeypatch.setitem(famkd.MODELS, "mine", lambda num_classes: Net(student.answer))
        monkeypatch.setitem(famkd.MODELS, "theirs", lambda num_classes: Net(teacher.answer))
        recipe = recipes[method]
        own, other = replace(recipe.student, output=student.output), replace(recipe.teacher, output=teacher.output)
        distiller = build_distiller(replace(recipe, student=own, teacher=other), data, weights=False).train()
        losses = distiller(data.probe())[0]
        total_loss(losses, dict.fromkeys(losses, 1.0)).backward()
        return distiller, data.probe()

    return take


def logits_by_hand(net: Net, images: Tensor) -> Tensor:
    return net.fc(net.two(net.one(images)).mean((2, 3)))


def has_right_logits(net, batch: Batch, trains: bool) -> bool:
    """Whether evaluation, the teacher's view, a plain call and, if it trains, a step all give the logits of `fc`."""
    net.eval()
    with torch.no_grad():
        wanted = logits_by_hand(net.model, batch.images)
        seen = [net.model(batch.images), Classification().teach(net, batch).logits]
    scores = TASKS["classification"].evaluate(net.model, [batch]).figures
    right = (wanted.argmax(1) == batch.targets).float().mean().item()
    if trains:
        net.model.train()
        for layer in (*net.model.one, *net.model.two, net.model.drop):
            layer.eval()
        seen.append(Classification().teach(net, batch).logits.detach())
    same = all(each.dtype == torch.float32 and torch.allclose(each, wanted, atol=1e-2) for each in seen)
    return same and scores["top1"] == pytest.approx(100 * right, abs=13)


ROLES = [("student", "none"), ("student", "kd"), ("student", "fam"), ("teacher", "kd"), ("teacher", "fam")]


@pytest.mark.sample(100)
@pytest.mark.parametrize(("who", "method"), ROLES, ids="-".join)
@pytest.mark.parametrize("name", CASES)
def test_what_a_network_returns(step, name, who, method):
    case, plain = CASES[name], CASES["tensor"]
    nets = (case, plain) if who == "student" else (plain, case)
    if case.sentence and case.only in ("", who):
        with pytest.raises(UserError, match=case.sentence.replace("WHO", who)) as caught:
            step(method, *nets)
        assert str(caught.value).startswith("The ")
        assert "\n" not in str(caught.value)
        return
    distiller, batch = step(method, *nets)
    first = next(distiller.student.parameters())
    assert first.grad.abs().sum() > 0
    net = getattr(distiller, who)
    assert has_right_logits(net, batch, trains=who == "student")
    assert net.head_path == ("" if method == "none" else "fc")
