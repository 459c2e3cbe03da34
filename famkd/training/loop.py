"""The training loop: `train` a recipe, `train_student` over its epochs, `train_epoch` over its steps."""

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric, seed_everything
from torch.nn.utils import get_total_norm

from famkd import distributed
from famkd.config.idle import idle_settings
from famkd.config.load import without_teacher
from famkd.config.recipe import Recipe
from famkd.config.validate import validated
from famkd.console import Reporter, console, reporting
from famkd.distill.distiller import Distiller
from famkd.errors import TrainingStopped, UserError, counted
from famkd.run.directory import Run
from famkd.run.scores import HELD_OUT, training_over
from famkd.training.average import measure
from famkd.training.build import Training, build_step, build_training, round_teacher
from famkd.training.callbacks import Callbacks, Moment
from famkd.training.checkpoint import TrainingState, needs_training
from famkd.training.facts import must_be_same
from famkd.training.final_test import forget_test, measure_test
from famkd.training.judged import with_classes
from famkd.training.launch import start_processes
from famkd.training.loggers import must_be_installed, open_loggers
from famkd.training.places import default_run
from famkd.training.processes import joined, must_start_processes
from famkd.training.rehearse import bytes_of_run, must_have_room, rehearse, rehearse_evaluation
from famkd.training.schedule import learning_rate, loss_weights
from famkd.training.setup import print_setup
from famkd.training.step import Step
from famkd.training.stop import EpochInterrupted, stop_requests, until_requested
from famkd.training.teacher import measure_teacher, teacher_to_train

NO_CALLBACKS = Callbacks()


def train(
    recipe: Recipe,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    runs: str | Path = "runs",
    callbacks: Iterable[Any] = (),
) -> Run:
    """Train a recipe's student, after its teacher and its baseline where these are asked for and missing.

    Args:
        out: the run directory; by default <runs>/<recipe>/<method>-seed<seed>.
        resume: continue from where the run ended, with the same result as an uninterrupted one. The recipe may have
            more epochs, where its schedule does not depend on their number, and other places of the same files.
        runs: the folder of run directories.
        callbacks: functions named on_train_begin, on_epoch_begin, on_step_end, on_epoch_end or on_train_end, and
            objects with methods of these names. Each is called with a `Moment`, in every process.

    A recipe for several processes is trained in new ones, unless torchrun or SLURM started this process. Then all of
    them call this; rank 0 alone writes and prints.

    Errors: UserError for anything the user can fix; the run directory then holds its last good epoch. TrainingStopped
    after SIGTERM or SIGUSR1; the run directory then holds the state after the last step.
    """
    idle, called = idle_settings(recipe), Callbacks(callbacks)
    recipe = with_classes(validated(recipe), runs)
    run = Run(out) if out else default_run(recipe, runs)
    if must_start_processes(recipe):
        if called.given:
            raise UserError("Callbacks cannot be sent to other processes: start this program with torchrun.")
        start_processes(recipe, run, resume, runs)
        return run
    with contextlib.ExitStack() as stack:
        requested = stack.enter_context(stop_requests())
        fabric = stack.enter_context(joined(recipe, run))
        distributed.on_rank_zero(lambda: stack.enter_context(run.locked()))
        if distributed.on_rank_zero(lambda: needs_training(run, recipe, resume)):
            console.quiet = distributed.rank() > 0
            for line in idle:
                console.print(f"{recipe.title}  {line}")
            distributed.on_rank_zero(lambda: must_be_installed(recipe.log))
            if distributed.on_rank_zero(lambda: trains_something_first(recipe, runs)):
                distributed.on_rank_zero(lambda: _rehearse_all(recipe, run, runs))
            train_teacher(recipe, runs)
            if recipe.baseline and recipe.method_names:
                train(without_teacher(recipe), resume=True, runs=runs)
            train_student(recipe, run, fabric, resume, runs, requested, called)
    return run


def train_student(
    recipe: Recipe,
    run: Run,
    fabric: Fabric,
    resume: bool,
    runs: str | Path,
    requested: Callable[[], str],
    callbacks: Callbacks = NO_CALLBACKS,
) -> None:
    """Train epoch after epoch into a run directory, from the start or from where the run stopped.

    Errors: TrainingStopped once `requested` returns a signal's name.
    """
    begun = run if resume and distributed.on_rank_zero(lambda: run.begun) else None
    training, step, state, interrupted = _ready(recipe, run, fabric, runs, begun)
    data, distiller, title = training.data, training.distiller, recipe.title
    moment = Moment(run, recipe, data, distiller, step.optimizer, state.metrics, len(state.metrics))
    log_to = recipe if distributed.rank() == 0 else replace(recipe, log=())
    with (
        open_loggers(log_to, run.path, resumed=begun is not None) as log,
        reporting(title, recipe.optim.epochs, data.steps) as report,
    ):
        report.resume(len(state.metrics))
        callbacks("on_train_begin", moment)
        while not training_over(recipe, state.metrics):
            moment.epoch = len(state.metrics) + 1
            try:
                row, timing = train_epoch(moment, step, report, callbacks, requested, interrupted)
            except EpochInterrupted as stop:
                raise _saved(stop, moment, step, state) from None
            interrupted = None
            log(row | timing)
            state.save_epoch(row, timing)
            callbacks("on_epoch_end", moment)
        if recipe.data.val:
            _print_early_stop(title, recipe, state)
            figures = measure_test(title, run, distiller, step.averaged, data, state.metrics)
            log({"epoch": len(state.metrics), **figures})
        callbacks("on_train_end", moment)
    distributed.barrier()  # the next training may read this one's files


def _ready(
    recipe: Recipe, run: Run, fabric: Fabric, runs: str | Path, begun: Run | None
) -> tuple[Training, Step, TrainingState, dict[str, Any] | None]:
    """Everything that the first epoch needs, checked and printed, and the state of an interrupted epoch, if any.

    Args:
        begun: the run to continue, if it is one.
    """
    seed_everything(recipe.seed, verbose=False)
    if fabric.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()  # a teacher may have been trained before
    title = recipe.title
    training = distributed.on_every_rank(lambda: build_training(recipe, fabric.device, runs, begun))
    data, distiller = training.data, training.distiller
    step = distributed.on_every_rank(lambda: build_step(recipe, data, distiller, training.optimizer, fabric))
    distributed.on_every_rank(lambda: rehearse_evaluation(distiller, data, held_out=bool(recipe.data.val)))
    if not run.begun:
        distributed.on_rank_zero(lambda: must_have_room(run.path, bytes_of_run(distiller, recipe.keep)))
    state = TrainingState(run, recipe, distiller, step)
    interrupted = None
    if begun:
        interrupted = state.restore()
        distributed.on_rank_zero(lambda: must_be_same(begun.facts, training.facts))
    if distributed.rank() == 0:
        _write_beginning(run, recipe, training, str(fabric.device), over=training_over(recipe, state.metrics))
    print_setup(title, recipe, training.networks, data, distiller, step)
    if recipe.method_names:
        measure_teacher(title, run, training, known=begun is not None)
        round_teacher(distiller.teacher, fabric)
    return training, step, state, interrupted


def train_epoch(
    moment: Moment,
    step: Step,
    report: Reporter,
    callbacks: Callbacks,
    requested: Callable[[], str],
    interrupted: dict[str, Any] | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """One pass over the training set and one evaluation: a row of metrics and a row of timing.

    Args:
        moment: the training, and the number of the epoch.
        interrupted: the state of this epoch from a training that was stopped in it.

    Errors: EpochInterrupted once `requested` returns a signal's name, between two steps.
    """
    recipe, data, distiller, epoch = moment.recipe, moment.data, moment.distiller, moment.epoch
    # Random draws inside a step follow from (seed, epoch, rank), so that a resumed run repeats them.
    torch.manual_seed(recipe.seed * 1_000_003 + epoch + distributed.rank() * 1_000_000_007)
    step.set_epoch(learning_rate(recipe.optim, epoch, 0, data.steps), loss_weights(recipe, epoch))
    if interrupted:
        step.set_state(interrupted)
    distiller.train()
    moment.step = step.count
    callbacks("on_epoch_begin", moment)
    for piece in until_requested(data.epoch(epoch, step.count), requested, step.count):
        step.set_lr(learning_rate(recipe.optim, epoch, step.count, data.steps))
        step(piece)
        report.step()
        moment.step = step.count
        callbacks("on_step_end", moment)
    distributed.on_every_rank(lambda: _check_finite(step, distiller, epoch))
    trained = time.perf_counter() - step.started
    average_batchnorms(step, distiller)
    distiller.eval()
    images, prefix = (data.val, HELD_OUT) if recipe.data.val else (data.test, "")
    figures = {prefix + name: value for name, value in measure(distiller, step.averaged, images).items()}
    lr = learning_rate(recipe.optim, epoch, data.steps - 1, data.steps)
    row = {"epoch": epoch, **step.monitor.means(step.count), **figures, "lr": lr}
    seconds = time.perf_counter() - step.started
    peak = torch.cuda.max_memory_allocated() / 2**20 if data.device.type == "cuda" else None
    rate = data.steps * data.batch_size / trained
    report.epoch(row, seconds)
    return row, {"epoch": epoch, "seconds": seconds, "images_per_s": rate, "peak_mib": peak}


def average_batchnorms(step: Step, distiller: Distiller) -> None:
    """Average running statistics over all processes: of the networks, and of the averaged student."""
    distributed.average_batchnorm(distiller)
    if step.averaged is not None:
        distributed.average_batchnorm(step.averaged.network)


def train_teacher(recipe: Recipe, runs: str | Path = "runs") -> None:
    """Train the teacher that the recipe names by `recipe:NAME`, unless a finished run of it exists."""
    if distributed.on_rank_zero(lambda: teacher_to_train(recipe, runs) is not None):
        teacher = teacher_to_train(recipe, runs)
        assert teacher is not None
        train(teacher, resume=True, runs=runs)


def trains_something_first(recipe: Recipe, runs: str | Path) -> bool:
    """Whether a teacher or a baseline is trained before the student."""
    if teacher_to_train(recipe, runs):
        return True
    if not recipe.baseline or not recipe.method_names:
        return False
    return not default_run(without_teacher(recipe), runs).finished


def _rehearse_all(recipe: Recipe, run: Run, runs: str | Path) -> None:
    """Rehearse a training and that of its teacher."""
    data, needed = rehearse(recipe, run.path, runs)
    if teacher := teacher_to_train(recipe, runs):
        needed += rehearse(validated(teacher), runs=runs, data=data if teacher.data == recipe.data else None)[1]
    must_have_room(run.path, needed)


def _write_beginning(run: Run, recipe: Recipe, training: Training, device: str, over: bool) -> None:
    """Write what is known before the first epoch; figures on the test set go if training is not over."""
    if not over:
        forget_test(run)
    run.begin(recipe, device)
    run.write_facts(training.facts)
    teacher = training.networks.teacher
    if teacher is not None and teacher.head:
        run.write_teacher_head(teacher.head)


def _saved(stop: EpochInterrupted, moment: Moment, step: Step, state: TrainingState) -> TrainingStopped:
    """Save the state in the middle of an epoch; the error that says so."""
    average_batchnorms(step, moment.distiller)
    state.save_partial(step.state() if step.count else None)
    return TrainingStopped(
        f"stopped by {stop} in epoch {moment.epoch} after step {step.count} of {moment.data.steps}; {state.run.path} "
        "holds the state, the same command with --resume continues"
    )


def _print_early_stop(title: str, recipe: Recipe, state: TrainingState) -> None:
    done = len(state.metrics)
    if done < recipe.optim.epochs:
        console.print(
            f"{title}  stopped after epoch {done}: {counted(recipe.optim.patience, 'epoch')} without a better figure"
        )


def _check_finite(step: Step, distiller: Distiller, epoch: int) -> None:
    """UserError that names the first output, loss or weight that was not finite in an epoch."""
    bad = step.monitor.first_bad()
    if bad is None and not get_total_norm(distiller.parameters()).isfinite():
        bad = ("the weights after it", step.count)
    if bad is not None:
        name, number = bad
        raise UserError(
            f"Not finite in step {number} of epoch {epoch}: {name}. Lower --lr or the method's weight and pass another "
            f"--out; the epochs before this one are kept in the run directory."
        )
