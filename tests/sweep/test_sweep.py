"""Grids of trainings: read, planned, run as real processes, resumed, and compared."""

import contextlib
import sys
from pathlib import Path

import pytest
from helpers.processes import environment, wait_for_epochs, wait_until
from helpers.shell_jobs import shell

from famkd.cli import main
from famkd.config.builtin import builtin_sweeps
from famkd.errors import UserError
from famkd.run.directory import Run
from famkd.sweep import cost, grid, jobs
from famkd.sweep.grid import plan, read_grid, teacher_jobs
from famkd.sweep.jobs import run_here, run_job
from famkd.sweep.on_ray import run_on_ray
from famkd.training.stop import FOLLOW_PARENT

GRID = "{recipe: small.yaml, optim.epochs: 1, optim.lr: ['0.05', '1e18']}"


def test_lists_multiply_and_tables_add(tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_text("- {recipe: quickstart, method: [kd, at], seed: [0, 1, 2]}\n- {recipe: quickstart, seed: 7}\n")
    cells = read_grid(file)
    assert len(cells) == 7
    assert cells[0] == {"recipe": "quickstart", "method": "kd", "seed": "0"}
    for text in ("method: kd", "- recipe: quickstart\n  seed: []", "just text"):
        file.write_text(text)
        with pytest.raises(UserError):
            read_grid(file)


def test_directories_say_what_varies_and_flags_reach_the_recipe(tmp_path):
    cells = [
        {"recipe": "quickstart", "method": "fam_review", "fam_review.highpass": way, "optim.steps": ["2", "3"]}
        for way in ("none", "ideal", "none")
    ]
    todo = plan(cells, Path("runs"), "mine")
    assert [str(job.out) for job in todo] == [
        "runs/mine/quickstart/fam_review-highpass=none-seed0",
        "runs/mine/quickstart/fam_review-highpass=ideal-seed0",
    ]
    assert todo[0].recipe.fam_review.highpass == "none"
    assert todo[0].recipe.optim.steps == (2, 3)
    assert not todo[0].recipe.baseline
    teachers = teacher_jobs(todo, tmp_path)
    assert [job.title for job in teachers] == ["teacher digits/resnet20"]


@pytest.mark.parametrize("cell", [{"help": "true"}, {"optim.lr": "--help"}])
def test_flags_of_a_sweep_are_settings(cell):
    with pytest.raises(UserError):
        plan([{"recipe": "quickstart", **cell}], Path("runs"), "mine")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["methods", "ablations"])
def test_shipped_sweeps_can_be_planned(name):
    todo = plan(read_grid(builtin_sweeps()[name]), Path("runs"), name)
    assert len({job.recipe.seed for job in todo}) == 3
    assert len(todo) >= 18


@pytest.mark.slow
def test_one_failing_run_is_listed_and_the_others_finish_and_are_not_repeated(small, capsys, monkeypatch):
    small()
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    Path("grid.yaml").write_text(GRID)
    with pytest.raises(SystemExit) as ended:
        main(["sweep", "grid.yaml", "--jobs", "2"])
    said = capsys.readouterr()
    assert ended.value.code == 1
    assert "1 failed" in said.err
    assert "Not finite" in said.err
    good = Path("runs/grid/small/none-lr=0.05-seed0")
    assert Run(good).finished
    assert "best top-1 %" in said.out
    before = (good / "train.log").read_text()
    with pytest.raises(SystemExit):
        main(["sweep", "grid.yaml"])
    assert "2 runs, 1 finished before, 1 to go" in capsys.readouterr().err
    assert (good / "train.log").read_text() == before


def test_the_teachers_of_a_sweep_import_its_plugins_too(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(grid, "plan", lambda cells, runs, name, plugins: given.append([*plugins]) or [])
    monkeypatch.setattr(grid, "teacher_jobs", lambda jobs, runs, plugins: given.append([*plugins]) or [])
    grid.sweep("methods", dry_run=True, runs=tmp_path, plugins=iter(["mine.py"]))
    assert given == [["mine.py"], ["mine.py"]]


def test_a_job_that_fails_answers_the_last_line_of_its_log(tmp_path):
    ended = run_job([sys.executable, "-c", "print('first'); raise SystemExit('the reason')"], str(tmp_path / "run"), {})
    assert (ended.code, ended.stopped) == (1, False)
    assert ended.why.startswith("the reason (exit code 1, ")
    assert "first" in (tmp_path / "run" / "train.log").read_text()


def test_a_job_gets_the_gpu_that_is_free(tmp_path, monkeypatch):
    """One job outlasts three others, which therefore share the other GPU."""
    monkeypatch.setattr(jobs, "visible_gpus", lambda: ["3", "5"])
    code = "import os; raise SystemExit(os.environ['CUDA_VISIBLE_DEVICES'])"
    wait = f"import time, pathlib\nwhile not pathlib.Path({str(tmp_path / 'ended')!r}).exists(): time.sleep(0.05)\n"
    outcomes = {}
    todo = [shell(tmp_path, wait + code, "long"), *(shell(tmp_path, code, f"short{n}") for n in range(3))]
    for outcome in run_here(todo):
        outcomes[outcome.job.title] = outcome.why[0]
        if len(outcomes) == 3:
            (tmp_path / "ended").touch()
    assert list(outcomes)[-1] == "long"
    assert {outcomes.pop("long"), *outcomes.values()} == {"3", "5"}
    assert len(set(outcomes.values())) == 1


def test_without_ray_the_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'famkd\[ray\]'"):
        list(run_on_ray([shell(tmp_path, "", "good")]))


@pytest.mark.slow
def test_a_training_ends_with_the_process_that_started_it(small, background):
    """As on Ray, whose worker is killed: a child of it saves its state and ends."""
    small()
    train = [sys.executable, "-m", "famkd", "train", "small.yaml", "--epochs", "100000", "--out", "run",
             "--accelerator", "cpu", "--engine", "eager"]  # fmt: skip
    code = f"import subprocess, time\nprint(subprocess.Popen({train}).pid, flush=True)\ntime.sleep(1000)"
    parent = background("-c", code, **{FOLLOW_PARENT: "1"})
    wait_for_epochs("run", 1, parent)
    parent.kill()
    run = Run("run")

    def unlocked() -> bool:
        with contextlib.suppress(UserError), run.locked():
            return True
        return False

    wait_until(unlocked)
    assert "stopped by the loss of the process that started it" in parent.communicate()[1]


def test_what_a_grid_costs_is_known_before_it_starts(small, monkeypatch):
    """Runs that differ in seed or rate are timed once; epochs that are trained already do not count."""
    small()
    Path("grid.yaml").write_text("{recipe: small.yaml, optim.lr: ['0.05', '0.1'], seed: [0, 1], ema: ['0', '0.9']}")
    timed = []

    def time_step(recipe):
        timed.append(recipe.ema)
        return 2.0, 3  # seconds of a step, steps of an epoch

    monkeypatch.setattr(cost, "time_step", time_step)
    todo = plan(read_grid(Path("grid.yaml")), Path("runs"), "grid")
    run = Run(todo[0].out)
    run.path.mkdir(parents=True)
    (run.path / "metrics.jsonl").write_text('{"epoch": 1}\n{"epoch": 2}\n')
    costs = [cost.cost(group) for group in cost.grouped(todo)]
    assert timed == [0.0, 0.9]
    assert [(each.runs, each.epochs) for each in costs] == [(4, 4 * 3 - 2), (4, 4 * 3)]
    assert [each.hours for each in costs] == pytest.approx([10 * 3 * 2 / 3600, 12 * 3 * 2 / 3600])


def test_a_dry_run_trains_nothing(small, capsys):
    small()
    Path("grid.yaml").write_text("{recipe: small.yaml, accelerator: cpu, engine: eager, seed: [0, 1]}")
    main(["sweep", "grid.yaml", "--dry-run"])
    said = capsys.readouterr().out
    assert "2 runs, 6 epochs: about" in said
    assert "-hours" in said
    assert not Path("runs").exists()
