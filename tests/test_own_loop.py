"""`famkd.distill`: a module for a loop of one's own, and the examples that use it."""

import copy
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import famkd
from famkd.config.load import load_recipe
from famkd.errors import UserError
from famkd.methods import METHODS
from famkd.models import build_model
from famkd.training.schedule import loss_weights

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def pair():
    torch.manual_seed(0)
    return build_model("resnet8x0.5", 3), build_model("resnet8", 3)


@pytest.fixture
def batch():
    torch.manual_seed(1)
    return torch.randn(6, 3, 16, 16), torch.arange(6) % 3


def test_the_total_is_the_weighted_sum_of_the_parts(pair, batch):
    module = famkd.distill(*pair, "fam_review+kd", example=batch, options={"kd": {"temperature": 2, "weight": 0.5}})
    loss = module(*batch)
    assert list(loss.parts) == ["task.ce", "fam_review.review", "kd.kd"]
    wanted = loss.parts["task.ce"] + loss.parts["fam_review.review"] + 0.5 * loss.parts["kd.kd"]
    torch.testing.assert_close(loss.total.detach(), wanted)
    torch.testing.assert_close(loss.parts["task.ce"], F.cross_entropy(loss.logits, batch[1]).detach())
    assert loss.total.requires_grad
    assert not any(part.requires_grad for part in loss.parts.values())


def test_parameters_and_state_are_those_of_the_student_and_the_methods(pair, batch):
    student, teacher = pair
    module = famkd.distill(student, teacher, "fam", example=batch)
    own = {id(p) for p in [*student.parameters(), *module.methods.parameters()]}
    assert {id(p) for p in module.parameters()} == own
    assert not {id(p) for p in teacher.parameters()} & own
    assert {key.split(".")[0] for key in module.state_dict()} == {"student", "methods"}
    module.train()
    before = copy.deepcopy(teacher.state_dict())
    module(*batch).total.backward()
    assert not teacher.training
    assert all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    assert all(p.grad is not None for p in student.parameters())


def test_the_teacher_moves_with_the_module(pair, batch):
    module = famkd.distill(*pair, "kd", example=batch).double()
    assert {p.dtype for p in pair[1].parameters()} == {torch.float64}
    assert module(batch[0].double(), batch[1]).total.isfinite()
    outer = torch.nn.Sequential(module).float()  # as a part of another module, as in Lightning
    assert {p.dtype for p in pair[1].parameters()} == {torch.float32}
    assert outer[0](*batch).total.isfinite()


@pytest.mark.parametrize("wrap", [
    lambda x, y: ((x, y),), lambda x, y: ([x, y],), lambda x, y: (x, y), lambda x, y: ({"image": x, "label": y},),
    lambda x, y: ({"pixel_values": x, "labels": y},),
])  # fmt: skip
def test_a_batch_may_be_a_tuple_a_list_two_tensors_or_a_dictionary(pair, batch, wrap):
    module = famkd.distill(*pair, "kd", example=wrap(*batch)[0] if len(wrap(*batch)) == 1 else batch).eval()
    assert torch.equal(module(*wrap(*batch)).total, module(*batch).total)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_and_its_weights_are_those_of_a_recipe(pair, batch, name):
    options = {"crd": {"negatives": 4}}.get(name, {})
    module = famkd.distill(*pair, name, example=batch, options={name: options}, labels=torch.arange(20) % 3)
    recipe = load_recipe("digits/resnet20", "--method", name, "--teacher.model", "resnet8")
    for epoch in (1, 2, 1000):
        module.epoch = epoch
        assert module.weights == loss_weights(recipe, epoch)
    module.epoch = 0
    assert module.weights == loss_weights(recipe, 1000)
    index = {"index": torch.arange(6)} if name == "crd" else {}
    loss = module(*batch, **index)
    assert loss.total.isfinite()
    loss.total.backward()


def test_a_loop_learns_and_the_student_alone_is_saved(pair, batch):
    module = famkd.distill(*pair, ["kd"], example=batch).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    seen = []
    for _ in range(12):
        loss = module(batch)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        seen.append(float(loss.total.detach()))
    assert seen[-1] < seen[0]
    fresh = build_model("resnet8x0.5", 3)
    fresh.load_state_dict(module.deployed.state_dict())
    assert torch.equal(fresh.eval()(batch[0]), module.deployed.eval()(batch[0]))


def test_an_own_criterion_soft_targets_and_no_labels(pair, batch):
    images, labels = batch
    soft = F.one_hot(labels, 3).float()
    assert famkd.distill(*pair, "kd", example=batch)(images, soft).total.isfinite()
    smooth = famkd.distill(*pair, "kd", example=batch, criterion=torch.nn.CrossEntropyLoss(label_smoothing=0.1))
    assert list(smooth(*batch).parts) == ["task.loss", "kd.kd"]
    alone = famkd.distill(*pair, "kd", example=images, task_weight=0)
    assert list(alone(images).parts) == ["kd.kd"]
    assert list(famkd.distill(*pair, "fam", example=batch, criterion=None)(images).parts) == ["fam.mse"]


@pytest.mark.parametrize(("call", "sentence"), [
    (lambda s, t, b: famkd.distill(s, t, "fam_revue", example=b), r"no method 'fam_revue'\. Did you mean fam_review"),
    (lambda s, t, b: famkd.distill(s, t, "kd", example=b, options={"kd": {"temprature": 1}}), "Did you mean temp"),
    (lambda s, t, b: famkd.distill(s, t, "kd", example=b, options={"kd": {"temperature": 0}}), "kd.temperature is 0"),
    (lambda s, t, b: famkd.distill(s, t, "kd", example=b, options={"at": {}}), "options of at, which is not among"),
    (lambda s, t, b: famkd.distill(s, t, "crd", example=b), "needs the class of every training image"),
    (lambda s, t, b: famkd.distill(s, t, "kd", example=b[0][0]), "A batch is .images, targets."),
    (lambda s, t, b: famkd.distill(s, t, "sp", example=(b[0][:1], b[1][:1])), "a step has 1"),
    (lambda s, t, b: famkd.distill(s, t, "fam", example=b, student_taps=["layer9"]), "layer9"),
    (lambda s, t, b: famkd.distill(s, t, "kd", example=b)(b[0]), "needs targets: pass them .* or task_weight=0"),
    (lambda s, t, b: famkd.distill(s, t, "dkd", example=b)(b[0]), "dkd reads the targets of a batch"),
    (lambda s, t, b: famkd.distill(s, t, "crd", example=b, labels=b[1])(*b), "crd reads the index of a batch"),
])  # fmt: skip
def test_mistakes_are_told_in_one_sentence(pair, batch, call, sentence):
    with pytest.raises(UserError, match=sentence):
        call(*pair, batch)


def test_an_option_without_effect_is_told(pair, batch):
    with pytest.warns(UserWarning, match="The option cutoff of fam has no effect: highpass none removes nothing"):
        famkd.distill(*pair, "fam", example=batch, options={"fam": {"highpass": "none", "cutoff": 0.3}})


@pytest.mark.sample(1)
@pytest.mark.parametrize(("name", "needs"), [
    ("plain_pytorch", "torch"), ("hf_accelerate", "accelerate"), ("timm_task", "timm.task"),
    ("lightning_module", "lightning"),
])  # fmt: skip
def test_the_examples_run(name, needs, tmp_path, monkeypatch, capsys):
    pytest.importorskip(needs)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    sys.modules.pop("generated", None)
    build_model("resnet8x0.5", 4).load_state_dict(torch.load("student.pt"))
    if name != "lightning_module":
        assert re.findall(r"^(\d) ", capsys.readouterr().out, re.MULTILINE) == ["1", "2", "3"]


def test_the_example_of_callbacks_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    runpy.run_path(str(EXAMPLES / "callbacks.py"), run_name="__main__")
    sys.modules.pop("generated", None)
    out = capsys.readouterr().out
    assert re.findall(r"^(\d) \d", out, re.MULTILINE) == ["1", "2", "3", "4"]
    assert "4 steps; run holds the run" in out
    last = famkd.Run("run").student_state()
    assert all(torch.equal(last[key], value) for key, value in torch.load("epoch4.pt").items())
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == ["epoch2.pt", "epoch4.pt"]


@pytest.mark.parametrize("name", ["plain_pytorch", "hf_accelerate", "timm_task", "lightning_module", "callbacks"])
def test_the_documentation_quotes_the_examples(name):
    quoted = (EXAMPLES / f"{name}.py").read_text().partition("# --- quoted in the documentation\n")[2]
    page = (EXAMPLES.parent / "docs" / "own_loop.md").read_text()
    assert f"```python\n{quoted}```" in page


def test_the_method_of_the_documentation_teaches(pair, batch):
    text = (EXAMPLES.parent / "docs/own_method.md").read_text()
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], {})
    try:
        module = famkd.distill(*pair, "cosine+kd", example=batch, options={"cosine": {"power": 2}})
        loss = module(*batch)
        assert 0 < loss.parts["cosine.cosine"] < 4
        loss.total.backward()
        with pytest.raises(UserError, match=r"cosine.power"):
            famkd.distill(*pair, "cosine", example=batch, options={"cosine": {"power": 0}})
    finally:
        del METHODS["cosine"]
