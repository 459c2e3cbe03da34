"""Saved results say what the runs said, without the runs."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from helpers.processes import finish, spoken, start
from helpers.runs import write_run

from famkd.compare import compare
from famkd.compare.find import find_runs, read_scores
from famkd.compare.groups import group_scores
from famkd.errors import UserError

SCORES = {"none": {0: 50.0, 1: 52.0, 2: 51.0}, "kd": {0: 55.0, 1: 54.0, 2: 58.0}, "fam": {0: 50.5, 1: 53.0, 2: 50.0}}


@pytest.fixture
def runs(tmp_path) -> Path:
    for method, by_seed in SCORES.items():
        for seed, score in by_seed.items():
            flags = ("--method", method, "--seed", str(seed))
            path = write_run(tmp_path / "runs" / f"{method}-{seed}", *flags, last=score, best=score + 3)
            (path / "machine.json").write_text(json.dumps({"device": "a CPU", "torch": "2", "commit": "abc"}))
    return tmp_path / "runs"


@pytest.fixture
def saved(runs, tmp_path) -> Path:
    compare([runs], save=tmp_path / "saved")
    return tmp_path / "saved"


def test_saved_results_give_the_table_of_the_runs(runs, saved):
    expected = compare([runs], format="csv")
    shutil.rmtree(runs)
    assert compare([saved], format="csv") == expected
    assert compare([saved.parent], format="csv") == expected  # found below a folder


def test_recipes_of_groups_that_are_saved_no_more_are_removed(runs, saved):
    own = saved / "recipes" / "mine.yaml"
    own.write_text("method: kd")
    for seed in SCORES["kd"]:
        shutil.rmtree(runs / f"kd-{seed}")
    compare([runs], save=saved)
    assert {path.stem for path in (saved / "recipes").iterdir()} == {"quickstart-none", "quickstart-fam", "mine"}


def test_saved_results_are_compared_with_runs(runs, saved):
    write_run(runs.parent / "new", "--method", "dkd", last=60.0)
    assert "dkd" in compare([saved, runs.parent / "new"], format="csv")


def test_what_is_saved(saved):
    with (saved / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    row = next(row for row in rows if (row["group"], row["seed"]) == ("kd", "2"))
    wanted = {"recipe": "quickstart", "last": "58.0", "best": "61.0", "device": "a CPU", "commit": "abc", "epochs": "5"}
    assert {key: row[key] for key in wanted} == wanted
    with (saved / "epochs.csv").open(newline="") as file:
        assert [row["top1"] for row in csv.DictReader(file) if (row["group"], row["seed"]) == ("kd", "2")][:2] == [
            "61.0",
            "58.0",
        ]
    assert {path.name for path in (saved / "recipes").iterdir()} == {f"quickstart-{name}.yaml" for name in SCORES}


def test_recipes_and_seeds_come_back(saved):
    groups, repeated = group_scores(read_scores(find_runs([saved]))[0])
    assert {group.label: tuple(group.scores) for group in groups} == dict.fromkeys(SCORES, (0, 1, 2))
    assert {score.recipe.seed for group in groups for score in group.scores.values()} == {0, 1, 2}
    assert not repeated


def test_saved_results_are_not_saved_again(saved, tmp_path):
    with pytest.raises(UserError, match="is a saved result"):
        compare([saved], save=tmp_path / "again")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "epochs.csv").unlink(), r"epochs\.csv is missing"),
        (lambda folder: (folder / "recipes/quickstart-kd.yaml").unlink(), "quickstart-kd"),
        (lambda folder: (folder / "runs.csv").write_text("recipe,group\nquickstart,kd\n"), r"runs\.csv is damaged"),
        (lambda folder: (folder / "runs.csv").write_bytes(b"\xff\xfe\x00"), r"runs\.csv is damaged"),
    ],
)
def test_damage_is_one_sentence(saved, damage, said):
    damage(saved)
    with pytest.raises(UserError, match=said):
        compare([saved])


def test_differences_as_sentences(saved):
    text = compare([saved], explain=True, format="markdown")
    kd = "kd was 4.67 points above none [-1.58, 10.92], n = 3: not told apart (p = "
    fam = "fam was 0.17 points above none ["
    assert kd in text
    assert text.index(kd) < text.index(fam)
    write_run(saved.parent / "one", "--method", "dkd", last=49.0)
    few = "dkd was 1.00 points below none, n = 1: too few seeds to tell them apart."
    assert few in compare([saved, saved.parent / "one"], explain=True, format="markdown")
    below = compare([saved], against="kd", explain=True, format="markdown")
    assert "none was 4.67 points below kd [-1.58, 10.92], n = 3: not told apart" in below


def test_the_command(runs, tmp_path):
    code, out, err = finish(start("-m", "famkd", "compare", str(runs), "--save", str(tmp_path / "s"), "--explain"))
    assert code == 0, err
    assert "told apart" in out
    code, out, err = finish(start("-m", "famkd", "compare", str(tmp_path / "s"), "--format", "csv"))
    assert (code, len(out.splitlines()), spoken(err)) == (0, 4, "")
