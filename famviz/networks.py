"""The networks of a run, as they were after its last epoch, and the images that it was tested on."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from famkd.config.load import differences, without_teacher
from famkd.distill.distiller import Distiller, freeze
from famkd.errors import UserError
from famkd.run.directory import Run
from famkd.training.build import build_recipe_data, load_trained, recipe_run

Source = Run | str | Path


class Pictures(NamedTuple):
    """Test images of a run's data set: normalised as the networks want them, and as bytes to look at."""

    images: Tensor  # (B, 3, H, W)
    labels: Tensor  # (B,)
    pixels: np.ndarray  # (B, H, W, 3) uint8
    classes: list[str]


def opened(source: Source) -> Run:
    """A run of classification; UserError for another, whose images have no size and no class in common."""
    run = source if isinstance(source, Run) else Run.open(source)
    if run.recipe.task != "classification":
        raise UserError(f"Activation maps and stage spectra are for classification, not {run.recipe.task}.")
    return run


def networks(source: Source, root: str = "") -> dict[str, nn.Module]:
    """Networks of a run, frozen and in eval mode: `teacher`, `student alone` where such a run is done, `student`.

    `root` says where the data lies, if no longer where it lay in training. Errors: UserError where data or the
    teacher's weights are gone.
    """
    run = opened(source)
    distiller = trained_distiller(run, root)
    found = {"teacher": distiller.teacher.remove()} if distiller.teacher else {}
    if alone := student_alone(run):
        found["student alone"] = trained_distiller(alone, root).student.remove()
    distiller.student.remove()
    return found | {"student": distiller.deployed}


def networks_of_runs(sources: Source | Sequence[Source], root: str = "") -> dict[str, nn.Module]:
    """Networks of several runs of one teacher: `teacher`, `student alone`, and `student by METHOD` for each run."""
    runs = [opened(each) for each in ([sources] if isinstance(sources, Source) else sources)]
    found: dict[str, nn.Module] = {}
    there: set[Path] = set()  # a run taught by nobody is the student alone of the runs beside it
    for run in runs:
        if "student alone" not in found and (alone := student_alone(run)):
            there.add(alone.path.resolve())
        if run.path.resolve() in there:
            continue
        there.add(run.path.resolve())
        nets = networks(run, root)
        name = f"student by {run.recipe.method}" if run.recipe.method_names else "student alone"
        nets[f"{name}, {run.path.name}" if name in found else name] = nets.pop("student")
        found |= {who: net for who, net in nets.items() if who not in found}
    return found


def trained_distiller(source: Source, root: str = "") -> Distiller:
    """A run's student, teacher and methods together, on the CPU, frozen, in eval mode; torch's RNG stays as it was."""
    run = opened(source)
    recipe = run.recipe
    data = replace(recipe.data, root=root or located(recipe.data.root, run))
    weights = recipe.teacher.weights
    if weights.startswith("recipe:"):
        weights = str(recipe_run(weights.removeprefix("recipe:"), "").path)
    teacher = replace(recipe.teacher, weights=located(weights, run))
    with torch.random.fork_rng([]):
        distiller, _ = load_trained(run, recipe=replace(recipe, data=data, teacher=teacher))
    return freeze(distiller)


def run_images(source: Source, only: int | Sequence[int] = 200, root: str = "") -> Pictures:
    """Test images of a run's data set: the first `only`, or those at the positions `only`."""
    run = opened(source)
    place = root or located(run.recipe.data.root, run)
    data = build_recipe_data(replace(run.recipe, data=replace(run.recipe.data, root=place)))
    shown = data.pictures(range(min(only, data.n_test)) if isinstance(only, int) else only)
    return Pictures(shown.images, shown.labels, shown.pixels.numpy(), data.classes)


def student_alone(run: Run) -> Run | None:
    """The finished run beside this one that trained the same student under the same protocol, taught by nobody."""
    recipe = run.recipe
    alone = Run(run.path.parent / f"none-seed{recipe.seed}")
    if not recipe.method_names or not (alone.path / "recipe.yaml").is_file() or not alone.finished:
        return None
    return None if differences(alone.recipe, without_teacher(recipe)) else alone


def located(path: str, run: Run) -> str:
    """A path of a recipe, looked for here and then in the folders that hold the run, so that a run may be moved."""
    folders = [Path(), *run.path.resolve().parents]
    return next((str(folder / path) for folder in folders if path and (folder / path).exists()), path)


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Whatever happens inside, each module is in its own mode, in place or not, as before, afterwards."""
    kept = [(module, module.training, getattr(module, "inplace", None)) for module in model.modules()]
    try:
        yield
    finally:
        for module, training, inplace in kept:
            module.training = training
            if inplace is not None:
                module.inplace = inplace


def logits_of(out) -> Tensor:
    """The (B, classes) logits in what a network put out: it, or the first of several things."""
    return out[0] if isinstance(out, tuple | list) else out
