"""Evaluation of a run or a checkpoint, and the table that ends a training."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from famkd.config.load import differences, with_data, without_teacher
from famkd.config.recipe import Net, Recipe
from famkd.console import output
from famkd.data import build_data
from famkd.distill.types import Dataset, Method
from famkd.errors import UserError
from famkd.methods import METHODS
from famkd.models import load_weights
from famkd.run.directory import Run
from famkd.run.scores import Result, best_is_chosen, result
from famkd.tables import rich_table
from famkd.tasks import TASKS, task_of_model
from famkd.training.build import build_distiller, build_recipe_data, one_device
from famkd.training.facts import same_data
from famkd.training.networks import build_network, student_of
from famkd.training.teacher import teacher_run

Evaluation = tuple[dict[str, float], dict[str, float]]  # figures, and the leading figure by class
Split = Literal["test", "val"]


def evaluate_run(
    path: str | Path,
    data: str = "",
    root: str = "",
    *,
    best: bool = False,
    ema: bool = False,
    split: Split = "test",
    batch_size: int = 0,
    accelerator: str = "auto",
) -> Evaluation:
    """Figures of a run's student on the test set, or on its held-out images.

    Args:
        data, root: another data set, or another place of the same one.
        best: weights of the best epoch instead of the last.
        ema: the averaged student (EMA) of the last epoch.
        split: "val" for the images that the run held out of training.
    """
    run = Run.open(path)
    if split == "val" and not run.recipe.data.val:
        raise UserError(f"{run.path} was trained without held-out images: leave --split out.")
    if split == "val" and data not in ("", run.recipe.data.name):
        raise UserError(f"{run.path} held images of {run.recipe.data.name} out: leave --data out, or --split.")
    network, images = load_deployed(run, one_device(accelerator).device, data, root, best, ema)
    return _evaluate(network, images, run.recipe.task, batch_size, split)


def evaluate_checkpoint(
    model: str,
    weights: str,
    data: str = "",
    root: str = "",
    *,
    output: str = "",
    batch_size: int = 0,
    accelerator: str = "auto",
    **images: Any,
) -> Evaluation:
    """Test-set figures of a bare checkpoint of `model`.

    Args:
        weights: a checkpoint file, a run directory, `recipe:NAME` or `pretrained`.
        data, root: the data set; by default the usual one of the model's task, in the folder `data`.
        output: where the logits are in what the model returns, such as `logits` or `1`.
        images: mean, std, size and interpolation, as in the section `teacher` of a recipe.
    """
    if not weights:
        raise UserError("A model needs --weights: a checkpoint file, a run, recipe:NAME or pretrained.")
    task = task_of_model(model)
    device = one_device(accelerator).device
    chosen = build_data(data or TASKS[task].usual_data, root or "data", 1, device=device, augment=False)
    network = build_network(Net(model, weights, output=output, **images), chosen, task).eval()
    return _evaluate(network, chosen, task, batch_size)


def _evaluate(network: nn.Module, images: Dataset, task: str, batch_size: int, split: Split = "test") -> Evaluation:
    if batch_size < 0:
        raise UserError(f"--batch_size is {batch_size}: pass 1 or more, or 0 for the default.")
    batches = images.val(batch_size) if split == "val" else images.test(batch_size)
    figures, by_class = TASKS[task].evaluate(network, batches)
    return figures, dict(zip(images.classes, by_class, strict=True)) if by_class else {}


def load_deployed(
    run: Run,
    device: torch.device | str = "cpu",
    data: str = "",
    root: str = "",
    best: bool = False,
    ema: bool = False,
) -> tuple[nn.Module, Dataset]:
    """The network that a run is measured by and exported as, in eval mode, and its data.

    It is the student, or what a method makes of the student.

    Args:
        data, root: another data set, or another place of the same one.
        best: the student after its best epoch. Methods save their last state only, so this is refused where a method
            changes the deployed network.
        ema: the averaged student (EMA) of the last epoch.

    Errors: UserError for weights that the run does not have.
    """
    recipe = run.recipe
    if best and ema:
        raise UserError("The average is kept of the last epoch only: leave --best out, or --ema.")
    average = run.ema_state() if ema else {}
    if not run.finished:
        print(f"{run.path} has finished {len(run.metrics())} of {recipe.optim.epochs} epochs", file=sys.stderr)
    if best:
        print(best_epoch_note(run), file=sys.stderr)
    recipe = replace(with_data(recipe, data, root), student=student_of(run))
    images = build_recipe_data(recipe, device)
    if all(METHODS[name].deploy_as is Method.deploy_as for name in recipe.method_names):
        network = build_network(recipe.student, images, recipe.task, weights=False, who="student")
        name = "ema" if ema else "best" if best else "student"
        load_weights(network, run.path / f"{name}.safetensors")
        return network.eval(), images
    if best:
        raise UserError(f"{recipe.method} adds to the student a part that only its last epoch has: leave --best out.")
    distiller = build_distiller(recipe, images, weights=False)
    distiller.student.model.load_state_dict(run.student_state())
    distiller.methods.load_state_dict(run.method_state()[0])
    if ema:
        distiller.deployed.load_state_dict(average)
    return distiller.eval().deployed.eval(), images


def best_epoch_note(run: Run) -> str:
    """Which epoch of a run is its best, and what it was chosen on."""
    found = result(run)
    return f"{run.path}: epoch {found.best_epoch} is the best on {found.chosen_on}"


def closing_table(run: Run, runs: str | Path = "runs") -> None:
    """Print the teacher, the student alone where such a run is finished, and this run: last epoch first, then best."""
    recipe = run.recipe
    if not run.finished:
        return
    figure = result(run).figure
    teacher = teacher_run(recipe, runs)
    shown: list[tuple[str, Run]] = []
    if alone := _student_alone(recipe, runs):
        shown.append((f"student {recipe.student.model} alone", alone))
    shown.append((_role(recipe), run))
    results = [result(each) for _, each in shown]
    rows = [row for (role, each), found in zip(shown, results) for row in _rows(role, each, found)]
    if recipe.method_names:
        rows.insert(0, _teacher_row(run, teacher, figure))
    name = figure.replace("top1", "top-1") + " %"
    header = ["", f"last {name}", f"best {name}", "seconds"]
    output.print(rich_table(f"{recipe.name}, seed {recipe.seed}", header, rows))
    if recipe.method_names:
        output.print(f"teacher {recipe.teacher.model}: {teacher.path if teacher else recipe.teacher.weights}")
    for role, each in shown:
        output.print(f"{role}: {each.path}")
    output.print(best_is_chosen((role, found.chosen_on) for (role, _), found in zip(shown, results)))


def _teacher_row(run: Run, teacher: Run | None, figure: str) -> list[str]:
    """Last and best figure of the teacher, measured on the student's test set, and the seconds of its own training.

    The best figure is of the teacher's own run, so it is shown only if that was tested on the same images. Runs of
    older versions did not measure a teacher that came from a run; its own figures are shown for those.
    """
    role = f"teacher {run.recipe.teacher.model}"
    own = _rows(role, teacher, result(teacher))[0] if teacher else [role, "–", "–", "–"]
    if teacher and not run.teacher and not run.facts:
        return own
    measured = f"{run.teacher[figure]:.2f}" if figure in run.teacher else "–"
    best = own[2] if measured == own[1] and same_data(run, teacher) else "–"
    return [role, measured, best, own[3]]


def _student_alone(recipe: Recipe, runs: str | Path) -> Run | None:
    """The finished run of the same student without a teacher, if there is one under the same protocol."""
    alone = Run(Path(runs) / recipe.name / f"none-seed{recipe.seed}")
    if not recipe.method_names or not (alone.path / "recipe.yaml").is_file() or not alone.finished:
        return None
    return None if differences(alone.recipe, without_teacher(recipe)) else alone


def _role(recipe: Recipe) -> str:
    return f"student {recipe.student.model} by {recipe.method}" if recipe.method_names else recipe.student.model


def _rows(role: str, run: Run, found: Result) -> list[list[str]]:
    """Last and best value of the leading figure, and the seconds of all epochs; then those of the averaged student."""
    seconds = sum(row["seconds"] for row in run.timing())
    best = "–" if found.best is None else f"{found.best:.2f}"
    rows = [[role, f"{found.last:.2f}", best, f"{seconds:.1f}"]]
    if found.ema is not None:
        rows.append([f"{role}, EMA {run.recipe.ema:g}", f"{found.ema:.2f}", "–", "–"])
    return rows
