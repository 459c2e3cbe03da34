"""Grids of trainings: read, planned, run as real processes, resumed, and compared."""

import sys
import types
from pathlib import Path

import pytest
from helpers.processes import environment

from famkd.cli import main
from famkd.config.builtin import builtin_sweeps
from famkd.errors import UserError
from famkd.run.directory import Run
from famkd.sweep import jobs
from famkd.sweep.grid import plan, read_grid, teacher_jobs
from famkd.sweep.jobs import run_here, run_job, run_on_ray

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


def test_a_job_that_fails_answers_the_last_line_of_its_log(tmp_path):
    why = run_job([sys.executable, "-c", "print('first'); raise SystemExit('the reason')"], str(tmp_path / "run"), {})
    assert why.startswith("the reason (exit code 1, ")
    assert "first" in (tmp_path / "run" / "train.log").read_text()


def shell(tmp_path, code: str, name: str) -> jobs.Job:
    return jobs.Job(name, None, tmp_path / name, [sys.executable, "-c", code])


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


def test_ray_runs_jobs_and_survives_one_that_is_lost(tmp_path, monkeypatch):
    """A stand-in for the package: its calls as documented, carried out at once."""

    def remote(**options):
        assert options == {"max_retries": 0, "num_gpus": 1}
        return lambda function: types.SimpleNamespace(remote=lambda *arguments: Task(function, arguments))

    class Task:
        def __init__(self, function, arguments):
            self.function, self.arguments = function, arguments

    def get(task):
        if "lost" in task.arguments[1]:
            raise RuntimeError("the node died")
        return task.function(*task.arguments)

    ray = types.SimpleNamespace(
        is_initialized=lambda: True, cluster_resources=lambda: {"GPU": 4.0}, remote=remote, get=get,
        wait=lambda tasks, num_returns: (tasks[:1], tasks[1:]),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "ray", ray)
    outcomes = list(run_on_ray([shell(tmp_path, "", "good"), shell(tmp_path, "", "lost")]))
    assert [(outcome.job.title, outcome.why) for outcome in outcomes] == [("good", ""), ("lost", "the node died")]
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="pip install ray"):
        list(run_on_ray([shell(tmp_path, "", "good")]))
