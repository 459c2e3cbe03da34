"""What a run came to: evaluation of its student, and the table that closes a training."""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from famkd.config.load import Net, differences, without_teacher
from famkd.console import console, table
from famkd.data import build_data
from famkd.data.in_memory import InMemory
from famkd.distill.types import Method
from famkd.errors import UserError
from famkd.methods import METHODS
from famkd.models import DETECTORS, load_weights
from famkd.run.directory import Run, leading
from famkd.tasks import TASKS, Detection
from famkd.training.build import build_distiller, build_network, build_recipe_data, one_device
from famkd.training.teacher import teacher_run


def evaluate(
    run: str = "", model: str = "", weights: str = "", data: str = "", root: str = "", best: bool = False,
    batch_size: int = 500, accelerator: str = "auto",
) -> dict[str, float]:  # fmt: skip
    """Test-set figures of a run's student, or of a bare checkpoint of `model`."""
    return measure(run, model, weights, data, root, best, batch_size, accelerator)[0]


def measure(
    run: str, model: str, weights: str, data: str, root: str, best: bool, batch_size: int, accelerator: str
) -> tuple[dict[str, float], dict[str, float]]:
    """`evaluate`, and of a detector average precision by class."""
    if bool(run) == bool(model or weights):
        raise UserError("Name either a run directory, or --model with --weights and --data.")
    if batch_size < 1:
        raise UserError(f"--batch_size is {batch_size}: pass 1 or more.")
    device = one_device(accelerator).device
    if run:
        network, images = open_deployed(Run.open(run), device, data, root, best)
        task = Run(run).recipe.task
    else:
        if not weights:
            raise UserError("A bare model needs --weights: a checkpoint file, a run, recipe:NAME or pretrained.")
        task, usual = ("detection", "coco") if model in DETECTORS else ("classification", "cifar100")
        images = build_data(data or usual, root or "data", 1, device=device, augment=False)
        network = build_network(Net(model, weights), len(images.classes), size=images.size).to(device).eval()
    if task == "detection":
        figures, each = Detection().measure(network, images.test())
        return figures, dict(zip(images.classes, each, strict=True))
    return TASKS[task]().evaluate(network, images.test(batch_size)), {}


def open_deployed(
    run: Run, device: torch.device | str = "cpu", data: str = "", root: str = "", best: bool = False
) -> tuple[nn.Module, InMemory]:
    """What a run is measured by and exported as, in eval mode, and its data: the student, or what a method makes of it.

    Args:
        data, root: another data set, or another place of the same one.
        best: the student after its best epoch; methods keep their last state only, so not where one dresses it.
    """
    recipe = run.recipe
    if not run.finished:
        print(f"{run.path} has finished {len(run.metrics())} of {recipe.optim.epochs} epochs", file=sys.stderr)
    recipe = replace(recipe, data=replace(recipe.data, name=data or recipe.data.name, root=root or recipe.data.root))
    images = build_recipe_data(recipe, device)
    if not any(METHODS[name].deploy_as is not Method.deploy_as for name in recipe.method_names):
        network = build_network(recipe.student, len(images.classes), weights=False, size=images.size).to(device)
        load_weights(network, run.path / ("best.safetensors" if best else "student.safetensors"))
        return network.eval(), images
    if best:
        raise UserError(f"{recipe.method} adds to the student what only its last epoch has: leave --best out.")
    distiller = build_distiller(recipe, images, weights=False)
    distiller.student.model.load_state_dict(run.student_state())
    distiller.methods.load_state_dict(run.method_state()[0])
    return distiller.eval().deployed.eval(), images


def closing_table(run: Run, runs: str | Path = "runs") -> None:
    """Teacher, student alone where such a run is done, and this run: last epoch first, best epoch named as such."""
    recipe = run.recipe
    if not run.finished:
        return
    shown: list[tuple[str, Run]] = [(_role(recipe), run)]
    alone = Run(Path(runs) / recipe.name / f"none-seed{recipe.seed}")
    if recipe.method_names and (alone.path / "recipe.yaml").is_file() and alone.finished:
        comparable = not differences(alone.recipe, without_teacher(recipe))
        if comparable:
            shown.insert(0, (f"student {recipe.student.model} alone", alone))
    if teacher := teacher_run(recipe, runs):
        shown.insert(0, (f"teacher {recipe.teacher.model}", teacher))
    rows = [[role, *_figures(each)] for role, each in shown]
    what = leading(run.metrics()[-1]).replace("top1", "top-1") + " %"
    if run.teacher:
        rows.insert(0, [f"teacher {recipe.teacher.model}", f"{run.teacher[leading(run.metrics()[-1])]:.2f}", "–", "–"])
    table(f"{recipe.name}, seed {recipe.seed}", ["", f"last {what}", f"best {what}", "seconds"], rows)
    if run.teacher:
        console.print(f"teacher {recipe.teacher.model}: {recipe.teacher.weights}")
    for role, each in shown:
        console.print(f"{role}: {each.path}")


def _role(recipe) -> str:
    return f"student {recipe.student.model} by {recipe.method}" if recipe.method_names else recipe.student.model


def _figures(run: Run) -> list[str]:
    scores = [row[leading(row)] for row in run.metrics()]
    return [f"{scores[-1]:.2f}", f"{max(scores):.2f}", f"{sum(row['seconds'] for row in run.timing()):.1f}"]
