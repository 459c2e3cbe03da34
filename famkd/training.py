"""Training, readable from top to bottom."""

import contextlib
import time
from dataclasses import replace
from math import cos, inf, isfinite, pi
from pathlib import Path

import torch
from lightning_fabric import Fabric, seed_everything

from famkd import ranks
from famkd.build import (
    FOREIGN,
    build_distiller,
    build_network,
    build_optimizer,
    build_recipe_data,
    default_run,
    fit_to_task,
    recipe_run,
)
from famkd.data.resident import Resident
from famkd.devices import launched
from famkd.distiller import Distiller
from famkd.engine import Step, choose_engine
from famkd.errors import UserError
from famkd.loggers import open_loggers
from famkd.progress import Reporter, console, reporting, size_of
from famkd.recipe import PLACE, Net, Optim, Recipe, differences, load_recipe, without_teacher
from famkd.run import FORMAT, Run, leading, notes_of
from famkd.taps import Tapped


def train(recipe: Recipe, *, out: str | Path | None = None, resume: bool = False, runs: str | Path = "runs") -> Run:
    """Train a recipe's student, and first its teacher and its baseline where they are asked for and missing.

    Args:
        out: the run directory; by itself <runs>/<recipe>/<method>-seed<seed>.
        resume: go on from the last finished epoch, as if nothing had happened.

    Errors: UserError for anything the user can mend; the run directory then holds its last good epoch.

    Of several processes all come this way; the first one alone writes and speaks.
    """
    recipe = checked(recipe)
    run = Run(out) if out else default_run(recipe, runs)
    with contextlib.ExitStack() as stack:
        fabric = stack.enter_context(launched(recipe, run, resume, runs))
        ranks.first(lambda: stack.enter_context(run.locked()))
        if ranks.first(lambda: _must_train(run, recipe, resume)):
            train_teacher(recipe, runs)
            if recipe.baseline and recipe.method_names:
                train(without_teacher(recipe), resume=True, runs=runs)
            train_student(recipe, run, fabric, resume, runs)
    return run


def train_student(recipe: Recipe, run: Run, fabric: Fabric, resume: bool, runs: str | Path) -> None:
    """Epoch after epoch into a run directory, from the start or from where it stopped."""
    seed_everything(recipe.seed, verbose=False)
    data, distiller, optimizer, engine = ranks.together(lambda: _built(recipe, fabric, runs))
    wrapped, optimizer = fabric.setup(distiller, optimizer)
    step = Step(
        wrapped, optimizer, data.take, fabric.backward, ["task", *recipe.method_names], fabric.device, engine,
        recipe.optim.accumulate, lambda: fabric.no_backward_sync(wrapped),
    )  # fmt: skip
    saved = ranks.first(run.read_resume) if resume else None
    metrics, timing = _restore(saved, distiller, optimizer) if saved else ([], [])
    speaks, title = ranks.rank() == 0, f"{recipe.name} {recipe.method}"
    console.quiet = not speaks
    if speaks:
        run.begin(recipe, str(fabric.device))
    if recipe.method_names:
        console.print(f"{title}  {size_of(distiller.methods, recipe.optim.momentum)}")
    log_to = recipe if speaks else replace(recipe, log=())
    with open_loggers(log_to, run.path) as log, reporting(title, recipe.optim.epochs, data.steps) as report:
        report.resume(len(metrics))
        for epoch in range(len(metrics) + 1, recipe.optim.epochs + 1):
            row, clock = train_epoch(epoch, recipe, step, distiller, data, report)
            metrics.append(row)
            timing.append(clock)
            log(row | clock)
            if speaks:
                _save(run, recipe, metrics, timing, distiller, optimizer)
    ranks.wait()  # the next training may read what this one leaves


def train_epoch(
    epoch: int, recipe: Recipe, step: Step, distiller: Distiller, data: Resident, report: Reporter
) -> tuple[dict, dict]:
    """One pass over the training set and one look at the test set: a metrics row and a timing row."""
    start = time.perf_counter()
    # Whatever draws inside the step follows from (seed, epoch) too, in each process otherwise.
    torch.manual_seed(recipe.seed * 1_000_003 + epoch + ranks.rank() * 1_000_000_007)
    lr = learning_rate(recipe.optim, epoch)
    step.set_epoch(lr, loss_weights(recipe, epoch))
    distiller.train()
    for done, piece in enumerate(data.epoch(epoch), 1):
        if epoch == 1 and done <= recipe.optim.warmup_steps:
            step.set_lr(lr * done / recipe.optim.warmup_steps)
        step(piece)
        report.step()
    losses = step.means()
    ranks.first(lambda: _must_be_finite(losses, epoch))
    trained = time.perf_counter() - start
    ranks.average_statistics(distiller)
    distiller.eval()
    row = {"epoch": epoch, **losses, **distiller.task.evaluate(distiller.deployed, data.test()), "lr": lr}
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


def checked(recipe: Recipe) -> Recipe:
    """The recipe, once it can mean something: a student, and a teacher with weights where a method needs one."""
    for flag, value, least in (("data.batch_size", recipe.data.batch_size, 1), ("optim.epochs", recipe.optim.epochs, 1),
                               ("optim.lr", recipe.optim.lr, 0), ("seed", recipe.seed, 0),
                               ("optim.accumulate", recipe.optim.accumulate, 1), ("devices", recipe.devices, 1),
                               ("nodes", recipe.nodes, 1), ("data.size", recipe.data.size, 0)):  # fmt: skip
        if not value >= least:
            raise UserError(f"--{flag} is {value}: pass {least} or more.")
    if not recipe.student.model:
        raise UserError("No student is named: pass --student.model, or a recipe that has one.")
    recipe = fit_to_task(recipe)
    if not recipe.method_names:
        return replace(recipe, teacher=Net())
    if not recipe.teacher.model:
        raise UserError(f"The method {recipe.method} needs a teacher: pass --teacher.model and --teacher.weights.")
    if not recipe.teacher.weights:
        foreign = "pretrained, " if recipe.teacher.model.startswith(FOREIGN) else ""
        raise UserError(
            f"The teacher has no weights: pass --teacher.weights with {foreign}a file, a run or recipe:NAME."
        )
    return recipe


def train_teacher(recipe: Recipe, runs: str | Path = "runs") -> None:
    """Train the teacher that the recipe names by `recipe:NAME`, unless a finished run of it is there."""
    name = recipe.teacher.weights.removeprefix("recipe:")
    if not recipe.method_names or name == recipe.teacher.weights:
        return
    if ranks.first(lambda: recipe_run(name, runs).finished):
        return
    for net in (recipe.student, recipe.teacher):  # a misspelt name is told now, not when the teacher is done
        ranks.first(lambda net=net: Tapped(build_network(replace(net, weights=""), 2), net.taps) and None)
    place = {key: getattr(recipe, key) for key in PLACE if "." not in key}
    train(replace(load_recipe(name, "--data.root", recipe.data.root), **place), resume=True, runs=runs)


def _built(recipe: Recipe, fabric: Fabric, runs: str | Path) -> tuple[Resident, Distiller, torch.optim.Optimizer, str]:
    data = build_recipe_data(recipe, fabric.device)
    shares = ranks.world() * recipe.optim.accumulate
    if data.batch_size % shares:
        raise UserError(
            f"A step of {data.batch_size} images cannot be cut into {shares} equal parts ({ranks.world()} processes, "
            f"--optim.accumulate {recipe.optim.accumulate}): pass a multiple of {shares} as --data.batch_size."
        )
    distiller = build_distiller(recipe, data, runs, fold=True)
    engine = choose_engine(recipe.engine, fabric.device, data.steps * recipe.optim.epochs)
    return data, distiller, build_optimizer(distiller, recipe.optim), engine


def _must_be_finite(losses: dict[str, float], epoch: int) -> None:
    broken = [f"{name} = {value}" for name, value in losses.items() if not isfinite(value)]
    if broken:
        raise UserError(
            f"A loss is not finite in epoch {epoch}: {', '.join(broken)}. The run directory holds epoch {epoch - 1}; "
            "lower --lr or the method's weight and pass another --out."
        )


def _must_train(run: Run, recipe: Recipe, resume: bool) -> bool:
    """Whether anything is left to do in a run directory; UserError where it holds something else."""
    if not (run.path / "recipe.yaml").is_file() or not run.metrics():  # without a finished epoch nothing is lost
        return True
    changed = differences(run.recipe, recipe)
    if changed:
        raise UserError(
            f"{run.path} holds a run of another recipe ({', '.join(changed[:3])} differ): pass another --out or --name."
        )
    if run.finished:
        return False
    if not resume:
        raise UserError(f"{run.path} holds an unfinished run: pass --resume to go on, or another --out.")
    return True


def _save(run: Run, recipe: Recipe, metrics: list[dict], timing: list[dict], distiller: Distiller, optimizer) -> None:
    score = [row[leading(row)] for row in metrics]
    best = score[-1] > max(score[:-1], default=-inf)
    taps = {name: dict(zip(("student", "teacher"), distiller.taps(name))) for name in distiller.methods}
    notes = {"taps": taps, "modules": notes_of(distiller.methods)}
    run.write_epoch(metrics, timing, distiller.student.model, distiller.methods, notes, best, recipe.optim.epochs)
    run.write_resume({
        "format": FORMAT, "metrics": metrics, "timing": timing,
        "student": distiller.student.model.state_dict(), "methods": distiller.methods.state_dict(),
        "optimizer": optimizer.state_dict(),
    })  # fmt: skip


def _restore(saved: dict, distiller: Distiller, optimizer) -> tuple[list[dict], list[dict]]:
    distiller.student.model.load_state_dict(saved["student"])
    distiller.methods.load_state_dict(saved["methods"])
    optimizer.load_state_dict(saved["optimizer"])
    return saved["metrics"], saved["timing"]
