"""Searches: files are read, trials are shared and continued, and real trainings are pruned, resumed and told about."""

import csv
import re
import signal
from pathlib import Path

import pytest
from helpers.processes import environment, finish, wait_until

from famkd.config.load import load_recipe
from famkd.errors import UserError
from famkd.run.directory import Run
from famkd.sweep.results import results
from famkd.sweep.space import Range, read_space, whole_numbers
from famkd.sweep.study import Study

SEARCH = """recipe: small.yaml
data.val: 0.25
accelerator: cpu
engine: eager
optim.lr: {low: 1e-3, high: 0.1, log: true}
optim.steps: [[2], [2, 3]]
optim.epochs: {low: 2, high: 4}
"""


@pytest.fixture
def space(small):
    """What SEARCH says."""
    small()
    Path("search.yaml").write_text(SEARCH)
    return read_space(Path("search.yaml"))


def test_values_are_kept_chosen_or_in_a_range(space):
    assert space.kept == {"data.val": "0.25", "accelerator": "cpu", "engine": "eager"}
    assert space.ranges == {"optim.lr": Range(1e-3, 0.1, True), "optim.epochs": Range(2, 4, False)}
    assert list(space.choices["optim.steps"]) == ["2", "2 3"]
    assert whole_numbers(space) == {"optim.epochs"}
    recipe = load_recipe(
        space.recipe, *space.flags({"optim.lr": 0.012345678901, "optim.steps": "2 3", "optim.epochs": 3})
    )
    assert (recipe.optim.lr, recipe.optim.steps, recipe.optim.epochs) == (0.012345678901, (2, 3), 3)
    assert recipe.data.val == "0.25"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("", "varies nothing"),
        ("optim: {lr: 0.1}", "write the range as optim: "),
        ("optim.lr: {low: 0.1}", "write the range as optim.lr: "),
        ("optim.lr: {low: 0.1, high: 0.2, stepp: 2}", "write the range as optim.lr: "),
        ("optim.lr: {low: 0, high: 1, log: true}", "begins at 0: with log: true, low must be above 0"),
        ("optim.lr: {low: 1, high: 1}", "no range from 1 to 1: low must be smaller than high"),
        ("optim.lr: {low: a, high: 1}", "the ends of the range of optim.lr are numbers"),
        ("optim.lr: {low: 1, high: 2, log: maybe}", "log of optim.lr is true or false"),
        ("optim.lr: [0.1]", "two different values or more"),
        ("optim.lr: [0.1, 0.1]", "two different values or more"),
        ("plugins: [mine.py, yours.py]", "names plug-ins"),
    ],
)
def test_files_that_say_nothing_to_vary_are_refused(tmp_path, line, sentence):
    path = tmp_path / "search.yaml"
    path.write_text(f"recipe: quickstart\n{line}\n")
    with pytest.raises(UserError, match=re.escape(sentence)):
        read_space(path)


def test_a_missing_search_file_is_told_without_the_words_of_the_system():
    with pytest.raises(UserError, match=r"^There is no search file nowhere\.yaml\.$"):
        read_space(Path("nowhere.yaml"))


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("optim.name: {low: 0.1, high: 0.2}", "optim.name"),
        ("optim.nesterov: {low: 0, high: 1}", "optim.nesterov is no number"),
        ("optim.lrr: {low: 0, high: 1}", "optim.lr"),
    ],
)
def test_ranges_are_of_numbers(tmp_path, line, sentence):
    path = tmp_path / "search.yaml"
    path.write_text(f"recipe: quickstart\n{line}\n")
    with pytest.raises(UserError, match=re.escape(sentence)):
        whole_numbers(read_space(path))


def study(space, trials=4, pruner="median", grace=1):
    pytest.importorskip("optuna")
    return Study(Path("runs/search"), space, pruner, 4, grace, trials, 0)


def test_processes_share_trials_and_take_over_those_that_nobody_works_on(space):
    one, other = study(space), study(space)
    first, second = one.take(), other.take()
    assert (first.number, second.number) == (0, 1)
    assert first.values != second.values
    first.report(1, 50.0)
    first.leave()  # as if its process had ended
    again = other.take()
    assert (again.number, again.values) == (0, first.values)
    assert not again.report(1, 50.0)  # it was reported before, and is not reported twice
    again.report(2, 40.0)
    again.finish(False, "")
    again.leave()
    assert other.optuna.trials[0].value == 50.0
    last = [one.take(), other.take(), one.take()]
    assert [trial and trial.number for trial in last] == [2, 3, None]


def test_a_search_that_is_continued_draws_as_one_that_was_not_interrupted(space):
    def drawn(continued: bool) -> list:
        search, values = Study(Path(f"runs/{continued}"), space, "none", 4, 1, 6, seed=3), []
        while trial := search.take():
            values.append(dict(trial.values))
            trial.report(1, 100 * trial.values["optim.lr"])
            trial.finish(False, "")
            trial.leave()
            if continued:
                search = Study(Path("runs/True"), space, "none", 4, 1, 6, seed=3)
        return values

    pytest.importorskip("optuna")
    values = drawn(True)
    assert values == drawn(False)
    assert len({str(each) for each in values}) == 6


def test_the_worst_trial_is_pruned_after_its_grace(space):
    search = study(space, trials=9, grace=2)
    pruned = []
    while trial := search.take():
        value = 90.0 if trial.number < 8 else 10.0
        pruned.append([trial.report(epoch, value) for epoch in range(1, 5)])
        trial.finish(any(pruned[-1]), "")
        trial.leave()
    assert not any(map(any, pruned[:8]))
    assert pruned[8][:1] == [False]
    assert any(pruned[8])
    assert [trial.state.name for trial in search.optuna.trials] == ["COMPLETE"] * 8 + ["PRUNED"]


def test_trials_of_another_search_are_refused(space):
    trial = study(space).take()
    trial.leave()
    other = space._replace(ranges={**space.ranges, "optim.lr": Range(1e-3, 1.0, True)})
    with pytest.raises(UserError, match="holds trials of other settings or ranges"):
        study(other)


def test_without_a_finished_trial_the_reason_is_told(space):
    search = study(space, trials=1)
    trial = search.take()
    trial.finish(False, "Not finite in step 1")
    with pytest.raises(UserError, match=r"No trial of search.yaml was trained to its end. Not finite in step 1"):
        results(search, Path("search.yaml"))


@pytest.mark.slow
def test_a_search_is_stopped_continued_and_told_about(space, background, monkeypatch):
    pytest.importorskip("optuna")
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    command = ("-m", "famkd", "tune", "search.yaml", "--trials", "4", "--grace", "1")
    driver = background(*command)
    wait_until(lambda: Path("runs/search/trial-0001/metrics.jsonl").is_file(), driver)
    driver.send_signal(signal.SIGTERM)
    code, _, err = finish(driver)
    assert code == 75, err
    assert "the same command continues" in err
    begun = Run("runs/search/trial-0001").metrics()

    code, out, err = finish(background(*command))
    assert code == 0, err
    assert Run("runs/search/trial-0001").metrics()[: len(begun)] == begun
    with open("runs/search/trials.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["trial"] for row in rows) == ["0", "1", "2", "3"]
    finished = [row for row in rows if row["state"] == "finished"]
    assert rows[: len(finished)] == finished
    best = Run(f"runs/search/trial-{int(rows[0]['trial']):04d}")
    assert f"{max(row['val_top1'] for row in best.metrics()):.2f}" == rows[0]["held out %"]
    assert load_recipe("runs/search/best.yaml") == best.recipe
    assert Path("runs/search/parallel.png").read_bytes()[:4] == b"\x89PNG"
    assert "which chose nothing" in out
