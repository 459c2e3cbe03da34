"""Recipes as people write them: each works, or the error names the setting and the line and says what to write."""

import re
from pathlib import Path

import pytest

from famkd.config.load import load_recipe
from famkd.errors import RecipeError, UserError


def write(text: str | bytes, name: str = "mine.yaml") -> str:
    Path(name).write_bytes(text.encode() if isinstance(text, str) else text)
    return name


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/me")


@pytest.mark.sample(24)
@pytest.mark.parametrize(("text", "field", "wanted"), [
    *[(f"baseline: {word}", "baseline", True) for word in ("true", "True", "TRUE", "yes", "on", "1", '"Yes"')],
    *[(f"data: {{augment: {word}}}", "data.augment", False) for word in ("false", "False", "no", "off", "0", '"no"')],
    *[(f"seed: {word}", "seed", 3) for word in ("3", "3.0", '"3"', "'3.0'", "3e0", "+3", "03")],
    *[(f"seed: {word}", "seed", 0) for word in ("null", "~", "", "Null")],
    *[(f"optim: {{lr: {word}}}", "optim.lr", 0.001) for word in ("1e-3", "0.001", '"1e-3"', ".001", "1E-3")],
    *[(f"optim: {{steps: {word}}}", "optim.steps", (5, 7)) for word in ("[5, 7]", '"5, 7"', "5 7", '["5", 7.0]')],
    ("optim:\n  steps: 5, 7", "optim.steps", (5, 7)), ("optim:\n  steps:\n  - 5\n  - 7", "optim.steps", (5, 7)),
    ("optim:\n  steps: 5", "optim.steps", (5,)), ("optim: {steps: []}", "optim.steps", ()),
    ("student:\n  taps: layer1,layer2", "student.taps", ("layer1", "layer2")),
    *[(f"student: {{weights: {word}}}", "student.weights", "") for word in ("null", "none", "None", "~", '""')],
    *[(f"data: {{root: {word}}}", "data.root", "/me/x") for word in ("~/x", "$HOME/x", '"${HOME}/x"')],
    ("student: {weights: ~/w.pth}", "student.weights", "/me/w.pth"),
    ("teacher: {weights: 'recipe:~/t.yaml'}", "teacher.weights", "recipe:/me/t.yaml"),
    ("lr: 0.2", "optim.lr", 0.2), ("optim.lr: 0.2", "optim.lr", 0.2), ("epochs: 9", "optim.epochs", 9),
    ("data: digits", "data.name", "digits"), ("data: {batch-size: 8}", "data.batch_size", 8),
    ("optim:\nseed: 3", "seed", 3), ("method: none", "method", "none"), ("method:", "method", "none"),
    ("\ufeffseed: 3", "seed", 3), ("seed: 3\r\noptim:\r\n  lr: 1\r\n", "optim.lr", 1.0), ("seed:\t3\t\n", "seed", 3),
    ("seed: 3\t# a comment\n \t \noptim: {lr: 1}", "seed", 3), ("seed:\xa03", "seed", 3),
    ("engine: Eager", "engine", "eager"), ("name: 'null'", "name", "null"), ("name: 'true'", "name", "true"),
    ('{"seed": 3, "optim": {"steps": [1, 2]}}', "seed", 3), ("# only a comment\n", "seed", 0), ("", "seed", 0),
    ("---\nseed: 3\n...\n", "seed", 3),
])  # fmt: skip
def test_it_works(text, field, wanted):
    value = load_recipe(write(text))
    for name in field.split("."):
        value = getattr(value, name)
    assert value == wanted
    assert type(value) is type(wanted)


@pytest.mark.parametrize(("text", "sentence"), [
    ("seed: 1\n\nseed: 2", "Cannot read the recipe mine.yaml, line 3: 'seed' is set twice, first in line 1"),
    ("optim: {lr: 1}\nlr: 2", "In mine.yaml, line 2: lr sets optim.lr again, after mine.yaml, line 1: keep one"),
    ("optim: {lr: 1}\noptim.lr: 2", "recipe mine.yaml, line 2: 'optim.lr' is set twice, first in line 1: keep one"),
    ("a: 1\noptim:\n\tlr: 1", "Cannot read the recipe mine.yaml, line 3: .*indent with spaces, not with tabs"),
    ("seed: 1\nlr:0.1\nname: x", "Cannot read the recipe mine.yaml, line [23]: .*a space after the colon"),
    ("seed: 1\n  lr: 2", "Cannot read the recipe mine.yaml, line 2: .*check the indentation"),
    ("optim:\n  lr: 1\n  stepss: [1]", "line 3: optim.stepss is not a setting. Did you mean optim.steps or"),
    ("lerning_rate: 1", "In mine.yaml, line 1: lerning_rate is not a setting"),
    ("batch_size: 8", "In mine.yaml, line 1: batch_size is not a setting. Did you mean data.batch_size?"),
    ("\nseed: one", "In mine.yaml, line 2: seed is 'one': pass a whole number."),
    ("seed: 1.5", "In mine.yaml, line 1: seed is '1.5': pass a whole number."),
    ("baseline: maybe", "In mine.yaml, line 1: baseline is 'maybe': pass true or false."),
    ("optim:\n  lr: 0,1", "In mine.yaml, line 2: optim.lr is '0,1': pass a number."),
    ("optim:\n  epochs: 0", "In mine.yaml, line 2: optim.epochs is 0: pass 1 or more."),
    ("optim:\n  schedule: cosin", "In mine.yaml, line 2: optim.schedule is 'cosin': pass step, cosine, linear"),
    ("optim:\n  steps: [1, two]", "In mine.yaml, line 2: optim.steps is '1 two': pass a whole number."),
    ("student: resnet20", "In mine.yaml, line 1: student is a section: write `student: {model: resnet20}`."),
    ("seed: {a: 1}", "In mine.yaml, line 1: seed.a is not a setting"),
    ("method: [kd, at]", "The setting method takes one word, not a list: write `method: kd+at`."),
    ("method: kd, at", "Several methods are joined by +: write kd+at."),
    ("data: {root: $NOWHERE/x}", "The path $NOWHERE/x names $NOWHERE, which is not set"),
    ("help: true", "'help' is not the name of a setting"), ("no_baseline: true", "no_baseline is not a setting"),
    ("Seed: 1", "'Seed' is not the name of a setting"),
])  # fmt: skip
def test_it_says_what_to_write(text, sentence):
    with pytest.raises(UserError, match=re.escape(sentence).replace(r"\.\*", ".*").replace(r"\[23\]", "[23]")):
        load_recipe(write(text))


def test_a_file_in_another_encoding():
    with pytest.raises(UserError, match=r"Cannot read the recipe mine.yaml: it is no text in UTF-8, save it as such"):
        load_recipe(write("seed: 1".encode("utf-16")))


@pytest.mark.parametrize("name", ["true.yaml", "null.yaml", "my recipe.yaml", "1.0.yml", "~.yaml", "none", "a.b.yaml"])
def test_names_of_files(name):
    recipe = load_recipe(write("seed: 3", name))
    assert (recipe.name, recipe.seed) == (Path(name).stem, 3)
    Path("run").mkdir()
    Path("run/recipe.yaml").write_text(recipe.to_yaml())
    assert load_recipe("run") == recipe


def test_a_missing_file_comes_with_the_nearest():
    write("seed: 1")
    with pytest.raises(UserError, match=r"There is no recipe or file 'mine'\. Did you mean mine\.yaml\?"):
        load_recipe("mine")
    Path("folder").mkdir()
    with pytest.raises(UserError, match=r"folder is a folder without a recipe\.yaml"):
        load_recipe("folder")


def test_a_recipe_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write("seed: 3")
    assert load_recipe("~/mine.yaml").seed == load_recipe("$HOME/mine.yaml").seed == 3


def test_flags_are_read_as_the_file_is():
    flags = ["--baseline", "yes", "--seed=3.0", "--optim.steps", "[5,", "7]", "--data.root=~/x"]
    recipe = load_recipe(write("student: {weights: x.pth}"), *flags, "--student.weights=none")
    assert (recipe.baseline, recipe.seed, recipe.optim.steps) == (True, 3, (5, 7))
    assert (recipe.data.root, recipe.student.weights) == ("/me/x", "")
    with pytest.raises(RecipeError, match=r"^--seed is 'x': pass a whole number\.$"):
        load_recipe("mine.yaml", "--seed", "x")
