"""What is printed before the first step about settings that have no effect on these data and networks."""

import re

import numpy as np
import pytest
import torch
from helpers.run_files import same

from famkd.errors import UserError
from famkd.models import build_model
from famkd.training.build import build_distiller, build_recipe_data
from famkd.training.loop import train
from famkd.training.setup import notices

TAUGHT = ("--teacher.model", "resnet8", "--teacher.weights", "teacher.pt", "--method")


@pytest.fixture
def told(small):
    """Sentences of the notices for some flags."""
    torch.save(build_model("resnet8", 3).state_dict(), "teacher.pt")

    def tell(*flags: str) -> list[str]:
        recipe = small(*flags)
        data = build_recipe_data(recipe)
        return list(notices(recipe, data, build_distiller(recipe, data)))

    return tell


@pytest.mark.parametrize(("flags", "sentences"), [
    ("none", []), ("kd", []), ("fam", []), ("fam_review", []), ("dist", []),
    ("none --data.batch_size 99", ["--data.batch_size is 99: a step takes all 48 images."]),
    ("none --optim.warmup_steps 4", ["--optim.warmup_steps 4 ends with the first epoch, after 3 steps."]),
    ("none --optim.accumulate 2", ["--optim.accumulate 2: the 9 batch norms average over parts of 8 images."]),
    ("none --student.model vgg8 --optim.accumulate 1 --sync_bn", ["--sync_bn has no effect on one process."]),
    ("dist --data.batch_size 2", ["--dist.gamma has no effect: 2 images of a step always correlate."]),
    ("fam --fam.branch local --fam.cutoff 0.3", ["--fam.cutoff has no effect: the local branch has no filter."]),
    ("fam --fam.highpass none --fam.cutoff 0.3", ["--fam.cutoff has no effect: highpass none removes nothing."]),
    ("fam --fam.rank 8", ["--fam.rank has no effect: only the lowrank filter has one."]),
    ("fam --fam.filter lowrank --fam.rank 8", []), ("fam --fam.highpass butterworth --fam.order 3", []),
    ("fam --fam.order 3", ["--fam.order has no effect: only the butterworth high-pass has one."]),
    ("fam --fam.grid 64", ["--fam.grid has no effect: no map of the first images is that large."]),
    ("fam --fam.grid 4", []),
    ("fam --fam.cutoff 2", ["--fam.branch has no effect: the high-pass removes every frequency, so that nothing is left"
                            " for the global branch."]),
    ("fam_review --fam_review.highpass official",
     ["--fam_review.highpass has no effect: the maps are too small for official to remove anything."]),
])  # fmt: skip
def test_what_has_no_effect_is_told(told, flags, sentences):
    assert told(*TAUGHT, *flags.split()) == sentences


@pytest.mark.parametrize(("classes", "option"), [("dkd", "beta"), ("nkd", "gamma")])
def test_two_classes_leave_nothing_to_compare_besides_the_target(classes, option, small, few_digits, tmp_path):
    arrays = dict(np.load(few_digits))
    for part in ("train", "test"):
        kept = arrays[f"y_{part}"] < 2
        arrays[f"x_{part}"], arrays[f"y_{part}"] = arrays[f"x_{part}"][kept], arrays[f"y_{part}"][kept]
    np.savez("two.npz", **arrays)
    torch.save(build_model("resnet8", 2).state_dict(), "teacher.pt")
    recipe = small(*TAUGHT, classes, "--data.root", "two.npz")
    data = build_recipe_data(recipe)
    said = list(notices(recipe, data, build_distiller(recipe, data)))
    assert said == [f"--{classes}.{option} has no effect: of two classes only one is not the target."]


def test_a_training_prints_both_kinds_before_its_first_epoch(small, capsys):
    train(small("--epochs", "1", "--optim.accumulate", "2"), out="run")
    lines = capsys.readouterr().err.splitlines()
    assert "small none  --optim.steps 2 has no effect in 1 epoch: the learning rate stays at 0.05." in lines
    first = next(place for place, line in enumerate(lines) if "epoch 1/1" in line)
    assert any("batch norms average over parts of 8 images" in line for line in lines[:first])
    train(small("--epochs", "1", "--optim.accumulate", "2"), out="run")  # finished: nothing to tell
    assert capsys.readouterr() == ("", "")


def test_what_was_found_is_printed_before_the_first_epoch(small, capsys):
    torch.save(build_model("resnet8", 3).state_dict(), "teacher.pt")
    run = train(small(*TAUGHT, "fam", "--epochs", "2", "--data.val", "0.25"), out="run")
    lines = capsys.readouterr().err.splitlines()
    first = next(place for place, line in enumerate(lines) if "epoch 1/2" in line)
    told = [line.removeprefix("small fam  ") for line in lines[:first]]
    count, taught = (sum(p.numel() for p in build_model(name, 3).parameters()) for name in ("resnet8x0.5", "resnet8"))
    facts = run.facts["student"]
    mean, std = (" ".join(f"{value:.4g}" for value in facts[key]) for key in ("mean", "std"))
    for line in (
        "images       36 training, 12 held out, 32 test; 3 channels, 8x8",
        "classes      3: 0, 1, 2; 12 training images each",
        "step         16 images, 2 steps an epoch",
        f"student      resnet8x0.5, {count:,} parameters; 8x8, mean {mean}, std {std}",
        f"teacher      resnet8, {taught:,} parameters; 8x8, mean {mean}, std {std}",
        "taps of fam  student: layer1 8x8x8, layer2 16x4x4, layer3 32x2x2",
        "taps of fam  teacher: layer1 16x8x8, layer2 32x4x4, layer3 64x2x2",
    ):
        assert line in told
    assert any(
        re.fullmatch(r"time         about [\d.]+ s for 2 epochs: .* s a step, uncompiled", line) for line in told
    )


def test_classes_without_training_images_are_named(small, few_digits, capsys):
    """Such as class 0 of labels that are counted from 1."""
    arrays = dict(np.load(few_digits))
    for part in ("train", "test"):
        arrays[f"y_{part}"] += 1
    np.savez("from_one.npz", **arrays)
    train(small("--epochs", "1", "--data.root", "from_one.npz"), out="run")
    told = capsys.readouterr().err.splitlines()
    assert "small none  classes  4: 0, 1, 2, 3; up to 16 training images each, and none of 0" in told


def test_the_size_of_a_method_is_printed_where_it_has_parameters(small, capsys):
    torch.save(build_model("resnet8", 3).state_dict(), "teacher.pt")
    train(small(*TAUGHT, "kd", "--epochs", "1"), out="kd")
    assert "method: " not in capsys.readouterr().err
    train(small(*TAUGHT, "fam", "--epochs", "1"), out="fam")
    assert "small fam  method: " in capsys.readouterr().err


@pytest.mark.parametrize("method", ["fam_review", "crd", "ofd", "simkd"])
def test_estimating_the_time_changes_nothing(small, monkeypatch, method):
    torch.manual_seed(5)
    torch.save(build_model("resnet8", 3).state_dict(), "teacher.pt")
    recipe = small(*TAUGHT, method, "--epochs", "1")
    timed = train(recipe, out="timed")
    monkeypatch.setattr("famkd.training.summary._estimate", lambda *_: "")
    untimed = train(recipe, out="untimed")
    same(timed, untimed)


def test_a_step_that_cannot_run_is_reported_by_the_step_itself(small, capsys):
    """One image and one value per channel: the batch norms of the embedding have nothing to average."""
    torch.save(build_model("resnet8", 3).state_dict(), "teacher.pt")
    with pytest.raises(UserError, match="batch"):
        train(small(*TAUGHT, "reviewkd", "--epochs", "1", "--data.batch_size", "1"), out="run")
    assert "  time  " not in capsys.readouterr().err
