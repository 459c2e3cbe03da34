"""The networks of a run after its last epoch, and the images that it was tested on."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from famkd.config.recipe import Recipe
from famkd.distill.distiller import Distiller, freeze
from famkd.errors import UserError
from famkd.run.directory import Run
from famkd.tasks import TASKS
from famkd.training import places
from famkd.training.build import build_recipe_data, load_trained
from famkd.training.places import recipe_run
from famviz.load import LoadedRun, Source


class Pictures(NamedTuple):
    """Test images of a run's data set: as the networks see them and as people do."""

    images: Tensor  # (B, 3, H, W) normalised floats
    labels: Tensor  # (B,) class indices
    pixels: np.ndarray  # (B, H, W, 3) uint8
    classes: list[str]


class MovedRun(Run):
    """A run whose teacher lies elsewhere now."""

    def __init__(self, path: str | Path, teacher: str):
        super().__init__(path)
        self.teacher_weights = teacher

    @property
    def recipe(self) -> Recipe:
        recipe = super().recipe
        if not recipe.teacher.weights:
            return recipe
        return replace(recipe, teacher=replace(recipe.teacher, weights=self.teacher_weights))


def run_of(source: Source) -> Run:
    """The run of a source; UserError for a bare checkpoint."""
    if isinstance(source, LoadedRun):
        if source.run is None:
            raise UserError(f"{source.name} is a bare checkpoint without its networks and data: pass a run directory.")
        source = source.run
    return source if isinstance(source, Run) else Run.open(source)


def classification_run(source: Source) -> Run:
    """A run of classification; UserError for other tasks, whose images have no common size and no single class."""
    run = run_of(source)
    if not TASKS[run.recipe.task].returns_logits:
        raise UserError(
            f"{run.path} is a run of {run.recipe.task}, and this is for classification: famviz.boxes shows maps of "
            "detectors, famviz.features.differences_figure their spectra."
        )
    return run


def networks(source: Source, root: str = "") -> dict[str, nn.Module]:
    """Networks of a run, frozen and in eval mode: `teacher`, `student alone` if there is such a run, `student`.

    Args:
        root: where the data is, if it was moved since the training.

    Errors: UserError if the data or the weights of the teacher are missing.
    """
    run = run_of(source)
    distiller = trained_distiller(run, root)
    found: dict[str, nn.Module] = {}
    if distiller.teacher:
        found["teacher"] = distiller.teacher.remove()
    alone = student_alone(run)
    if alone:
        found["student alone"] = trained_distiller(alone, root).student.remove()
    distiller.student.remove()
    found["student"] = distiller.deployed
    return found


def networks_of_runs(sources: Source | Sequence[Source], root: str = "") -> dict[str, nn.Module]:
    """Networks of several runs with one teacher: `teacher`, `student alone`, and `student by METHOD` for each run."""
    teacher: dict[str, nn.Module] = {}
    students: dict[str, nn.Module] = {}
    for name, run in students_of_runs(sources).items():
        distiller = trained_distiller(run, root)
        if distiller.teacher and not teacher:
            teacher["teacher"] = distiller.teacher.remove()
        distiller.student.remove()
        students[name] = distiller.deployed
    return {**teacher, **students}


def students_of_runs(sources: Source | Sequence[Source]) -> dict[str, Run]:
    """The run of each student by the name that it has in `networks_of_runs`."""
    if isinstance(sources, Source):
        sources = [sources]
    found: dict[str, Run] = {}
    seen: set[Path] = set()  # so that the run of the student alone is not listed again under its own name
    for run in [classification_run(each) for each in sources]:
        alone = None if "student alone" in found else student_alone(run)
        if alone:
            seen.add(alone.path.resolve())
            found["student alone"] = alone
        if run.path.resolve() in seen:
            continue
        seen.add(run.path.resolve())
        method, folder = run.recipe.method, run.path.name
        name = f"student by {method}" if run.recipe.method_names else "student alone"
        if name in found:
            name = f"student by {folder}" if folder.startswith(f"{method}-") else f"{name}, {folder}"
        found[name] = run
    return found


def trained_distiller(source: Source, root: str = "") -> Distiller:
    """A run's student, teacher and methods together, on the CPU, frozen, in eval mode.

    The state of torch's random number generator does not change.
    """
    run = run_of(source)
    recipe = with_data(run, root)
    weights = recipe.teacher.weights
    if weights.startswith("recipe:"):
        name = str(recipe_run(weights.removeprefix("recipe:"), "").path)
        weights = located(name, run)
        if not Path(weights).exists():
            raise UserError(
                f"The teacher of {run.path} is the run {name}, which is neither in the working directory nor in a "
                "folder above that run: copy it there, or name it by --teacher of famviz report."
            )
    teacher = replace(recipe.teacher, weights=located(weights, run))
    with torch.random.fork_rng([]):
        distiller, _ = load_trained(run, recipe=replace(recipe, teacher=teacher))
    return freeze(distiller)


def run_images(source: Source, only: int | Sequence[int] = 200, root: str = "") -> Pictures:
    """Test images of a run's data set: the first `only`, or those at the positions `only`."""
    run = classification_run(source)
    data = build_recipe_data(with_data(run, root))
    positions = range(min(only, data.n_test)) if isinstance(only, int) else only
    shown = data.pictures(positions)
    if shown.labels.ndim != 1:
        raise UserError(f"The images of {run.path} have no single class: famviz shows images of classes only.")
    return Pictures(shown.images, shown.labels, shown.pixels.numpy(), data.classes)


def with_data(run: Run, root: str = "") -> Recipe:
    """The recipe of a run with the place where its data is now: `root`, or else where `located` finds it."""
    recipe = run.recipe
    return replace(recipe, data=replace(recipe.data, root=root or located(recipe.data.root, run)))


def student_alone(run: Run) -> Run | None:
    """The finished run in the same folder that trained the same student by the same protocol without a teacher."""
    return places.student_alone(run.recipe, run.path.parent)


def located(path: str, run: Run) -> str:
    """A path of a recipe, in the working directory or in a folder above the run, so that a run may be moved."""
    if not path:
        return path
    for folder in (Path(), *run.path.resolve().parents):
        if (folder / path).exists():
            return str(folder / path)
    return path
