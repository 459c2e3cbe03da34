"""Recipes of runs that differ in their seed only are parsed once."""

import pytest

from famkd.config.load import load_recipe
from famkd.run.directory import Run

TEXT = load_recipe("quickstart").to_yaml()


@pytest.fixture
def parsed(monkeypatch):
    """Paths of the recipes that were parsed."""
    paths = []
    monkeypatch.setattr("famkd.run.directory.load_recipe", lambda path: paths.append(path) or load_recipe(path))
    return paths


def made(path, *changes) -> Run:
    text = TEXT
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path.mkdir()
    (path / "recipe.yaml").write_text(text)
    return Run(path)


@pytest.mark.parametrize(("changes", "is_parsed"), [
    ([("\nseed: 0\n", "\nseed: 12\n")], False),
    ([], False),
    ([("\nseed: 0\n", "\nseed: 12\n"), ("  augment: true\n", "  augment: false\n")], True),
    ([("\nseed: 0\n", "\nseed: '12'\n")], True),
    ([("\nseed: 0\n", "\n")], True),
])  # fmt: skip
def test_only_another_seed_is_taken_from_the_text(tmp_path, parsed, changes, is_parsed):
    first = made(tmp_path / "first")
    assert first.recipe.seed == 0
    other = Run(made(tmp_path / "other", *changes).path, like=first)
    assert other.recipe == load_recipe(other.path / "recipe.yaml")
    assert len(parsed) == 1 + is_parsed


def test_a_run_of_which_nothing_was_read_lends_nothing(tmp_path, parsed):
    first = made(tmp_path / "first")
    other = Run(made(tmp_path / "other", ("\nseed: 0\n", "\nseed: 1\n")).path, like=first)
    assert other.recipe.seed == 1
    assert len(parsed) == 1
