"""One recipe over several seeds: side by side on a GPU as far as they fit, one after another on a CPU."""

import contextlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from famkd.compare import compare
from famkd.config.load import Recipe, load_recipe, without_teacher
from famkd.config.validate import validated
from famkd.console import console
from famkd.run.directory import Run
from famkd.sweep.jobs import Job, Outcome, run_here, visible_gpus
from famkd.sweep.memory import step_memory
from famkd.training.build import build_distiller, build_recipe_data, default_run, one_device
from famkd.training.loop import dry_run, train_teacher
from famkd.training.schedule import loss_weights
from famkd.training.teacher import teacher_to_train

OWN = 2 << 30  # bytes that a process takes on a GPU before it computes: context, libraries, their workspaces
SLACK = 1.5  # what an allocator reserves against what is alive; a captured graph keeps its own
STREAMED = ("imagenet", "coco")  # their images come through all cores of the machine


def train_seeds(
    source: str, flags: list[str], seeds: list[int], *, runs: str | Path = "runs", resume: bool = False, jobs: int = 0
) -> tuple[str, list[Outcome]]:
    """Train every seed in a process of its own; answer mean and spread, and the seeds that failed.

    Args:
        jobs: trainings at once; by itself as many as fit on the GPUs, one on a CPU, where a second would only get in
            the way.
    """
    recipes = [validated(load_recipe(source, *flags, "--seed", str(seed))) for seed in dict.fromkeys(seeds)]
    if teacher_to_train(recipes[0], runs):
        dry_run(recipes[0], one_device(recipes[0].accelerator).device, runs)
    train_teacher(recipes[0], runs)  # before anybody needs it, lest they all train it
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # what this process holds of a GPU, the seeds' own cannot have
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
    at_once = jobs or min(len(todo), fitting(recipes[0], len(visible_gpus())))
    with following(todo):
        outcomes = list(run_here(todo, at_once))
    alone = [default_run(without_teacher(recipe), runs).path for recipe in recipes if recipe.baseline]
    finished = [out for out in (*alone, *(job.out for job in todo)) if Run(out).finished]
    return compare(finished) if finished else "", [outcome for outcome in outcomes if outcome.why]


def fitting(recipe: Recipe, gpus: int) -> int:
    """How many trainings of a recipe go at once: those that fit into the free memory of the GPUs, at least one on each.

    One on a machine without, and one on each GPU where images are read from files as they are needed.
    """
    if not gpus or recipe.data.name in STREAMED:
        return max(1, gpus)
    data = build_recipe_data(recipe)
    distiller = build_distiller(recipe, data, weights=False).train()
    weights = loss_weights(recipe, recipe.optim.epochs)
    step = step_memory(distiller, data.probe(), recipe.optim, weights).peak
    images = sum(held.nbytes for held in vars(data).values() if isinstance(held, Tensor))
    need = OWN + images + SLACK * step
    return sum(max(1, int(torch.cuda.mem_get_info(gpu)[0] // need)) for gpu in range(gpus))


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
