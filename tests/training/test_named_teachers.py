"""Teachers named by a file, a run or a recipe, and settings that are refused before training."""

from pathlib import Path

import pytest
import torch
from helpers.runs import FAM

from famkd.config.load import load_recipe
from famkd.config.validate import validated
from famkd.errors import UserError
from famkd.evaluate import evaluate_run
from famkd.run.directory import Run
from famkd.training import loop as training
from famkd.training.build import build_distiller, build_recipe_data, load_trained
from famkd.training.loop import train


@pytest.mark.slow
def test_a_teacher_named_by_recipe_is_trained_once(pair, monkeypatch):
    Path("big.yaml").write_text(Path("small.yaml").read_text().replace("resnet8x0.5", "resnet8"))
    root = pair().data.root
    options = ("--method", "kd", "--teacher.model", "resnet8", "--teacher.weights", "recipe:big.yaml")
    epochs = []
    real = training.train_epoch
    monkeypatch.setattr(training, "train_epoch", lambda m, *a: epochs.append((m.recipe.name, m.epoch)) or real(m, *a))
    train(pair(*options), runs="all")
    assert epochs == [("big", 1), ("big", 2), ("big", 3), ("small", 1), ("small", 2), ("small", 3)]
    teacher = Run("all/big/none-seed0")
    assert teacher.finished
    assert teacher.recipe.data.root == root
    epochs.clear()
    train(pair(*options, "--seed", "1"), runs="all")
    assert {name for name, _ in epochs} == {"small"}
    distiller, _ = load_trained(Run("all/small/kd-seed0"), runs="all")
    state = teacher.student_state()
    assert all(torch.equal(value, state[key]) for key, value in distiller.teacher.model.state_dict().items())


def test_a_teacher_from_a_run_is_the_one_from_its_file(pair):
    teacher = train(pair("--student.model", "resnet8"), out="teacher-run")
    options = ("--method", "kd", "--teacher.model", "resnet8", "--teacher.weights")
    weights = ("teacher-run", "teacher-run/student.safetensors")
    one, two = (train(pair(*options, w), out=f"by-{n}") for n, w in enumerate(weights))
    assert one.metrics() == two.metrics()
    assert teacher.finished
    best = train(pair(*options, "teacher-run/best.safetensors"), out="by-best")
    assert best.finished


@pytest.mark.slow
def test_the_baseline_is_trained_once_and_first(pair, monkeypatch):
    epochs = []
    real = training.train_epoch
    monkeypatch.setattr(training, "train_epoch", lambda m, *a: epochs.append(m.recipe.method) or real(m, *a))
    train(pair(*FAM, "--baseline", "--epochs", "1"))
    assert epochs == ["none", "fam_review"]
    assert Run("runs/small/none-seed0").finished
    assert Run("runs/small/fam_review-seed0").finished
    train(pair("--method", "kd", *FAM[2:], "--baseline", "--epochs", "1"))
    assert epochs == ["none", "fam_review", "kd"]


REFUSED = {  # flags in place of a good teacher's -> words of the error
    "no such file": (("--teacher.weights", "nowhere.pt"), r"no file of weights at nowhere\.pt"),
    "another architecture": (
        ("--teacher.model", "resnet14"),
        r"teacher\.pt does not fit the teacher resnet14: .*another architecture.*keys.*Name the model",
    ),
    "no such recipe": (("--teacher.weights", "recipe:cifar100/resnet65"), r"cifar100/resnet65.*mean cifar100/resnet"),
    "no weights": (("--teacher.weights", ""), r"teacher has no weights: pass --teacher\.weights"),
    "no teacher": (("--teacher.model", ""), r"method fam_review needs a teacher: pass --teacher\.model"),
    "no such model": (("--teacher.model", "resnet9"), r"no model 'resnet9'.*Did you mean resnet"),
    "own model pretrained": (("--teacher.weights", "pretrained"), r"No weights of resnet8 can be downloaded"),
    "no such tap": (("--teacher.taps", "layer1", "layer4"), r"no module 'layer4'.*mean layer"),
    "student tap": (("--student.taps", "layer1", "layer2.2"), r"no module 'layer2\.2'.*mean layer2"),
    "no such student": (("--student.model", "resnet8x05"), r"no model 'resnet8x05'.*mean resnet8x0\.5"),
    "no student": (("--student.model", ""), r"No student is named"),
    "no images a step": (("--data.batch_size", "0"), r"--data\.batch_size is 0: pass 1 or more"),
    "no epochs": (("--epochs", "0"), r"--optim\.epochs is 0"),
    "negative rate": (("--lr", "-1"), r"--optim\.lr is -1"),
    "rate that is no number": (("--lr", "nan"), r"--optim\.lr is nan"),
    "negative seed": (("--seed", "-1"), r"--seed is -1"),
    "nesterov without momentum": (("--optim.nesterov", "--optim.momentum", "0"), r"Nesterov"),
    "no such device": (("--accelerator", "cudda"), r"no accelerator 'cudda' here: pass auto, cpu"),
    "a graph on a cpu": (("--accelerator", "cpu", "--engine", "graph"), r"engine graph needs a CUDA device"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_trained_is_refused_in_a_sentence(pair, case):
    flags, words = REFUSED[case]
    with pytest.raises(UserError, match=words) as told:
        train(pair(*FAM, *flags), out="run")
    assert "\n" not in str(told.value)
    assert not Run("run").metrics()


@pytest.mark.parametrize("flags", [("--student.model", "resnet8x05"), ("--student.taps", "layer9")])
def test_a_misspelt_student_does_not_wait_for_its_teacher(pair, monkeypatch, flags):
    monkeypatch.setattr(training, "train_epoch", lambda *a: pytest.fail("trained before it checked"))
    recipe = load_recipe("quickstart", "--no_baseline", *flags)
    with pytest.raises(UserError, match=r"resnet8x0\.5|layer"):
        train(recipe)


def test_pretrained_weights_out_of_reach(pair, monkeypatch):
    from urllib.error import URLError

    def refuse(*args, **options):
        raise URLError("Name or service not known")

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    monkeypatch.setenv("TORCH_HOME", "nothing-cached")
    flags = ("--teacher.model", "torchvision:resnet18", "--teacher.weights", "pretrained", "--method", "kd")
    with pytest.raises(UserError, match=r"weights of torchvision:resnet18 could not be downloaded: check the network"):
        train(pair(*flags), out="run")


def test_plain_training_forgets_the_teacher(pair):
    assert validated(pair("--teacher.model", "resnet8")).teacher.model == ""
    data = build_recipe_data(pair())
    assert build_distiller(pair(), data).teacher is None


def test_a_broken_teacher_is_told_before_training(pair):
    state = torch.load("teacher.pt", weights_only=True)
    state["layer2.0.conv1.weight"][0, 0, 0, 0] = float("nan")
    torch.save(state, "teacher.pt")
    with pytest.raises(UserError, match="Not finite for real images: the teacher's output at layer2"):
        train(pair(*FAM), out="run")


def test_a_damaged_run_teaches_nobody_and_is_not_measured(pair):
    teacher = train(pair("--student.model", "resnet8", "--epochs", "1", "--optim.steps"), out="teacher")
    path = teacher.path / "student.safetensors"
    content = bytearray(path.read_bytes())
    content[-7] ^= 1  # within the last weight
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"student\.safetensors is damaged \(its checksum does not match\)"):
        train(pair("--method", "kd", "--teacher.model", "resnet8", "--teacher.weights", "teacher"), out="taught")
    with pytest.raises(UserError, match="its checksum does not match"):
        evaluate_run("teacher")
