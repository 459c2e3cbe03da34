"""The tables of the study in benchmarks/truth: from run directories to CSV files, and from these to sentences."""

import csv
import importlib.util
from pathlib import Path

import pytest
from helpers.runs import write_run

from famkd.config.load import load_recipe
from famkd.errors import UserError

pytest_plugins = ("helpers.famviz_trained",)

SCORES = {"none": {0: 50.0, 1: 52.0, 2: 51.0}, "kd": {0: 55.0, 1: 54.0, 2: 58.0}, "fam": {0: 49.0}}
FOLDER = Path(__file__).parents[2] / "benchmarks" / "truth"


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def collected(tmp_path) -> Path:
    for method, by_seed in SCORES.items():
        for seed, score in by_seed.items():
            run = write_run(
                tmp_path / "runs" / f"{method}-{seed}",
                "--method",
                method,
                "--seed",
                str(seed),
                last=score,
                best=score + 3,
            )
            (run / "machine.json").write_text('{"device": "a CPU", "torch": "2"}')
    load("collect").collect(str(tmp_path / "runs"), str(tmp_path / "out"))
    return tmp_path / "out"


@pytest.mark.slow
def test_every_run_epoch_and_recipe_is_collected(collected):
    with (collected / "runs.csv").open(newline="") as file:
        runs = list(csv.DictReader(file))
    assert {(row["group"], int(row["seed"])): float(row["last"]) for row in runs} == {
        (method, seed): score for method, by_seed in SCORES.items() for seed, score in by_seed.items()
    }
    assert all(float(row["hours"]) == pytest.approx(20 / 3600, abs=1e-4) for row in runs)  # 2 + 3 + 4 + 5 + 6 seconds
    with (collected / "epochs.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 5 * len(runs)
    for file in (collected / "recipes").iterdir():
        load_recipe(file)


def test_the_tables_say_what_was_told_apart(collected, capsys):
    load("tables").tables(str(collected), against=("none",))
    printed = capsys.readouterr().out
    assert "| kd | 3 | 55.67 ± 2.08 | 58.67 ± 2.08 |" in printed
    # differences 5, 2 and 7: mean 4.667, standard error 1.453, t quantile 4.303
    assert "- kd was 4.67 points above none [-1.58, 10.92], n = 3: not told apart (p = 0.085" in printed
    assert "- fam was 1.00 points below none, n = 1: too few seeds to tell them apart." in printed
    with pytest.raises(UserError, match="There is no group 'dkd'"):
        load("tables").tables(str(collected), against=("dkd",))


@pytest.mark.slow
def test_the_sweeps_of_the_study_can_be_planned(monkeypatch):
    monkeypatch.chdir(FOLDER.parents[1])
    from famkd.sweep.grid import plan, read_grid

    sizes = {file.stem: len(plan(read_grid(file), Path("runs"), file.stem)) for file in FOLDER.glob("*.yaml")}
    assert sizes == {"methods": 18, "parts_bands": 42, "parts_cifar20": 42}


@pytest.mark.slow
def test_students_are_measured_against_their_teacher(trained_runs, tmp_path, capsys):
    runs = trained_runs["fam"].path.parents[1]
    load("mechanism").mechanism(str(runs / "quickstart"), str(tmp_path / "out"), images=40, cams=6)
    with (tmp_path / "out" / "mechanism.csv").open(newline="") as file:
        rows = {row["group"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"none", "fam", "fam_review"}
    for row in rows.values():
        assert 0 <= float(row["agreement"]) <= 1
        assert all(float(row[f"spectrum {number} dB"]) > 0 for number in (1, 2, 3))
        assert -1 <= float(row["CAM rank correlation"]) <= 1
    with (tmp_path / "out" / "shares.csv").open(newline="") as file:
        shares = list(csv.DictReader(file))
    assert {row["group"] for row in shares} == {"fam", "fam_review"}
    assert all(0 <= float(row["global on these features"]) <= 1 for row in shares if row["global on these features"])
