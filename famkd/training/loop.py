"""Training, readable from top to bottom."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from math import cos, pi
from pathlib import Path

import torch
from lightning_fabric import Fabric, seed_everything
from torch.nn.utils import get_total_norm

from famkd import distributed
from famkd.config.load import Optim, Recipe, without_teacher
from famkd.config.validate import validated
from famkd.console import Reporter, console, reporting, size_of
from famkd.data.in_memory import InMemory
from famkd.distill.distiller import Distiller
from famkd.errors import TrainingStopped, UserError
from famkd.run.directory import Run
from famkd.tasks import Classification
from famkd.training.build import build_distiller, build_optimizer, build_recipe_data, default_run, round_teacher
from famkd.training.checkpoint import TrainingState, must_train
from famkd.training.launch import launched
from famkd.training.loggers import must_be_installed, open_loggers
from famkd.training.step import Step, choose_engine
from famkd.training.stop import EpochInterrupted, stop_requests
from famkd.training.teacher import teacher_run, teacher_to_train

TELL = 20  # steps between two times that several processes tell each other whether one was asked to stop


def train(recipe: Recipe, *, out: str | Path | None = None, resume: bool = False, runs: str | Path = "runs") -> Run:
    """Train a recipe's student, and first its teacher and its baseline where they are asked for and missing.

    Args:
        out: the run directory; by itself <runs>/<recipe>/<method>-seed<seed>.
        resume: go on from where it ended, as if nothing had happened.

    Errors: UserError for anything the user can mend; the run directory then holds its last good epoch.
    TrainingStopped after SIGTERM or SIGUSR1; it then holds the very step.

    Of several processes all come this way; the first one alone writes and speaks.
    """
    recipe = validated(recipe)
    run = Run(out) if out else default_run(recipe, runs)
    with contextlib.ExitStack() as stack:
        asked = stack.enter_context(stop_requests())
        fabric = stack.enter_context(launched(recipe, run, resume, runs))
        distributed.on_rank_zero(lambda: stack.enter_context(run.locked()))
        if distributed.on_rank_zero(lambda: must_train(run, recipe, resume)):
            if distributed.on_rank_zero(lambda: _must_wait(recipe, runs)):
                distributed.on_every_rank(lambda: rehearse(recipe, fabric.device, runs))
            train_teacher(recipe, runs)
            if recipe.baseline and recipe.method_names:
                train(without_teacher(recipe), resume=True, runs=runs)
            train_student(recipe, run, fabric, resume, runs, asked)
    return run


def train_student(
    recipe: Recipe, run: Run, fabric: Fabric, resume: bool, runs: str | Path, asked: Callable[[], str]
) -> None:
    """Train epoch after epoch into a run directory, from the start or from where it stopped.

    Errors: TrainingStopped when `asked` to stop.
    """
    seed_everything(recipe.seed, verbose=False)
    if fabric.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()  # of a teacher trained before
    data, distiller, optimizer = distributed.on_every_rank(lambda: _built(recipe, fabric.device, runs))
    engine = distributed.on_every_rank(
        lambda: choose_engine(recipe.engine, fabric.device, data.steps * recipe.optim.epochs)
    )
    wrapped, optimizer = fabric.setup(distiller, optimizer)
    ledger = TrainingState(run, recipe, distiller, optimizer)
    speaks, title = distributed.rank() == 0, f"{recipe.name} {recipe.method}"
    console.quiet = not speaks
    partial = ledger.reopen() if resume else None
    if speaks:
        run.begin(recipe, str(fabric.device))
    if recipe.data.batch_size > data.batch_size:
        console.print(f"{title}  --data.batch_size is {recipe.data.batch_size}: a step takes all {data.batch_size}")
    if recipe.method_names:
        console.print(f"{title}  {size_of(distiller.methods, recipe.optim.momentum)}")
        if not (ledger.metrics or teacher_run(recipe, runs)):
            _tell_of_teacher(title, run, distiller, data)
        round_teacher(distiller, fabric)
    step = Step(
        wrapped, optimizer, data.take, fabric.backward, ["task", *recipe.method_names], fabric.device, engine,
        recipe.optim.accumulate, lambda: fabric.no_backward_sync(wrapped),
    )  # fmt: skip
    log_to = recipe if speaks else replace(recipe, log=())
    with open_loggers(log_to, run.path) as log, reporting(title, recipe.optim.epochs, data.steps) as report:
        report.resume(len(ledger.metrics))
        for epoch in range(len(ledger.metrics) + 1, recipe.optim.epochs + 1):
            try:
                row, clock = train_epoch(epoch, recipe, step, distiller, data, report, asked, partial)
            except EpochInterrupted as pause:
                distributed.average_batchnorm(distiller)
                ledger.pause(pause.state)
                raise TrainingStopped(
                    f"stopped by {pause} in epoch {epoch} after step {step.count} of {data.steps}; "
                    f"{run.path} holds it, the same command with --resume goes on"
                ) from None
            partial = None
            log(row | clock)
            ledger.add(row, clock)
    distributed.barrier()  # the next training may read what this one leaves


def train_epoch(
    epoch: int,
    recipe: Recipe,
    step: Step,
    distiller: Distiller,
    data: InMemory,
    report: Reporter,
    asked: Callable[[], str] = str,
    partial: dict | None = None,
) -> tuple[dict, dict]:
    """One pass over the training set and one look at the test set: a metrics row and a timing row.

    EpochInterrupted, with what `partial` must be to go on, when `asked` to stop between two steps.
    """
    start = time.perf_counter()
    # Whatever draws inside the step follows from (seed, epoch) too, in each process otherwise.
    torch.manual_seed(recipe.seed * 1_000_003 + epoch + distributed.rank() * 1_000_000_007)
    lr = learning_rate(recipe.optim, epoch)
    step.set_epoch(lr, loss_weights(recipe, epoch))
    if partial:
        start -= partial["seconds"]
        step.set_state(partial)
    distiller.train()
    for done, piece in enumerate(data.epoch(epoch, step.count), step.count + 1):
        if reason := _reason_to_stop(asked, done):
            so_far = {**step.state(), "seconds": time.perf_counter() - start} if step.count else None
            raise EpochInterrupted(reason, so_far)
        if epoch == 1 and done <= recipe.optim.warmup_steps:
            step.set_lr(lr * done / recipe.optim.warmup_steps)
        step(piece)
        report.step()
    distributed.on_every_rank(lambda: _must_be_finite(step, distiller, epoch))
    trained = time.perf_counter() - start
    distributed.average_batchnorm(distiller)
    distiller.eval()
    row = {"epoch": epoch, **step.means(), **distiller.task.evaluate(distiller.deployed, data.test()), "lr": lr}
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated() / 2**20 if data.device.type == "cuda" else None
    rate = data.steps * data.batch_size / trained
    report.epoch(row, seconds)
    return row, {"epoch": epoch, "seconds": seconds, "images_per_s": rate, "peak_mib": peak}


def learning_rate(optim: Optim, epoch: int) -> float:
    """Learning rate of an epoch counted from 1: dropped after each of `steps`, or cosine; linear warm-up first."""
    if epoch <= optim.lr_warmup:
        return optim.lr * epoch / optim.lr_warmup
    if optim.schedule == "cosine":
        done = (epoch - 1 - optim.lr_warmup) / max(1, optim.epochs - optim.lr_warmup)
        return optim.lr * (1 + cos(pi * done)) / 2
    return optim.lr * optim.gamma ** sum(epoch > after for after in optim.steps)


def loss_weights(recipe: Recipe, epoch: int) -> dict[str, float]:
    """What each group of losses counts in an epoch: methods ramp up over their warm-up."""
    sections = {name: recipe.section(name) for name in recipe.method_names}
    weights = {name: s.weight * min(1.0, epoch / max(1, s.warmup)) for name, s in sections.items()}
    return {"task": max((s.task_weight for s in sections.values()), default=1.0), **weights}


def train_teacher(recipe: Recipe, runs: str | Path = "runs") -> None:
    """Train the teacher that the recipe names by `recipe:NAME`, unless a finished run of it is there."""
    if distributed.on_rank_zero(lambda: teacher_to_train(recipe, runs) is not None):
        train(teacher_to_train(recipe, runs), resume=True, runs=runs)


def rehearse(recipe: Recipe, device: torch.device, runs: str | Path = "runs") -> None:
    """UserError for whatever the student's training would end with at its start, were its teacher trained first."""
    must_be_installed(recipe.log)
    untaught = replace(recipe, teacher=replace(recipe.teacher, weights=""))
    _built(untaught, torch.device("cpu"), runs)
    choose_engine(recipe.engine, device, 1)


def _tell_of_teacher(title: str, run: Run, distiller: Distiller, data: InMemory) -> None:
    """Measure a teacher that no run tells of: what is wrong with its weights or its images shows here first."""
    if not isinstance(distiller.task, Classification):
        return
    figures = distiller.task.evaluate(distiller.teacher.model, data.test())
    console.print(f"{title}  teacher {'  '.join(f'{name} {value:.2f}' for name, value in figures.items())}")
    if distributed.rank() == 0:
        run.write_teacher(figures)


def _must_wait(recipe: Recipe, runs: str | Path) -> bool:
    """Whether another training comes before the student's, its teacher's or its baseline's."""
    if teacher_to_train(recipe, runs):
        return True
    return recipe.baseline and bool(recipe.method_names) and not default_run(without_teacher(recipe), runs).finished


def _built(recipe: Recipe, device: torch.device, runs: str | Path) -> tuple[InMemory, Distiller, torch.optim.Optimizer]:
    data = build_recipe_data(recipe, device)
    must_divide(recipe, data.batch_size)
    distiller = build_distiller(recipe, data, runs, fold=True)
    return data, distiller, build_optimizer(distiller, recipe.optim)


def must_divide(recipe: Recipe, batch_size: int) -> None:
    """UserError for a step that cannot be cut into as many equal parts as the recipe asks for."""
    shares = distributed.world() * recipe.optim.accumulate
    if batch_size % shares:
        raise UserError(
            f"A step of {batch_size} images cannot be cut into {shares} equal parts ({distributed.world()} processes, "
            f"--optim.accumulate {recipe.optim.accumulate}): pass a multiple of {shares} as --data.batch_size."
        )


def _must_be_finite(step: Step, distiller: Distiller, epoch: int) -> None:
    """UserError naming what was the first not to be finite in an epoch: output, loss or weights."""
    name, at = step.broken() or ("", 0)
    if not name and not get_total_norm(distiller.parameters()).isfinite():
        name, at = "the weights after it", step.count
    if name:
        raise UserError(
            f"Not finite in step {at} of epoch {epoch}: {name}. Lower --lr or the method's weight and pass another "
            f"--out; the epochs before this one are kept in the run directory."
        )


def _reason_to_stop(asked: Callable[[], str], step: int) -> str:
    """The signal that came; several processes tell each other only now and then, and all leave at the same step."""
    return asked() if distributed.world() == 1 else distributed.first_nonempty(asked()) if step % TELL == 1 else ""
