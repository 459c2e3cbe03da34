"""Data at the edge of what can be learned from: finite losses, or one sentence that says what to do."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from famkd.config.load import load_recipe
from famkd.config.sections import method_arguments, method_options
from famkd.data import build_data
from famkd.distill.distiller import Distiller
from famkd.distill.types import Batch
from famkd.errors import UserError
from famkd.methods import METHODS
from famkd.methods.logits import DIST, DKD, KD, NKD, WTTM, standardized
from famkd.models import build_model
from famkd.tasks import Classification
from famkd.training.loop import train

ENTERS_POOLED = ("fam_review", "reviewkd")  # they compare the pooled features too, behind a batch norm
ONE_CLASS = "there is only one: use a method that compares features"
CLASSES_ONLY = dict.fromkeys(("kd", "dkd", "dist", "nkd", "wttm", "figkd"), ONE_CLASS) | {"crd": "at least two classes"}
ONE_IMAGE = ("sp", "cc", "rkd", "pkt")
STANDARDISING = [name for name in METHODS if "standardize" in method_options(METHODS[name])]
THREE = np.array(["a", "b", "c"])


def losses_of(name: str, n: int = 4, classes: int = 3, side: int = 16, *, flat=False, black=False, **options) -> dict:
    """Losses of one training step, whose gradients are finite: `flat` logits are all 0, `black` images too."""
    torch.manual_seed(0)
    student, teacher = build_model("resnet8x0.5", classes), build_model("resnet8", classes)
    for model in (student, teacher) if flat else ():
        nn.init.zeros_(model.fc.weight)
        nn.init.zeros_(model.fc.bias)
    images = torch.zeros(n, 3, side, side) if black else torch.randn(n, 3, side, side)
    batch = Batch(images, torch.arange(n) % classes, torch.arange(n))
    distiller = Distiller(
        Classification(), student, teacher, {name: METHODS[name]}, probe=batch, labels=torch.arange(20) % classes,
        options={name: method_arguments(METHODS[name], options)},
    )  # fmt: skip
    losses = distiller.train()(batch)[0]
    sum(sum(terms.values()) for terms in losses.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in distiller.parameters())
    return {key: loss.item() for terms in losses.values() for key, loss in terms.items()}


def finite(losses: dict[str, float]) -> bool:
    return all(map(math.isfinite, losses.values()))


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_of_one(name):
    if name in ENTERS_POOLED:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            losses_of(name, n=1)
    elif name in ONE_IMAGE:
        with pytest.raises(ValueError, match=r"a step has 1: pass a larger --data\.batch_size"):
            losses_of(name, n=1)
    else:
        assert finite(losses_of(name, n=1))


@pytest.mark.parametrize("name", METHODS)
def test_one_class(name):
    if name in CLASSES_ONLY:
        with pytest.raises(ValueError, match=CLASSES_ONLY[name]):
            losses_of(name, classes=1)
    else:
        assert finite(losses_of(name, classes=1))


@pytest.mark.parametrize("case", [{"classes": 2}, {"flat": True}, {"black": True}, {"n": 2, "side": 1}],
                         ids=["two classes", "constant logits", "black images", "two pixels"])  # fmt: skip
@pytest.mark.parametrize("name", METHODS)
def test_every_method_where_little_differs(name, case):
    if name == "rkd" and case.get("n") == 2:
        case = {**case, "n": 3}
    assert finite(losses_of(name, **case))


@pytest.mark.parametrize("case", [{"n": 1}, {"classes": 1}, {"classes": 2}, {"flat": True}],
                         ids=["one image", "one class", "two classes", "constant logits"])  # fmt: skip
@pytest.mark.parametrize("name", STANDARDISING)
def test_standardised_logits_where_little_differs(name, case):
    if case == {"classes": 1} and name in CLASSES_ONLY:
        case = {"classes": 2}
    assert finite(losses_of(name, standardize=True, **case))


@pytest.mark.parametrize("value", [0.0, 7.5, -1e4])
def test_logits_all_alike_standardise_to_nothing(value):
    logits = torch.full((2, 5), value, requires_grad=True)
    z = standardized(logits)
    assert torch.equal(z, torch.zeros(2, 5))
    z.sum().backward()
    assert logits.grad.isfinite().all()
    assert torch.equal(standardized(torch.full((3, 1), value)), torch.zeros(3, 1))


def test_standardised_logits_have_the_unbiased_deviation():
    logits = torch.randn(4, 6)
    wanted = (logits - logits.mean(1, keepdim=True)) / logits.std(1, keepdim=True)
    torch.testing.assert_close(standardized(logits), wanted)


@pytest.mark.parametrize(("name", "option", "value"), [
    *[(name, "temperature", value) for name in ("kd", "dkd", "dist", "nkd", "crd") for value in (0.0, math.nan)],
    ("wttm", "power", -1.0), ("crd", "dim", 0), ("crd", "negatives", 0), ("cc", "dim", -1), ("simkd", "factor", 0),
    ("catkd", "size", 0), ("at", "p", math.inf), ("vid", "init_variance", 0.0), ("freekd", "levels", 0),
    ("figkd", "levels", -1), ("fam", "grid", -1), ("fam", "cutoff", math.nan), ("fam_review", "rank", 0),
])  # fmt: skip
def test_options_that_cannot_be_are_named(name, option, value):
    with pytest.raises(ValueError, match=rf"{option}.* is .*, it must be (more than 0|[01] or more|a finite number)"):
        losses_of(name, **{option: value})


@pytest.mark.parametrize("method", [KD, DKD, DIST, NKD, WTTM])
def test_constant_logits_of_one_network_alone(method):
    """The other one's still pull: nothing is divided by their deviation of 0."""
    options = {"standardize": True}
    name = next(key for key, value in METHODS.items() if value is method)
    torch.manual_seed(0)
    student, teacher = build_model("resnet8x0.5", 3), build_model("resnet8", 3)
    nn.init.zeros_(teacher.fc.weight)
    nn.init.constant_(teacher.fc.bias, 3.0)
    batch = Batch(torch.randn(4, 3, 16, 16), torch.arange(4) % 3, torch.arange(4))
    distiller = Distiller(Classification(), student, teacher, {name: method}, probe=batch, options={name: options})
    loss = sum(distiller.train()(batch)[0][name].values())
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in distiller.parameters())


def arrays(n: int = 12, classes: int = 3, side: int = 8, tested: int = 4, flat: bool = False, **changes) -> dict:
    draw = np.random.default_rng(0)
    x, x_test = (draw.integers(0, 256, (k, side, side, 3), np.uint8) for k in (n, tested))
    if flat:
        x[:], x_test[:] = 7, 7
    return {"x_train": x, "y_train": np.arange(n) % classes, "x_test": x_test, "y_test": np.arange(tested) % classes,
            **changes}  # fmt: skip


EDGES = {
    "one class": arrays(classes=1), "two classes": arrays(classes=2), "one image of each class": arrays(n=3),
    "one image": arrays(n=1, tested=1), "fewer images than a batch": arrays(n=2), "one left over": arrays(n=9),
    "constant images": arrays(flat=True), "one pixel": arrays(side=1),
    "grey": arrays(x_train=np.ones((12, 8, 8), np.uint8)),
    "a class never trained on": arrays(y_test=np.array([0, 1, 2, 4])),
    "a class never tested on": arrays(y_test=np.zeros(4, int)),
}  # fmt: skip


def trained(data: dict, *flags: str, method: str = "none") -> dict[str, float]:
    """The last row of a run of two epochs on some arrays."""
    np.savez("edge.npz", **data)
    classes = int(max(data["y_train"].max(), data["y_test"].max())) + 1
    torch.save(build_model("resnet8", classes).state_dict(), "teacher.pt")
    Path("edge.yaml").write_text(
        "student: {model: resnet8x0.5}\ndata: {name: npz, root: edge.npz, batch_size: 4}\n"
        "optim: {epochs: 2, lr: 0.01, steps: [1]}\nteacher: {model: resnet8, weights: teacher.pt}\n"
    )
    return train(load_recipe("edge.yaml", "--method", method, *flags), out=f"run-{method}").metrics()[-1]


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", EDGES)
@pytest.mark.parametrize("method", ["none", "kd+fam"])
def test_trainings_at_the_edge_are_finite(case, method):
    method = "fam" if method != "none" and case in ("one class", "one image") else method
    row = trained(EDGES[case], method=method)
    assert row["epoch"] == 2
    assert finite(row)
    assert 0 <= row["top1"] <= row["top5"] <= 100


@pytest.mark.parametrize("flags", [["--data.batch_size", "1"], ["--optim.accumulate", "4"]])
def test_parts_of_one_image(flags):
    assert finite(trained(arrays(), *flags, method="kd"))


@pytest.mark.parametrize(("data", "flags", "method"), [
    (arrays(side=1), ["--data.batch_size", "1"], "none"), (arrays(), ["--data.batch_size", "1"], "fam_review"),
    (arrays(), ["--optim.accumulate", "4"], "fam_review"), (arrays(n=1, tested=1), [], "fam_review"),
])  # fmt: skip
def test_batch_norm_of_a_single_value_is_told(data, flags, method):
    with pytest.raises(UserError, match=r"--data\.batch_size"):
        trained(data, *flags, method=method)


@pytest.mark.parametrize("method", CLASSES_ONLY)
def test_one_class_is_told_in_a_training(method):
    with pytest.raises(UserError, match=rf"{method} cannot teach this pair: .*{CLASSES_ONLY[method]}"):
        trained(arrays(classes=1), method=method)


@pytest.mark.parametrize(("changes", "words"), [
    ({"y_train": np.arange(12) - 1}, "class indices from 0"),
    ({"y_train": np.arange(12)[::-1] % 4, "class_names": THREE}, "names 3 classes but labels run to 3"),
    ({"y_test": np.array([0, 1, 2, 3]), "class_names": THREE}, "names 3 classes but labels run to 3"),
    ({"x_test": np.zeros((0, 8, 8, 3), np.uint8), "y_test": np.zeros(0, int)}, "x_test holds 0 images"),
    ({"x_train": np.zeros((0, 8, 8, 3), np.uint8), "y_train": np.zeros(0, int)}, "x_train holds 0 images"),
])  # fmt: skip
def test_labels_and_images_that_do_not_fit_are_refused(changes, words):
    np.savez("edge.npz", **arrays(**changes))
    with pytest.raises(UserError, match=words):
        build_data("npz", "edge.npz", 4)


def folders(*places: str, empty: tuple[str, ...] = ()) -> None:
    for n, place in enumerate(places):
        Path(place).mkdir(parents=True)
        Image.new("RGB", (8, 8), (n, 40, 2 * n)).save(Path(place) / "0.png")
    for place in empty:
        Path(place).mkdir(parents=True)


TREES = {"folder": ("{}/train", "{}/test"), "imagenet": ("{}/train", "{}/val")}


@pytest.mark.parametrize("kind", TREES)
def test_a_class_without_training_images_is_refused(kind):
    train_, test = (place.format("set") for place in TREES[kind])
    folders(f"{train_}/a", f"{train_}/b", f"{test}/a", empty=(f"{train_}/c", f"{test}/b"))
    with pytest.raises(UserError, match=r"has no images of c .*Add images, or remove"):
        build_data(kind, "set", 2)


@pytest.mark.parametrize("kind", TREES)
def test_a_class_without_test_images_is_not_tested(kind):
    train_, test = (place.format("set") for place in TREES[kind])
    folders(f"{train_}/a", f"{train_}/b", f"{test}/a", empty=(f"{test}/b",))
    streamed = {"size": 8, "workers": 0} if kind == "imagenet" else {}
    with pytest.warns(UserWarning, match="has no images of b: these are not tested"):
        data = build_data(kind, "set", 2, **streamed)
    assert data.classes == ["a", "b"]
    assert data.labels.tolist() == [0, 1]
    recipe = ["--data", kind, "--root", "set", "--data.batch_size", "2"]
    recipe += [flag for key, value in streamed.items() for flag in (f"--data.{key}", str(value))]
    Path("tree.yaml").write_text("student: {model: resnet8x0.5}\noptim: {epochs: 1, lr: 0.01}\n")
    assert finite(train(load_recipe("tree.yaml", *recipe), out="run").metrics()[-1])


@pytest.mark.parametrize("kind", TREES)
def test_folders_that_differ_are_refused(kind):
    train_, test = (place.format("set") for place in TREES[kind])
    folders(f"{train_}/a", f"{test}/a", f"{test}/z")
    with pytest.raises(UserError, match=r"z"):
        build_data(kind, "set", 2)


@pytest.mark.parametrize("kind", TREES)
def test_a_test_set_without_images_is_refused(kind):
    train_, test = (place.format("set") for place in TREES[kind])
    folders(f"{train_}/a", f"{train_}/b", empty=(f"{test}/a", f"{test}/b"))
    with pytest.raises(UserError, match="holds no images"):
        build_data(kind, "set", 2)
