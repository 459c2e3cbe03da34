"""One recipe over several seeds: side by side on a GPU that has room for them, one after another on a CPU."""

import contextlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from famkd.build import default_run
from famkd.compare import compare
from famkd.jobs import Job, Outcome, run_here, visible_gpus
from famkd.progress import console
from famkd.recipe import load_recipe, without_teacher
from famkd.run import Run
from famkd.training import checked, train_teacher


def train_seeds(
    source: str, flags: list[str], seeds: list[int], *, runs: str | Path = "runs", resume: bool = False, jobs: int = 0
) -> tuple[str, list[Outcome]]:
    """Train every seed in a process of its own; answer mean and spread, and the seeds that failed.

    Args:
        jobs: trainings at once; by itself all of them on a GPU, one on a CPU, where a second would only get in the way.
    """
    recipes = [checked(load_recipe(source, *flags, "--seed", str(seed))) for seed in dict.fromkeys(seeds)]
    train_teacher(recipes[0], runs)  # before anybody needs it, lest they all train it
    command = [sys.executable, "-m", "famkd", "train", source, "--runs", str(runs), *flags]
    todo = [
        Job(
            f"{recipe.name} {recipe.method} seed {recipe.seed}",
            recipe,
            default_run(recipe, runs).path,
            [*command, "--seed", str(recipe.seed), *(["--resume"] if resume else [])],
        )
        for recipe in recipes
    ]
    at_once = jobs or (len(todo) if visible_gpus() else 1)
    with following(todo):
        outcomes = list(run_here(todo, at_once))
    alone = [default_run(without_teacher(recipe), runs).path for recipe in recipes if recipe.baseline]
    finished = [out for out in (*alone, *(job.out for job in todo)) if Run(out).finished]
    return compare(finished) if finished else "", [outcome for outcome in outcomes if outcome.why]


@contextlib.contextmanager
def following(jobs: list[Job]) -> Iterator[None]:
    """A live line for each job, read from its run directory; on no terminal, a line when all is over."""
    ended = threading.Event()
    columns = (TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[figures]}"), console=console) as bar:
        lines = {bar.add_task(escape(job.title), total=job.recipe.optim.epochs, figures=""): job for job in jobs}

        def follow() -> None:
            while not ended.wait(0.5):
                for line, job in lines.items():
                    _show(bar, line, job)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            for line, job in lines.items():
                _show(bar, line, job)


def _show(bar: Progress, line, job: Job) -> None:
    rows = Run(job.out).metrics()
    if rows:
        figures = {key: value for key, value in rows[-1].items() if isinstance(value, float) and "." not in key}
        told = "  ".join(f"{key} {value:.4g}" for key, value in figures.items())
        bar.update(line, completed=rows[-1]["epoch"], figures=told)
