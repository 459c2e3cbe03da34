"""A grid of trainings, each a process of its own: resumable, and none that fails stops the others."""

import itertools
import math
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from famkd.compare import compare
from famkd.config.builtin import builtin_sweeps, find_sweep  # noqa: F401
from famkd.config.load import load_recipe
from famkd.config.validate import validated
from famkd.config.yaml_flags import as_flags, read_yaml
from famkd.console import console
from famkd.errors import UserError
from famkd.run.directory import Run
from famkd.sweep.jobs import Job, Outcome, run_here, run_on_ray
from famkd.training.build import default_run
from famkd.training.teacher import teacher_run, teacher_to_train

MOST_CELLS = 10_000


def sweep(
    source: str, *, jobs: int = 0, on: Literal["local", "ray"] = "local", runs: str | Path = "runs", against: str = "",
    plugins: Iterable[str] = (),
) -> tuple[str, list[Outcome]]:  # fmt: skip
    """Run every training of a grid that is not finished yet; answer the comparison and those that failed.

    Args:
        source: a sweep of the package by name, or a YAML file.
        jobs: trainings at once; by itself one per GPU, or one on a machine without.
        on: this machine's devices, or a Ray cluster whose machines share this folder.
        runs: where run directories go, under the sweep's name; teachers go where `famkd train` puts them.
        plugins: Python files that every training imports.
    """
    path = find_sweep(source)
    todo = plan(read_grid(path), Path(runs), path.stem, plugins)
    carry_out = run_on_ray if on == "ray" else run_here
    teachers = teacher_jobs(todo, Path(runs), plugins)
    lost = {outcome.job.out: outcome.why for outcome in _told(carry_out(teachers, jobs), len(teachers)) if outcome.why}
    waiting = [job for job in todo if not job.done]
    teacher = {job.out: teacher_of(job, runs) for job in waiting}
    orphans = [Outcome(job, f"its teacher failed: {lost[t]}") for job in waiting if (t := teacher[job.out]) in lost]
    ready = [job for job in waiting if teacher[job.out] not in lost]
    console.print(f"{path.stem}: {len(todo)} runs, {len(todo) - len(waiting)} finished before, {len(ready)} to go")
    outcomes = [*orphans, *_told(carry_out(ready, jobs), len(ready))]
    begun = [job.out for job in todo if (job.out / "recipe.yaml").is_file()]
    text = compare(begun, against=against) if any(Run(out).finished for out in begun) else ""
    return text, [outcome for outcome in outcomes if outcome.why]


def read_grid(path: Path) -> list[dict[str, str | list[str]]]:
    """The cells of a sweep file: each a recipe and flags, every value a string (a list for flags that take several).

    The file is one table or a list of tables; of each, every combination of its lists is a cell.
    """
    tree = read_yaml(path, "sweep")
    tables = tree if isinstance(tree, list) else [tree]
    if not tables or not all(isinstance(table, dict) and "recipe" in table for table in tables):
        raise UserError(f"{path} is no sweep: write `recipe: quickstart` and lists such as `method: [kd, at]`.")
    cells = []
    for table in tables:
        options = [value if isinstance(value, list) else [value] for value in table.values()]
        if "plugins" in table:
            raise UserError(f"{path} names plug-ins: leave them out and pass --plugins, if you trust them.")
        if not all(options):
            raise UserError(f"{path}: {list(table)[options.index([])]} has no values.")
        if math.prod(map(len, options)) > MOST_CELLS:
            raise UserError(f"{path} asks for more than {MOST_CELLS:,} trainings: give fewer values.")
        cells += [dict(zip(table, choice)) for choice in itertools.product(*options)]
    return cells


def plan(cells: list[dict[str, Any]], runs: Path, name: str, plugins: Iterable[str] = ()) -> list[Job]:
    """A job for every cell, in a directory named after what varies; equal cells become one job.

    Every recipe is read here, so a misspelt flag ends the sweep before it has begun.
    """
    keys = list(dict.fromkeys(key for cell in cells for key in cell if key not in ("recipe", "method", "seed")))
    varying = [key for key in keys if len({str(cell.get(key)) for cell in cells}) > 1]
    jobs: dict[Path, Job] = {}
    imports = ["--plugins", *plugins] if plugins else []
    for cell in cells:
        flags = imports + as_flags({key: value for key, value in cell.items() if key != "recipe"})
        recipe = validated(load_recipe(cell["recipe"], *flags, "--no_baseline"))
        options = "".join(f"-{key.rpartition('.')[2]}={cell[key]}" for key in varying if key in cell)
        leaf = re.sub(r"[^\w.+=-]+", "_", f"{recipe.method}{options}-seed{recipe.seed}")
        out = runs / name / recipe.name / leaf
        command = [*_train(cell["recipe"], runs), "--out", str(out), *flags, "--no_baseline"]
        jobs.setdefault(out, Job(f"{recipe.name} {leaf}", recipe, out, command))
    return list(jobs.values())


def teacher_jobs(jobs: Iterable[Job], runs: Path, plugins: Iterable[str] = ()) -> list[Job]:
    """Trainings of the teachers that jobs name by `recipe:NAME` and nobody has finished: done before the grid."""
    wanted: dict[Path, Job] = {}
    for job in jobs:
        recipe = None if job.done else teacher_to_train(job.recipe, runs)
        if recipe is None:
            continue
        source = job.recipe.teacher.weights.removeprefix("recipe:")
        imports = ["--plugins", *plugins] if plugins and recipe.plugins else []  # those that were named, not its own
        command = [*_train(source, runs), "--data.root", job.recipe.data.root, *imports]
        out = default_run(recipe, runs).path
        wanted.setdefault(out, Job(f"teacher {recipe.name}", recipe, out, command))
    return list(wanted.values())


def teacher_of(job: Job, runs: str | Path) -> Path | None:
    """The run directory that a job's teacher comes from."""
    run = teacher_run(job.recipe, runs)
    return run and run.path


def _train(recipe: str, runs: Path) -> list[str]:
    return [sys.executable, "-m", "famkd", "train", recipe, "--runs", str(runs), "--resume"]


def _told(outcomes: Iterable[Outcome], count: int) -> list[Outcome]:
    """All outcomes, each told of as it comes."""
    kept = []
    for outcome in outcomes:
        kept.append(outcome)
        console.print(f"[{len(kept)}/{count}] {outcome.job.title}: {outcome.why or 'done'}", markup=False)
    return kept
