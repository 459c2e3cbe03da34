"""What is printed before the first step about settings that have no effect on these data and networks."""

import pytest
import torch

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
    import numpy as np

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
    assert "small none  --optim.steps 2 has no effect in 1 epochs: the learning rate stays at 0.05." in lines
    first = next(place for place, line in enumerate(lines) if "epoch 1/1" in line)
    assert any("batch norms average over parts of 8 images" in line for line in lines[:first])
    train(small("--epochs", "1", "--optim.accumulate", "2"), out="run")  # finished: nothing to tell
    assert capsys.readouterr() == ("", "")
