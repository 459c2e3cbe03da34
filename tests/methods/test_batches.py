"""What a method makes of a batch: in parts, over processes, and where there is too little to compare."""

from pathlib import Path

import pytest
import torch
from helpers import gradients
from helpers.gradients import CLASSES
from helpers.processes import finish, start

from famkd.config.load import load_recipe
from famkd.config.validate import validated
from famkd.distill.types import Batch
from famkd.errors import UserError
from famkd.methods import METHODS
from famkd.models import build_model
from famkd.tasks import TASKS

RELATING = [name for name, method in METHODS.items() if method.relates_images]


def close(one: dict, two: dict) -> bool:
    assert one.keys() == two.keys()
    return all(torch.allclose(one[key], two[key], rtol=1e-3, atol=1e-4 * float(one[key].abs().max())) for key in one)


def test_methods_that_relate_images():
    assert RELATING == ["dist", "sp", "cc", "rkd", "pkt", "crd"]


@pytest.mark.parametrize("name", METHODS)
def test_parts_of_a_batch_are_the_same_step_unless_the_method_says_otherwise(name):
    whole = gradients.gradients(name)
    assert any(bool(value.ne(0).any()) for value in whole.values())
    assert close(whole, gradients.gradients(name, parts=4)) == (name not in RELATING)


@pytest.mark.slow
def test_two_processes_compute_the_gradient_of_one(tmp_path):
    worker = str(Path(gradients.__file__))
    for process in [start(worker, rank, str(tmp_path), *METHODS) for rank in "01"]:
        code, _, err = finish(process)
        assert code == 0, err
    one, two = (torch.load(tmp_path / f"rank{rank}.pt") for rank in "01")
    for name in METHODS:
        assert close(one[name], two[name]), name
        assert close(gradients.gradients(name), one[name]), name


@pytest.mark.parametrize("name", RELATING)
def test_parts_are_refused_where_images_are_related(name):
    recipe = load_recipe("quickstart", "--method", f"fam+{name}", "--optim.accumulate", "2")
    with pytest.raises(UserError, match=rf"^{name} compares the images of a step .* --optim\.accumulate 2"):
        validated(recipe)
    assert validated(load_recipe("quickstart", "--method", name))


def test_a_plug_in_says_that_it_relates_images(monkeypatch):
    class Mine(METHODS["kd"]):
        relates_images = True

    monkeypatch.setitem(METHODS, "mine", Mine)
    with pytest.raises(UserError, match=r"^mine compares the images of a step"):
        validated(load_recipe("quickstart", "--method", "mine", "--optim.accumulate", "2"))


@pytest.mark.parametrize("name", RELATING)
def test_detection_refuses_what_relates_images(name):
    assert TASKS["detection"].refuses(METHODS[name])


@pytest.mark.parametrize(("images", "classes"), [(1, CLASSES), (2, CLASSES), (3, CLASSES), (3, 1), (3, 2)])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_a_gradient_or_is_refused(name, images, classes):
    torch.manual_seed(0)
    model, teacher = build_model("resnet8x0.5", classes), build_model("resnet8", classes)
    batch = Batch(torch.randn(images, 3, 8, 8), torch.arange(images) % classes, torch.arange(images))
    refusal = ""
    try:
        learns = gradients.reaches_something(name, batch, model, teacher)
    except ValueError as error:
        learns, refusal = False, str(error)
    assert learns or any(words in refusal for words in (
        "pass a larger --data.batch_size", "use a method that compares features", "at least two classes",
        "more than 1 value per channel",
    ))  # fmt: skip
