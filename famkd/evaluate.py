"""Evaluation of a run or a checkpoint, and the table that ends a training."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from famkd.config.load import differences, with_data, without_teacher
from famkd.config.recipe import Net, Recipe
from famkd.console import console
from famkd.data import build_data
from famkd.distill.types import Dataset, Method
from famkd.errors import UserError
from famkd.methods import METHODS
from famkd.models import load_weights
from famkd.run.directory import Run, leading
from famkd.tables import rich_table
from famkd.tasks import TASKS, task_of_model
from famkd.training.build import build_distiller, build_recipe_data, one_device
from famkd.training.facts import same_data
from famkd.training.networks import build_network, student_of
from famkd.training.teacher import teacher_run

Evaluation = tuple[dict[str, float], dict[str, float]]  # figures, and the leading figure by class


def evaluate_run(
    path: str | Path,
    data: str = "",
    root: str = "",
    *,
    best: bool = False,
    batch_size: int = 0,
    accelerator: str = "auto",
) -> Evaluation:
    """Test-set figures of a run's student.

    Args:
        data, root: another data set, or another place of the same one.
        best: weights of the best epoch instead of the last.
    """
    run = Run.open(path)
    network, images = load_deployed(run, one_device(accelerator).device, data, root, best)
    return _evaluate(network, images, run.recipe.task, batch_size)


def evaluate_checkpoint(
    model: str,
    weights: str,
    data: str = "",
    root: str = "",
    *,
    batch_size: int = 0,
    accelerator: str = "auto",
    **images: Any,
) -> Evaluation:
    """Test-set figures of a bare checkpoint of `model`.

    Args:
        weights: a checkpoint file, a run directory, `recipe:NAME` or `pretrained`.
        data, root: the data set; by default the usual one of the model's task, in the folder `data`.
        images: mean, std, size and interpolation, as in the section `teacher` of a recipe.
    """
    if not weights:
        raise UserError("A model needs --weights: a checkpoint file, a run, recipe:NAME or pretrained.")
    task = task_of_model(model)
    device = one_device(accelerator).device
    chosen = build_data(data or TASKS[task].usual_data, root or "data", 1, device=device, augment=False)
    network = build_network(Net(model, weights, **images), chosen, task).eval()
    return _evaluate(network, chosen, task, batch_size)


def _evaluate(network: nn.Module, images: Dataset, task: str, batch_size: int) -> Evaluation:
    if batch_size < 0:
        raise UserError(f"--batch_size is {batch_size}: pass 1 or more, or 0 for the default.")
    figures, by_class = TASKS[task].evaluate(network, images.test(batch_size))
    return figures, dict(zip(images.classes, by_class, strict=True)) if by_class else {}


def load_deployed(
    run: Run, device: torch.device | str = "cpu", data: str = "", root: str = "", best: bool = False
) -> tuple[nn.Module, Dataset]:
    """The network that a run is measured by and exported as, in eval mode, and its data.

    It is the student, or what a method makes of the student.

    Args:
        data, root: another data set, or another place of the same one.
        best: the student after its best epoch. Methods save their last state only, so this is refused where a method
            changes the deployed network.
    """
    recipe = run.recipe
    if not run.finished:
        print(f"{run.path} has finished {len(run.metrics())} of {recipe.optim.epochs} epochs", file=sys.stderr)
    recipe = replace(with_data(recipe, data, root), student=student_of(run))
    images = build_recipe_data(recipe, device)
    if all(METHODS[name].deploy_as is Method.deploy_as for name in recipe.method_names):
        network = build_network(recipe.student, images, recipe.task, weights=False)
        load_weights(network, run.path / ("best.safetensors" if best else "student.safetensors"))
        return network.eval(), images
    if best:
        raise UserError(f"{recipe.method} adds to the student a part that only its last epoch has: leave --best out.")
    distiller = build_distiller(recipe, images, weights=False)
    distiller.student.model.load_state_dict(run.student_state())
    distiller.methods.load_state_dict(run.method_state()[0])
    return distiller.eval().deployed.eval(), images


def closing_table(run: Run, runs: str | Path = "runs") -> None:
    """Print the teacher, the student alone where such a run is finished, and this run: last epoch first, then best."""
    recipe = run.recipe
    if not run.finished:
        return
    figure = leading(run.metrics()[-1])
    teacher = teacher_run(recipe, runs)
    shown: list[tuple[str, Run]] = []
    if alone := _student_alone(recipe, runs):
        shown.append((f"student {recipe.student.model} alone", alone))
    shown.append((_role(recipe), run))
    rows = [[role, *_figures(each)] for role, each in shown]
    if recipe.method_names:
        rows.insert(0, [f"teacher {recipe.teacher.model}", *_teacher_figures(run, teacher, figure)])
    name = figure.replace("top1", "top-1") + " %"
    header = ["", f"last {name}", f"best {name}", "seconds"]
    console.print(rich_table(f"{recipe.name}, seed {recipe.seed}", header, rows))
    if recipe.method_names:
        console.print(f"teacher {recipe.teacher.model}: {teacher.path if teacher else recipe.teacher.weights}")
    for role, each in shown:
        console.print(f"{role}: {each.path}")


def _teacher_figures(run: Run, teacher: Run | None, figure: str) -> list[str]:
    """Last and best figure of the teacher, measured on the student's test set, and the seconds of its own training.

    The best figure is of the teacher's own run, so it is shown only if that was tested on the same images. Runs of
    older versions did not measure a teacher that came from a run; its own figures are shown for those.
    """
    own = _figures(teacher) if teacher else ["–", "–", "–"]
    if teacher and not run.teacher and not run.facts:
        return own
    measured = f"{run.teacher[figure]:.2f}" if figure in run.teacher else "–"
    best = own[1] if measured == own[0] and same_data(run, teacher) else "–"
    return [measured, best, own[2]]


def _student_alone(recipe: Recipe, runs: str | Path) -> Run | None:
    """The finished run of the same student without a teacher, if there is one under the same protocol."""
    alone = Run(Path(runs) / recipe.name / f"none-seed{recipe.seed}")
    if not recipe.method_names or not (alone.path / "recipe.yaml").is_file() or not alone.finished:
        return None
    return None if differences(alone.recipe, without_teacher(recipe)) else alone


def _role(recipe: Recipe) -> str:
    return f"student {recipe.student.model} by {recipe.method}" if recipe.method_names else recipe.student.model


def _figures(run: Run) -> list[str]:
    """Last and best value of the leading figure, and the seconds of all epochs."""
    scores = [row[leading(row)] for row in run.metrics()]
    seconds = sum(row["seconds"] for row in run.timing())
    return [f"{scores[-1]:.2f}", f"{max(scores):.2f}", f"{seconds:.1f}"]
