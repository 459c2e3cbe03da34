"""Rehearse the trainings of a sweep or of several seeds before the first of them starts."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from famkd.config.idle import idle_settings
from famkd.config.recipe import Recipe
from famkd.config.validate import validated
from famkd.config.yaml_flags import flatten
from famkd.console import console
from famkd.distill.types import Dataset
from famkd.errors import UserError, counted
from famkd.run.directory import Run
from famkd.sweep.jobs import Job, Outcome
from famkd.training.places import default_run
from famkd.training.rehearse import must_have_room, rehearse
from famkd.training.teacher import teacher_run

# Settings that cannot decide whether a training starts: trainings that differ in these alone are rehearsed once.
MINOR = {"name", "seed", "optim.lr", "optim.epochs", "optim.steps", "optim.gamma", "optim.weight_decay"}
MINOR_OF_METHODS = {"weight", "task_weight", "warmup"}


def rehearse_jobs(jobs: Sequence[Job], teachers: Sequence[Job], runs: Path, here: bool = True) -> list[Outcome]:
    """Rehearse each distinct training of a sweep and of its teachers; returns those that cannot start, and prints them.

    Args:
        here: whether they run on this machine, so that its devices count.

    Errors: UserError where none can start, or where the disk has no room for all of them.
    """
    for line in dict.fromkeys(line for job in jobs for line in idle_settings(job.recipe)):
        console.print(line)
    whys, needed = _rehearsed([*teachers, *jobs], runs, here)
    failed: list[Outcome] = []
    for job in jobs:
        teacher = teacher_run(job.recipe, runs)
        why = whys[job.out]
        if not why and teacher and whys.get(teacher.path):
            why = f"its teacher cannot start: {whys[teacher.path]}"
        if why:
            failed.append(Outcome(job, why))
    if jobs and len(failed) == len(jobs):
        raise UserError(f"No training of this sweep can start. The first, {failed[0].job.title}: {failed[0].why}")
    for job, why in failed:
        console.print(f"{job.title} cannot start: {why}")
    must_have_room(runs, needed, counted(len(jobs) - len(failed), "run"))
    return failed


def rehearse_seeds(recipes: Sequence[Recipe], runs: str | Path) -> None:
    """Rehearse one recipe with several seeds. Errors: UserError for what would end it."""
    _, needed = rehearse(recipes[0], runs=runs)
    new = sum(not default_run(recipe, runs).begun for recipe in recipes)
    must_have_room(Path(runs), new * needed, counted(new, "run"))


def _rehearsed(jobs: Iterable[Job], runs: Path, here: bool) -> tuple[dict[Path, str], int]:
    """Why each job cannot start, by its run directory, and the bytes that the new runs of the others take."""
    whys: dict[Path, str] = {}
    known: dict[str, tuple[str, int]] = {}  # by what makes a training distinct: why it cannot start, and its bytes
    data: dict[str, Dataset] = {}  # of the rehearsal before
    total = 0
    for job in sorted(jobs, key=lambda job: _key_of_data(job.recipe)):
        key = distinct(job.recipe)
        if key not in known:
            known[key] = _rehearse(job, runs, here, data)
        whys[job.out], needed = known[key]
        total += 0 if whys[job.out] or Run(job.out).exists else needed
    return whys, total


def _rehearse(job: Job, runs: Path, here: bool, data: dict[str, Dataset]) -> tuple[str, int]:
    key = _key_of_data(job.recipe)
    try:
        built, needed = rehearse(validated(job.recipe), job.out, runs, data.get(key), here)
    except UserError as error:
        return str(error), 0
    data.clear()
    data[key] = built
    return "", needed


def distinct(recipe: Recipe) -> str:
    """What makes a training distinct from others, as text: settings that decide whether it starts, and how long a step
    takes."""
    minor = MINOR | {f"{name}.{option}" for name in recipe.method_names for option in MINOR_OF_METHODS}
    return _text({name: value for name, value in flatten(recipe.to_dict()).items() if name not in minor})


def _key_of_data(recipe: Recipe) -> str:
    return _text({name: value for name, value in flatten(recipe.to_dict()).items() if name.startswith("data.")})


def _text(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True, default=str)
