"""Which epoch is best, when training is over, and which figures a run shows."""

import json

import pytest

from famkd.config.load import load_recipe
from famkd.errors import UserError
from famkd.files import write_rows
from famkd.run.directory import Run
from famkd.run.scores import Result, best_row, result, training_over


def rows(*scores: float, name: str = "top1") -> list[dict]:
    return [{"epoch": n + 1, "task.ce": 1.0, name: score, "lr": 0.1} for n, score in enumerate(scores)]


@pytest.mark.parametrize(("scores", "best"), [((1,), 0), ((1, 3, 2), 1), ((3, 3, 1), 0), ((1, 2, 2), 1)])
def test_the_best_epoch_is_the_first_of_the_largest(scores, best):
    assert best_row(rows(*scores)) == best


@pytest.mark.parametrize(("scores", "patience", "over"), [
    ((), 0, False),
    ((1, 1, 1, 1), 0, False),
    ((1, 1, 1, 1, 1), 0, True),  # all five epochs
    ((2, 1), 2, False),
    ((2, 1, 1), 2, True),
    ((2, 1, 2), 2, True),  # an equal figure is not better
    ((2, 1, 3), 2, False),
    ((2, 1, 3, 1, 2), 9, True),
])  # fmt: skip
def test_training_is_over_after_all_epochs_or_without_patience(scores, patience, over):
    recipe = load_recipe("quickstart", "--patience", str(patience))
    assert recipe.optim.epochs == 5
    assert training_over(recipe, rows(*scores)) == over


def test_the_figures_are_those_of_the_test_set_where_it_was_measured(tmp_path):
    run = Run(tmp_path)
    (tmp_path / "recipe.yaml").write_text(load_recipe("quickstart", "--data.val", "0.1", "--epochs", "3").to_yaml())
    write_rows(tmp_path / "metrics.jsonl", rows(50, 60, 55, name="val_top1"))
    assert not run.finished
    assert result(run) == Result("val_top1", 55, 60, 2, "held-out images")
    run.write_test({"last": {"epoch": 3, "top1": 44.0}, "best": {"epoch": 2, "top1": 43.0}})
    assert run.finished
    assert result(run) == Result("top1", 44, 43, 2, "held-out images")
    run.write_test({"last": {"epoch": 3, "top1": 44.0}})
    assert result(run) == Result("top1", 44, None, 2, "held-out images")


def test_a_run_of_an_older_version_is_measured_on_the_test_set(tmp_path):
    text = load_recipe("quickstart", "--epochs", "3").to_yaml()
    kept = [line for line in text.splitlines() if line.split(":")[0].strip() not in ("val", "val_seed", "patience")]
    assert len(kept) == len(text.splitlines()) - 3
    (tmp_path / "recipe.yaml").write_text("\n".join(kept))
    write_rows(tmp_path / "metrics.jsonl", rows(50, 60, 55))
    run = Run(tmp_path)
    assert run.finished
    assert run.test == {}
    assert result(run) == Result("top1", 55, 60, 2, "the test set")


def test_a_damaged_file_of_test_figures_is_named(tmp_path):
    run = Run(tmp_path)
    (tmp_path / "recipe.yaml").write_text(load_recipe("quickstart", "--data.val", "0.1", "--epochs", "1").to_yaml())
    write_rows(tmp_path / "metrics.jsonl", rows(50, name="val_top1"))
    for content in ("{", "[1]", json.dumps({"first": {"top1": 1.0}})):
        (tmp_path / "test.json").write_text(content)
        with pytest.raises(UserError, match=r"test\.json is damaged"):
            result(run)
