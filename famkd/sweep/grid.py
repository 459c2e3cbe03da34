"""Run a grid of trainings, each in a process of its own. Finished runs are not repeated, failures stop no other run."""

import itertools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from famkd.compare import compare, must_name_a_group
from famkd.config.builtin import find_sweep
from famkd.config.load import load_recipe
from famkd.config.validate import validated
from famkd.config.yaml_flags import as_flags, read_yaml
from famkd.console import console
from famkd.errors import UserError, counted
from famkd.run.directory import Run
from famkd.sweep.cost import cost_table
from famkd.sweep.jobs import Job, Outcome, one_per_gpu, plugin_flags, run_here, train_command
from famkd.sweep.on_ray import run_on_ray
from famkd.sweep.rehearsal import rehearse_jobs
from famkd.training.places import default_run
from famkd.training.teacher import teacher_run, teacher_to_train

MOST_CELLS = 10_000

Cell = dict[str, Any]  # a recipe and its flags: a string per flag, or a list of strings


def sweep(
    source: str,
    *,
    jobs: int = 0,
    on: Literal["local", "ray"] = "local",
    gpus: float = 0,
    cpus: float = 0,
    dry_run: bool = False,
    runs: str | Path = "runs",
    against: str = "",
    plugins: Iterable[str] = (),
) -> tuple[str, list[Outcome]]:
    """Run every training of a grid that is not finished yet; returns a comparison of all runs, and the failures.

    Args:
        source: a built-in sweep by name, or a YAML file.
        jobs: trainings at once; by default one per GPU, or one on a machine without a GPU.
        on: this machine, or a Ray cluster whose machines share this folder.
        gpus, cpus: what each training takes of a machine of the Ray cluster; by default one GPU, if there are any, and
            one core.
        dry_run: train nothing; the text is a table of what the sweep will cost on this machine.
        runs: the folder of run directories. Those of the sweep are in a folder of its name.
        plugins: Python files that every training imports.
    """
    path, runs, plugins = find_sweep(source), Path(runs), list(plugins)
    run_all = partial(run_on_ray, gpus=gpus, cpus=cpus) if on == "ray" else partial(run_here, at_once=jobs)
    todo = plan(read_grid(path), runs, path.stem, plugins)
    must_name_a_group([job.recipe for job in todo], against)
    teachers = teacher_jobs(todo, runs, plugins)
    waiting = [job for job in todo if not job.done]
    failed = rehearse_jobs(waiting, teachers, runs, here=on == "local")
    cannot = {outcome.job.out for outcome in failed}
    teachers = [job for job in teachers if job.out not in cannot]
    if dry_run:
        left = [*teachers, *(job for job in waiting if job.out not in cannot)]
        return cost_table(left, jobs or one_per_gpu()), failed
    count = sum(job.out not in cannot for job in waiting)
    console.print(
        f"{path.stem}: {counted(len(todo), 'run')}, {len(todo) - len(waiting)} finished before, {count} to go"
    )
    failed += _train_all(waiting, cannot, teachers, runs, run_all)
    begun = [job.out for job in todo if Run(job.out).exists]
    finished = any(Run(out).finished for out in begun)
    return compare(begun, against=against) if finished else "", failed


def _train_all(
    waiting: list[Job], cannot: set[Path], teachers: list[Job], runs: Path, run_all: Callable[..., Iterable[Outcome]]
) -> list[Outcome]:
    """Train teachers, then the jobs that can start; returns those that failed, also for the reason of their teacher."""
    reasons = {outcome.job.out: outcome.why for outcome in _reported(run_all(teachers), len(teachers))}
    ready: list[Job] = []
    failed: list[Outcome] = []
    for job in waiting:
        teacher = teacher_run(job.recipe, runs)
        reason = reasons.get(teacher.path, "") if teacher else ""
        if reason and job.out not in cannot:
            failed.append(Outcome(job, f"its teacher failed: {reason}"))
        elif job.out not in cannot:
            ready.append(job)
    return failed + [outcome for outcome in _reported(run_all(ready), len(ready)) if outcome.why]


def read_grid(path: Path) -> list[Cell]:
    """The cells of a sweep file: a recipe and flags for each training.

    The file is one table or a list of tables. Every combination of the lists of a table is a cell.
    """
    tree = read_yaml(path, "sweep").tree
    tables = tree if isinstance(tree, list) else [tree]
    if not tables or not all(isinstance(table, dict) and "recipe" in table for table in tables):
        raise UserError(f"{path} is no sweep: write `recipe: quickstart` and lists such as `method: [kd, at]`.")
    return [cell for table in tables for cell in _combinations(table, path)]


def _combinations(table: dict[str, Any], path: Path) -> list[Cell]:
    if "plugins" in table:
        raise UserError(f"{path} names plug-ins: leave them out and pass --plugins, if you trust them.")
    options = {key: value if isinstance(value, list) else [value] for key, value in table.items()}
    for key, values in options.items():
        if not values:
            raise UserError(f"{path}: {key} has no values.")
    if math.prod(map(len, options.values())) > MOST_CELLS:
        raise UserError(f"{path} asks for more than {MOST_CELLS:,} trainings: give fewer values.")
    return [dict(zip(options, choice)) for choice in itertools.product(*options.values())]


def plan(cells: list[Cell], runs: Path, name: str, plugins: Sequence[str] = ()) -> list[Job]:
    """A job for every cell, in a directory named after the flags that vary. Equal cells become one job.

    Every recipe is read here, so that a misspelt flag ends the sweep before it begins.
    """
    varying = _varying(cells)
    jobs: dict[Path, Job] = {}
    for cell in cells:
        source = cell["recipe"]
        flags = plugin_flags(plugins) + as_flags({key: value for key, value in cell.items() if key != "recipe"})
        flags.append("--no_baseline")
        recipe = validated(load_recipe(source, *flags))
        options = "".join(f"-{key.rpartition('.')[2]}={cell[key]}" for key in varying if key in cell)
        leaf = re.sub(r"[^\w.+=-]+", "_", f"{recipe.method}{options}-seed{recipe.seed}")
        out = runs / name / recipe.name / leaf
        command = [*train_command(source, runs), "--out", str(out), *flags]
        jobs.setdefault(out, Job(f"{recipe.name} {leaf}", recipe, out, command))
    return list(jobs.values())


def _varying(cells: list[Cell]) -> list[str]:
    """Flags, other than method and seed, that differ between cells."""
    keys = dict.fromkeys(key for cell in cells for key in cell if key not in ("recipe", "method", "seed"))
    return [key for key in keys if len({str(cell.get(key)) for cell in cells}) > 1]


def teacher_jobs(jobs: Iterable[Job], runs: Path, plugins: Sequence[str] = ()) -> list[Job]:
    """Trainings of the teachers that jobs name by `recipe:NAME` and that are not finished. They run before the grid."""
    wanted: dict[Path, Job] = {}
    for job in jobs:
        recipe = None if job.done else teacher_to_train(job.recipe, runs)
        if recipe is None:
            continue
        source = job.recipe.teacher.weights.removeprefix("recipe:")
        imports = plugin_flags(plugins) if recipe.plugins else []  # only files that the user named
        command = [*train_command(source, runs), "--data.root", job.recipe.data.root, *imports]
        out = default_run(recipe, runs).path
        wanted.setdefault(out, Job(f"teacher {recipe.name}", recipe, out, command))
    return list(wanted.values())


def _reported(outcomes: Iterable[Outcome], count: int) -> list[Outcome]:
    """All outcomes, each printed when its job ends."""
    ended: list[Outcome] = []
    for outcome in outcomes:
        ended.append(outcome)
        console.print(f"[{len(ended)}/{count}] {outcome.job.title}: {outcome.why or 'done'}")
    return ended
