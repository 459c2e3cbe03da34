"""A rehearsal: everything about a training that can be told before its first epoch, without training.

A teacher may train for hours before its student, and a sweep for days. What would end the student or the last of the
sweep is told now: names, files, folders, packages, devices, room on the disk, networks that do not fit a method.
"""

import shutil
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from famkd import distributed
from famkd.config.load import without_teacher
from famkd.config.recipe import Recipe
from famkd.distill.distiller import Distiller
from famkd.distill.types import Dataset
from famkd.errors import UserError
from famkd.files import must_be_writable
from famkd.run.directory import Run
from famkd.training.build import (
    build_distiller,
    build_networks,
    build_optimizer,
    build_recipe_data,
    check_batch_size,
    devices_of,
    with_stored_teacher,
)
from famkd.training.checkpoint import needs_training
from famkd.training.judged import judged, with_classes
from famkd.training.loggers import must_be_installed
from famkd.training.places import default_run
from famkd.training.step import choose_engine
from famkd.training.teacher import teacher_to_train

TEST_IMAGES = 2  # that a rehearsal evaluates


def rehearse(
    recipe: Recipe,
    out: str | Path = "",
    runs: str | Path = "runs",
    data: Dataset | None = None,
    here: bool = True,
) -> tuple[Dataset, int]:
    """Build a training on the CPU and evaluate its student on two images; returns its data and the bytes of its run.

    The teacher's weights are loaded unless they have to be trained first.

    Args:
        out: its run directory; by default the one in `runs`.
        data: what an earlier rehearsal with the same data returned.
        here: whether it runs on this machine, so that its devices count.

    Errors: UserError for the first thing that would end it.
    """
    must_be_installed(recipe.log)
    recipe = with_classes(recipe, runs)
    if here:
        _check_devices(recipe)
    _must_take_runs(recipe, Run(out) if out else default_run(recipe, runs), runs)
    with distributed.alone():
        data = data or build_recipe_data(recipe)
        used = with_stored_teacher(recipe, data, runs)
        check_batch_size(recipe, data.batch_size, recipe.devices * recipe.nodes)
        if teacher_to_train(recipe, runs):
            recipe = replace(recipe, teacher=replace(recipe.teacher, weights=""))
        networks = build_networks(recipe, used, runs, rehearsal=True)
        distiller = build_distiller(recipe, used, runs, fold=True, networks=networks)
        build_optimizer(distiller, recipe.optim)
        teacher = networks.teacher.model if networks.teacher else None
        rehearse_evaluation(distiller, judged(distiller.task, data, teacher), held_out=bool(recipe.data.val))
        return data, bytes_of_run(distiller, recipe.keep)


def rehearse_evaluation(distiller: Distiller, data: Dataset, held_out: bool) -> None:
    """Evaluate the student on a few test images and held-out images, so that what they need is missed at once."""
    network = distiller.deployed.eval()
    with distributed.alone():
        for batches in (data.test(1), *([data.val(1)] if held_out else [])):
            distiller.task.evaluate(network, islice(batches, TEST_IMAGES))


def _check_devices(recipe: Recipe) -> None:
    """UserError for devices that are absent, or that cannot run the recipe."""
    device = devices_of(recipe)
    choose_engine(recipe.engine, device, steps=1)
    if recipe.sync_bn and recipe.devices * recipe.nodes > 1:
        distributed.must_synchronise(device)


def _must_take_runs(recipe: Recipe, run: Run, runs: str | Path) -> None:
    """UserError where a run directory cannot be written, or holds something else: also of a teacher and a baseline."""
    needed = [(recipe, run)]
    if recipe.baseline and recipe.method_names:
        alone = without_teacher(recipe)
        needed.append((alone, default_run(alone, runs)))
    if teacher := teacher_to_train(recipe, runs):
        needed.append((teacher, default_run(teacher, runs)))
    for each, place in needed:
        needs_training(place, each, resume=True)
        must_be_writable(_existing(place.path))


def bytes_of_run(distiller: Distiller, keep: int = 1) -> int:
    """The least that a run directory takes: student, best epochs, methods, and resume.pt three times while written."""
    student, methods = _bytes(distiller.student.model), _bytes(distiller.methods)
    resume = 2 * (student + methods)  # with the momentum of each parameter
    kept = keep + 1 if keep > 1 else 1  # best.safetensors too
    return (1 + kept) * student + methods + 3 * resume


def must_have_room(path: Path, needed: int, what: str = "1 run") -> None:
    """UserError where a disk has fewer free bytes than needed."""
    free = shutil.disk_usage(_existing(path)).free
    if free < needed:
        raise UserError(
            f"The disk of {path} has {_size(free)} free; {what} would take {_size(needed)} at least: make room, or "
            "pass another --out or --runs."
        )


def _existing(path: Path) -> Path:
    """A path, or the nearest folder above it that exists."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def _bytes(module: nn.Module) -> int:
    tensors: Iterable[torch.Tensor] = module.state_dict().values()
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _size(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"
