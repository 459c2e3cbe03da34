"""What a grid of trainings costs, from a timed step of each distinct training."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch

from famkd.bench.step import prepared_step
from famkd.bench.timer import Timer
from famkd.config.recipe import Recipe
from famkd.config.validate import validated
from famkd.errors import counted
from famkd.run.directory import Run
from famkd.sweep.jobs import Job, places
from famkd.sweep.rehearsal import distinct
from famkd.tables import write_table
from famkd.training.build import build_fabric, build_training_data

WARM_UP, TIMED = 3, 7  # steps


class Cost(NamedTuple):
    """What the trainings that differ in no setting that counts cost together."""

    title: str  # of the first of them
    runs: int
    epochs: int  # that these runs have not trained yet
    seconds: float  # of a step
    hours: float  # of all runs, one after another


def cost_table(jobs: Sequence[Job], at_once: int) -> str:
    """A table of what trainings will cost on this machine, with a line of the sum.

    Steps are timed with random weights, on the GPU or on the cores that each of `at_once` trainings would have.
    Evaluation, reading of the data set and start-up come on top.
    """
    on_gpu = torch.cuda.is_available()
    before = torch.get_num_threads()
    cores = 1 if on_gpu else int(places(at_once)[0].get("OMP_NUM_THREADS", before))
    torch.set_num_threads(cores)
    try:
        costs = [cost(group) for group in grouped(jobs)]
    finally:
        torch.set_num_threads(before)
    unit = "GPU-hours" if on_gpu else "core-hours"
    header = ["training", "runs", "epochs", "ms a step", unit]
    rows = [
        [each.title, str(each.runs), f"{each.epochs:,}", f"{1000 * each.seconds:.1f}", f"{each.hours * cores:.3g}"]
        for each in costs
    ]
    runs, epochs = sum(each.runs for each in costs), sum(each.epochs for each in costs)
    hours = sum(each.hours for each in costs)
    total = f"{counted(runs, 'run')}, {counted(epochs, 'epoch')}: about {hours * cores:.3g} {unit}, "
    total += f"or {hours / at_once:.3g} hours with {at_once} at once"
    return write_table("table", header, rows, [total, "training steps alone: evaluation and start-up come on top"])


def grouped(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs whose steps take equally long, together."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(distinct(job.recipe), []).append(job)
    return list(groups.values())


def cost(jobs: Sequence[Job]) -> Cost:
    """What jobs of equal steps cost, from a few steps of the first."""
    seconds, steps = time_step(jobs[0].recipe)
    left = [max(0, job.recipe.optim.epochs - len(Run(job.out).metrics())) for job in jobs]
    return Cost(jobs[0].title, len(jobs), sum(left), seconds, sum(left) * steps * seconds / 3600)


def time_step(recipe: Recipe) -> tuple[float, int]:
    """Seconds of a training step, its data included, as a median of a few; and the steps of an epoch."""
    recipe = validated(recipe)
    fabric = build_fabric(recipe)
    data = build_training_data(recipe, fabric.device)
    step, _ = prepared_step(recipe, data, fabric)
    pieces = itertools.chain.from_iterable(data.epoch(epoch) for epoch in itertools.count(1))

    def once() -> None:
        step(next(pieces))

    for _ in range(WARM_UP):
        once()
    (milliseconds,) = Timer(fabric.device).medians([once], TIMED)
    return milliseconds / 1000, data.steps
