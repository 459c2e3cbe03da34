"""A run that is resumed with more epochs, and with files that have moved."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.run_files import same

from famkd.errors import UserError
from famkd.models import build_model
from famkd.run.directory import Run
from famkd.training.loop import train

KD = ("--method", "kd", "--teacher.model", "resnet8", "--teacher.weights", "teacher.pt")


# more epochs ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ("--optim.schedule", "step", "--optim.steps", "1", "3"),
        ("--optim.schedule", "constant", "--optim.lr_warmup", "2", "--optim.per_step"),
        ("--optim.schedule", "step", "--optim.steps", "2", "--ema", "0.9", *KD, "--kd.warmup", "3"),
        ("--optim.schedule", "constant", "--data.val", "0.25"),
    ],
)
def test_a_run_with_more_epochs_equals_one_that_had_them_from_the_start(pair, flags):
    whole = train(pair(*flags, "--epochs", "4"), out="whole")
    train(pair(*flags, "--epochs", "2"), out="run")
    extended = train(pair(*flags, "--epochs", "4"), out="run", resume=True)
    same(whole, extended)
    assert extended.finished
    assert extended.recipe == whole.recipe
    assert extended.test == whole.test


def test_test_set_figures_of_the_shorter_run_do_not_stay(pair, monkeypatch):
    flags = ("--optim.schedule", "constant", "--data.val", "0.25")
    train(pair(*flags, "--epochs", "1"), out="run")
    assert Run("run").test

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("famkd.training.loop.measure_test", stop)
    with pytest.raises(KeyboardInterrupt):
        train(pair(*flags, "--epochs", "2"), out="run", resume=True)
    assert len(Run("run").metrics()) == 2
    assert not Run("run").test
    assert not Run("run").finished


@pytest.mark.parametrize("schedule", ["cosine", "linear", "onecycle"])
def test_schedules_that_depend_on_the_number_of_epochs_are_not_extended(pair, schedule):
    train(pair("--optim.schedule", schedule, "--epochs", "2"), out="run")
    recipe = (Path("run") / "recipe.yaml").read_bytes()
    with pytest.raises(UserError, match=f"the schedule {schedule} depends on the number of epochs: keep --epochs 2"):
        train(pair("--optim.schedule", schedule, "--epochs", "3"), out="run", resume=True)
    assert (Path("run") / "recipe.yaml").read_bytes() == recipe


def test_epochs_are_changed_with_resume_only_and_never_undone(pair):
    train(pair("--epochs", "2"), out="run")
    with pytest.raises(UserError, match=r"another recipe \(optim\.epochs differ\)"):
        train(pair("--epochs", "3"), out="run")
    with pytest.raises(UserError, match="has finished 2 epochs: pass --epochs 2 or more"):
        train(pair("--epochs", "1"), out="run", resume=True)
    with pytest.raises(UserError, match=r"another recipe \(optim\.lr differ\)"):
        train(pair("--epochs", "3", "--lr", "0.01"), out="run", resume=True)


# other places --------------------------------------------------------------------------------------------------------


def test_data_and_teacher_that_have_moved_are_known_by_what_is_in_them(pair, few_digits):
    whole = train(pair(*KD, "--epochs", "3"), out="whole")
    train(pair(*KD, "--epochs", "2"), out="run")
    shutil.copy(few_digits, "moved.npz")
    Path("teacher.pt").rename("elsewhere.pth")
    moved = ("--root", "moved.npz", "--teacher.weights", "elsewhere.pth")
    run = train(pair(*KD, "--epochs", "3", *moved), out="run", resume=True)
    assert (run.path / "student.safetensors").read_bytes() == (whole.path / "student.safetensors").read_bytes()
    assert run.metrics() == whole.metrics()
    assert run.recipe.data.root == "moved.npz"
    assert run.recipe.teacher.weights == "elsewhere.pth"


@pytest.mark.slow
@pytest.mark.parametrize("epochs", ["2", "3"])
def test_other_data_and_another_teacher_are_refused_also_by_a_finished_run(pair, few_digits, epochs):
    train(pair(*KD, "--epochs", "2"), out="run")
    arrays = dict(np.load(few_digits))
    np.savez("brighter.npz", **{**arrays, "x_train": arrays["x_train"] // 2 + 99})
    np.savez("fewer.npz", **{**arrays, "x_train": arrays["x_train"][:40], "y_train": arrays["y_train"][:40]})
    torch.save(build_model("resnet8", 3).state_dict(), "other.pt")
    for flags, why in (
        (("--root", "brighter.npz"), "other mean"),
        (("--root", "fewer.npz"), "other images"),
        (("--teacher.weights", "other.pt"), "The teacher has other weights"),
    ):
        recipe = (Path("run") / "recipe.yaml").read_bytes()
        with pytest.raises(UserError, match=why):
            train(pair(*KD, "--epochs", epochs, *flags), out="run", resume=True)
        assert (Path("run") / "recipe.yaml").read_bytes() == recipe


def test_a_run_that_knows_no_facts_stays_at_its_places(pair, few_digits):
    run = train(pair("--epochs", "2"), out="run")
    (run.path / "facts.json").unlink()
    shutil.copy(few_digits, "moved.npz")
    with pytest.raises(UserError, match=r"another recipe \(data\.root differ\)"):
        train(pair("--epochs", "2", "--root", "moved.npz"), out="run", resume=True)


@pytest.mark.slow
def test_a_teacher_trained_by_its_recipe_stays_when_the_data_moves(pair, few_digits):
    Path("big.yaml").write_text(Path("small.yaml").read_text().replace("resnet8x0.5", "resnet8"))
    flags = ("--method", "kd", "--teacher.model", "resnet8", "--teacher.weights", "recipe:big.yaml", "--epochs", "1")
    train(pair(*flags))
    trained = (Path("runs") / "big" / "none-seed0" / "resume.pt").stat().st_mtime_ns
    shutil.copy(few_digits, "moved.npz")
    train(pair(*flags, "--root", "moved.npz", "--epochs", "2"), resume=True)
    assert (Path("runs") / "big" / "none-seed0" / "resume.pt").stat().st_mtime_ns == trained
