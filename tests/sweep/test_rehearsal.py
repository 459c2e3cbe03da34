"""A sweep is rehearsed before its first training: what cannot start is told, the rest runs."""

import re
from pathlib import Path

import pytest

from famkd.errors import UserError
from famkd.sweep import grid, rehearsal
from famkd.sweep.jobs import Outcome
from famkd.sweep.seeds import train_seeds


@pytest.fixture
def swept(small, monkeypatch):
    """Run a sweep whose trainings do nothing; returns the titles of those that were started, and the failures."""
    small()
    Path("big.yaml").write_text(Path("small.yaml").read_text().replace("resnet8x0.5", "resnet8"))

    def run(text: str, **options) -> tuple[list[str], list[Outcome]]:
        started: list[str] = []

        def pretend(jobs, at_once=0):
            started.extend(job.title for job in jobs)
            return iter([Outcome(job, "") for job in jobs])

        monkeypatch.setattr(grid, "run_here", pretend)
        Path("grid.yaml").write_text(text)
        _, failed = grid.sweep("grid.yaml", **options)
        return started, failed

    return run


TAUGHT = "recipe: small.yaml\nteacher.model: resnet8\nteacher.weights: recipe:big.yaml\n"


@pytest.mark.slow
def test_what_cannot_start_is_told_first_and_the_others_run(swept, capsys):
    started, failed = swept(TAUGHT + "method: [kd, fam]\nstudent.taps: [[layer1, layer2], [layer9]]\n")
    out = capsys.readouterr().err.splitlines()
    titles = ["small kd-taps=_layer1_layer2_-seed0", "small kd-taps=_layer9_-seed0"]
    assert len(failed) == 1
    assert re.search("layer9", failed[0].why)
    assert failed[0].job.title.startswith("small fam")
    assert started[0] == "teacher big"
    assert len(started) == 4
    told = next(place for place, line in enumerate(out) if "cannot start" in line)
    assert told < next(place for place, line in enumerate(out) if line.startswith("[1/"))
    assert any("--student.taps has no effect on kd" in line for line in out[:told])
    assert len(titles) == 2


def test_a_sweep_in_which_nothing_can_start_is_refused(swept):
    with pytest.raises(
        UserError, match=r"No training of this sweep can start. The first, small none-seed0: .*gone.npz"
    ):
        swept("recipe: small.yaml\ndata.root: gone.npz\nseed: [0, 1]\n")


def test_a_teacher_that_cannot_start_keeps_its_students_from_it(swept):
    Path("big.yaml").write_text(Path("big.yaml").read_text() + "student.weights: gone.pt\n")
    with pytest.raises(UserError, match=r"its teacher cannot start: There is no file of weights at gone\.pt"):
        swept(TAUGHT + "method: kd\n")


@pytest.mark.slow
def test_trainings_that_differ_in_small_things_are_rehearsed_once(swept, monkeypatch):
    seen = []

    def rehearse(recipe, *arguments):
        seen.append((recipe.method, recipe.seed))
        return None, 1000

    monkeypatch.setattr(rehearsal, "rehearse", rehearse)
    started, failed = swept(TAUGHT + "method: [kd, at]\nseed: [0, 1, 2]\noptim.lr: [0.1, 0.2]\n")
    assert sorted(seen) == [("at", 0), ("kd", 0), ("none", 0)]
    assert len(started) == 13
    assert failed == []


def test_room_for_all_runs_is_asked_for_before_the_first(swept, monkeypatch):
    free = 200 << 20
    monkeypatch.setattr(rehearsal, "rehearse", lambda *arguments: (None, 100 << 20))
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": free}))
    with pytest.raises(UserError, match=r"has 200.0 MiB free; 3 runs would take 300.0 MiB at least"):
        swept("recipe: small.yaml\nseed: [0, 1, 2]\n")


@pytest.mark.slow
def test_a_misspelt_group_to_compare_with_is_told_before_the_first_training(swept):
    text = TAUGHT + "method: [kd, fitnet]\nseed: [0, 1]\n"
    with pytest.raises(UserError, match=r"There is no group 'fitnot'. Did you mean fitnet"):
        swept(text, against="fitnot")
    assert swept(text, against="fitnet")[1] == []


def test_seeds_are_rehearsed_before_the_first(small):
    small()
    with pytest.raises(UserError, match=r"gone\.npz"):
        train_seeds("small.yaml", ["--data.root", "gone.npz"], [0, 1])
    assert not Path("runs").exists()
