"""What a run came to: evaluation of its student, and the table that closes a training."""

from pathlib import Path

import torch

from famkd.build import one_device, open_distiller, weights_file
from famkd.data import build_data
from famkd.errors import UserError
from famkd.method import Method
from famkd.methods import METHODS
from famkd.models import build_model, load_weights
from famkd.progress import console, table
from famkd.recipe import Recipe, differences, without_teacher
from famkd.run import Run
from famkd.tasks import Classification


def evaluate(
    run: str = "", model: str = "", weights: str = "", data: str = "", root: str = "", best: bool = False,
    batch_size: int = 500, accelerator: str = "auto",
) -> dict[str, float]:  # fmt: skip
    """Test-set figures of a run's student, or of a bare checkpoint of `model`."""
    if bool(run) == bool(model):
        raise UserError("Name either a run directory, or --model with --weights and --data.")
    if run:
        recipe = Run.open(run).recipe
        model, data, root = recipe.student.model, data or recipe.data.name, root or recipe.data.root
        weights = str(Path(run) / ("best.safetensors" if best else "student.safetensors"))
    if not weights:
        raise UserError("A bare model needs --weights: a checkpoint file.")
    device = one_device(accelerator).device
    images = build_data(data or "cifar100", root or "data", 1, device=device, augment=False)
    if run and _dressed(recipe):
        if best:
            raise UserError(
                f"{recipe.method} measures more than the student, kept of the last epoch: leave --best out."
            )
        network = open_distiller(Run(run), device)[0].deployed
    else:
        network = build_model(model, len(images.classes))
        load_weights(network, weights)
    network = network.to(device, memory_format=torch.channels_last).eval()
    return Classification().evaluate(network, images.test(batch_size))


def _dressed(recipe: Recipe) -> bool:
    """Whether a method puts another network in the student's place, as SimKD does with the teacher's head."""
    return any(METHODS[name].dress is not Method.dress for name in recipe.method_names)


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
    teacher = weights_file(recipe.teacher, runs).parent if recipe.method_names else Path()
    if (teacher / "metrics.jsonl").is_file():
        shown.insert(0, (f"teacher {recipe.teacher.model}", Run(teacher)))
    rows = [[role, *_figures(each)] for role, each in shown]
    table(f"{recipe.name}, seed {recipe.seed}", ["", "last top-1 %", "best top-1 %", "seconds"], rows)
    for role, each in shown:
        console.print(f"{role}: {each.path}")


def _role(recipe) -> str:
    return f"student {recipe.student.model} by {recipe.method}" if recipe.method_names else recipe.student.model


def _figures(run: Run) -> list[str]:
    scores = [row["top1"] for row in run.metrics()]
    return [f"{scores[-1]:.2f}", f"{max(scores):.2f}", f"{sum(row['seconds'] for row in run.timing()):.1f}"]
