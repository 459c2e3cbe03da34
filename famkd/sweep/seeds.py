"""Train one recipe with several seeds: at once as far as they fit on the GPUs, one after another on a CPU."""

import contextlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor

from famkd.compare import compare
from famkd.config.load import load_recipe, without_teacher
from famkd.config.recipe import Recipe
from famkd.config.validate import validated
from famkd.console import console
from famkd.run.directory import Run
from famkd.store.data import TaughtData
from famkd.sweep.jobs import Job, Outcome, run_here, visible_gpus
from famkd.sweep.memory import step_memory
from famkd.sweep.rehearsal import rehearse_seeds
from famkd.training.build import build_distiller, build_training_data
from famkd.training.loop import train_teacher
from famkd.training.places import default_run
from famkd.training.schedule import loss_weights

OVERHEAD = 2 << 30  # bytes of a process on a GPU before it computes: context, libraries, their workspaces
SLACK = 1.5  # memory that the allocator reserves, per byte in use; a CUDA graph keeps memory of its own


def train_seeds(
    source: str,
    flags: list[str],
    seeds: list[int],
    *,
    runs: str | Path = "runs",
    resume: bool = False,
    jobs: int = 0,
) -> tuple[str, list[Outcome]]:
    """Train every seed in a process of its own; returns a comparison of the runs, and the seeds that failed.

    Args:
        jobs: trainings at once; by default as many as fit on the GPUs, and one on a CPU, whose cores one training uses.
    """
    recipes = [validated(load_recipe(source, *flags, "--seed", str(seed))) for seed in dict.fromkeys(seeds)]
    rehearse_seeds(recipes, runs)
    train_teacher(recipes[0], runs)  # before the seeds start, or each of them would train it
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # the memory that this process holds is missing to the seeds' processes
    todo = [_job(recipe, source, flags, runs, resume) for recipe in recipes]
    at_once = jobs or min(len(todo), fitting(recipes[0], len(visible_gpus())))
    with following(todo):
        outcomes = list(run_here(todo, at_once))
    baselines = [default_run(without_teacher(recipe), runs) for recipe in recipes if recipe.baseline]
    trained = [*baselines, *(Run(job.out) for job in todo)]
    finished = [run.path for run in trained if run.finished]
    failed = [outcome for outcome in outcomes if outcome.why]
    return compare(finished) if finished else "", failed


def _job(recipe: Recipe, source: str, flags: list[str], runs: str | Path, resume: bool) -> Job:
    command = [sys.executable, "-m", "famkd", "train", *filter(None, [source]), "--runs", str(runs), *flags]
    command += ["--seed", str(recipe.seed)]
    if resume:
        command.append("--resume")
    title = f"{recipe.title} seed {recipe.seed}"
    return Job(title, recipe, default_run(recipe, runs).path, command)


def fitting(recipe: Recipe, gpus: int) -> int:
    """The number of trainings of a recipe to run at once: as many as fit into the free memory, at least one per GPU.

    One on a machine without a GPU. One per GPU if the data set reads images from files, since one training then uses
    the cores of the machine.
    """
    if not gpus:
        return 1
    data = build_training_data(recipe)
    if data.streamed:
        return gpus
    distiller = build_distiller(recipe, data, weights=False).train()
    weights = loss_weights(recipe, recipe.optim.epochs)
    step = step_memory(distiller, data.probe(), recipe.optim, weights)
    own = data.data if isinstance(data, TaughtData) else data
    images = sum(tensor.nbytes for tensor in vars(own).values() if isinstance(tensor, Tensor))
    need = OVERHEAD + images + SLACK * step.peak
    at_once = 0
    for gpu in range(gpus):
        free, _ = torch.cuda.mem_get_info(gpu)
        at_once += max(1, int(free // need))
    return at_once


@contextlib.contextmanager
def following(jobs: list[Job]) -> Iterator[None]:
    """Show a live line for each job, read from its run directory; if this is no terminal, one line at the end."""
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


def _show(bar: Progress, line: TaskID, job: Job) -> None:
    rows = Run(job.out).metrics()
    if not rows:
        return
    last = rows[-1]
    figures = [f"{key} {value:.4g}" for key, value in last.items() if isinstance(value, float) and "." not in key]
    bar.update(line, completed=last["epoch"], figures="  ".join(figures))
