"""A setting that has no effect next to the others is named before training, and no other is."""

import pytest

from famkd.config.builtin import builtin_recipes
from famkd.config.idle import idle_settings
from famkd.config.load import load_recipe
from famkd.config.validate import validated
from famkd.errors import UserError

QUICK = "quickstart"  # fam_review, 5 epochs, steps [4]


@pytest.mark.parametrize(("flags", "sentences"), [
    ("", []),
    ("--epochs 4", ["--optim.steps 4 has no effect in 4 epochs: the learning rate stays at 0.05."]),
    ("--optim.steps 2 5 7", ["--optim.steps 5 7 has no effect in 5 epochs."]),
    ("--optim.steps", []),
    ("--optim.schedule cosine", []),
    ("--data.val 0.1 --patience 5", ["--patience 5 has no effect in 5 epochs."]),
    ("--data.val 0.1 --patience 4 --data.val_seed 3", []),
    ("--data.val_seed 3", ["--data.val_seed has no effect unless --data.val is a fraction of the training images."]),
    ("--optim.lr_warmup 5", ["--optim.lr_warmup 5 lasts all 5 epochs, so the schedule has no effect."]),
    ("--lr 0", ["--optim.lr 0 has the effect that nothing is learned."]),
    ("--fam_review.weight 0", ["--fam_review.weight is 0, so fam_review has no effect."]),
    ("--fam_review.warmup 10 --fam_review.weight 3",
     ["--fam_review.warmup 10 is longer than the training of 5 epochs, so the weight of fam_review only rises to 1.5"]),
    ("--fam_review.warmup 5", []),
    ("--method fam_review+kd", []),
    ("--method fam_review+kd --kd.task_weight 0.5",
     ["--kd.task_weight 0.5 has no effect next to a larger one, 1."]),
    ("--fam_review.task_weight 0",
     ["With task_weight 0 nothing trains the student's classifier: fam_review compares features only."]),
    ("--method simkd", []), ("--method catkd --catkd.task_weight 0", []), ("--method kd --kd.task_weight 0", []),
    ("--method kd --student.taps layer1", ["--student.taps has no effect on kd, which compares no stages."]),
    ("--method kd+rkd --teacher.taps layer1", ["--teacher.taps has no effect on kd+rkd, which compares no stages."]),
    ("--method kd+fam --student.taps layer1", []), ("--method simkd --student.taps layer1", []),
    ("--method none --no_baseline",
     ["The teacher resnet20 has no effect without a method: pass --method to learn from it."]),
    ("--method none --student.taps layer1",
     ["--student.taps has no effect without a method.",
      "The teacher resnet20 has no effect without a method: pass --method to learn from it.",
      "--baseline has no effect without a method: the student is trained alone already."]),
])  # fmt: skip
def test_settings_without_effect(flags, sentences):
    assert [line.rstrip(".") for line in idle_settings(load_recipe(QUICK, *flags.split()))] == [
        line.rstrip(".") for line in sentences
    ]


@pytest.mark.sample(16)
@pytest.mark.parametrize("name", builtin_recipes())
def test_no_built_in_recipe_has_such_a_setting(name):
    assert idle_settings(load_recipe(name)) == []


def test_a_training_in_which_nothing_is_learned_is_refused():
    with pytest.raises(UserError, match="fam_review and the task have weight 0, so nothing is learned"):
        validated(load_recipe(QUICK, "--fam_review.weight", "0", "--fam_review.task_weight", "0"))
