"""The sweeps of the study in benchmarks/truth, and how near its students come to their teacher."""

import csv
import importlib.util
from pathlib import Path

import pytest

pytest_plugins = ("helpers.famviz_trained",)

FOLDER = Path(__file__).parents[2] / "benchmarks" / "truth"


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_sweeps_of_the_study_can_be_planned(monkeypatch):
    monkeypatch.chdir(FOLDER.parents[1])
    from famkd.sweep.grid import plan, read_grid

    sizes = {file.stem: len(plan(read_grid(file), Path("runs"), file.stem)) for file in FOLDER.glob("*.yaml")}
    assert sizes == {
        "branch_cifar20": 8,
        "improved_bands": 6,
        "methods": 21,
        "parts_bands": 42,
        "parts_cifar20": 42,
    }


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
    first = capsys.readouterr().out
    load("mechanism").mechanism(str(runs / "quickstart"), str(tmp_path / "out"), images=40, cams=6)
    load("mechanism").mechanism(str(tmp_path / "out"))
    again = capsys.readouterr()
    assert again.out == 2 * first
    assert not again.err  # nothing was measured again
