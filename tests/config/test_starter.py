"""A pair of one's own: a recipe of flags alone, and `famkd init`, whose file is the same recipe."""

from dataclasses import replace
from pathlib import Path

import pytest

from famkd.cli import main
from famkd.cli.init import EXAMPLE
from famkd.cli.train import recipe_first
from famkd.config.idle import idle_settings
from famkd.config.load import load_recipe
from famkd.config.starter import commented
from famkd.errors import UserError

PAIR = ("--student.model", "resnet8", "--teacher.model", "timm:resnet50", "--teacher.weights", "pretrained")


@pytest.mark.parametrize(("flags", "name", "method"), [
    ((*PAIR, "--data", "folder"), "folder/timm_resnet50-resnet8", "fam_review"),
    ((*PAIR, "--method", "kd"), "cifar100/timm_resnet50-resnet8", "kd"),
    ((*PAIR, "--method=none", "--name", "mine"), "mine", "none"),
    (("--student.model=resnet8", "--data", "digits"), "digits/resnet8", "none"),
    (("--student.model=resnet8", "--data", "digits", "--teacher.store", "s"), "digits/resnet8", "fam_review"),
    (("--student.model=resnet8", "--data", "digits", "--teacher.weights", "w.pt"), "digits/resnet8", "fam_review"),
])  # fmt: skip
def test_a_recipe_of_flags_alone(flags, name, method):
    recipe = load_recipe("", *flags)
    assert (recipe.name, recipe.method) == (name, method)


@pytest.mark.parametrize("flags", [
    EXAMPLE, (*PAIR, "--data", "digits", "--optim.name", "adamw", "--lr", "1e-3", "--optim.schedule", "cosine"),
    (*EXAMPLE, "--method", "kd+fam", "--kd.temperature", "2", "--student.taps", "layer1", "--data.val", "0.1"),
])  # fmt: skip
def test_the_written_file_is_the_same_recipe(flags, tmp_path):
    recipe = load_recipe("", *flags)
    (tmp_path / "mine.yaml").write_text(commented(recipe))
    assert replace(load_recipe(tmp_path / "mine.yaml"), name=recipe.name) == recipe
    assert idle_settings(recipe) == []


def test_a_store_without_a_method_is_said_to_have_no_effect():
    recipe = load_recipe(
        "", "--student.model", "resnet8", "--data", "digits", "--teacher.store", "s", "--method", "none"
    )
    assert "The teacher s has no effect without a method: pass --method to learn from it." in idle_settings(recipe)


def test_init_writes_a_file_and_overwrites_none(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["init"])
    assert capsys.readouterr().out == "mine.yaml: look through it, then famkd train mine.yaml\n"
    assert load_recipe("mine.yaml").teacher.weights == "pretrained"
    before = Path("mine.yaml").read_text()
    for argv, words in ((["init"], "mine.yaml exists"), (["init", "mine"], "mine is no name for a recipe")):
        with pytest.raises(SystemExit) as ended:
            main(argv)
        assert ended.value.code == 2
        assert words in capsys.readouterr().err
    assert Path("mine.yaml").read_text() == before


def test_flags_that_name_a_student_need_no_recipe():
    flags = [*PAIR[:-1], "quickstart"]  # a value that is also the name of a recipe
    assert recipe_first(flags) == ("", flags)
    with pytest.raises(UserError, match=r"The recipe comes first: famkd train quickstart --student\.model resnet8"):
        recipe_first(["--student.model", "resnet8", "quickstart"])
    with pytest.raises(UserError, match=r"or networks of your own: famkd train --student\.model M"):
        recipe_first(["--epochs", "3"])
