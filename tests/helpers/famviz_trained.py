"""Runs that were really trained, one epoch each on digits, for all tests of famviz in a session that need them."""

from dataclasses import replace

import pytest

from famkd.config.load import load_recipe
from famkd.training.loop import train


@pytest.fixture(scope="session")
def trained_runs(tmp_path_factory):
    """A teacher, the student alone, by fam and by fam_review; the last two by name."""
    root = tmp_path_factory.mktemp("work") / "runs"
    flags = ("--data.name", "digits", "--data.root", "", "--optim.epochs", "1")
    teacher = load_recipe("digits/resnet20", *flags, "--student.model", "resnet14x0.5")
    train(teacher, runs=root)
    found = {}
    for method in ("fam", "fam_review"):
        recipe = load_recipe("quickstart", *flags, "--method", method, "--teacher.model", "resnet14x0.5")
        recipe = replace(recipe, teacher=replace(recipe.teacher, weights=str(root / "digits/resnet20/none-seed0")))
        found[method] = train(recipe, runs=root)
    return found
