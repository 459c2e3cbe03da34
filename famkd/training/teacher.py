"""The run that a teacher comes from, the training of one that does not exist yet, and its figures on the test set."""

from dataclasses import replace
from math import sqrt
from pathlib import Path

from famkd import distributed
from famkd.config.load import differences, load_recipe
from famkd.config.recipe import NOT_PART_OF_RESULT, Recipe
from famkd.console import console
from famkd.distill.types import Dataset
from famkd.errors import UserError
from famkd.run.directory import Run
from famkd.store.data import TaughtData
from famkd.training.build import Training
from famkd.training.places import default_run, recipe_run, run_of, weights_file


def teacher_run(recipe: Recipe, runs: str | Path = "runs") -> Run | None:
    """The run directory of the teacher's weights; None where they do not come from a run."""
    source, _, name = recipe.teacher.weights.partition(":")
    if not recipe.method_names:
        return None
    if source == "recipe":
        run = recipe_run(name, runs)
        return run if run.begun or not recipe.teacher.store else None
    return run_of(weights_file(recipe.teacher, runs)[0]) if recipe.teacher.weights else None


def teacher_to_train(recipe: Recipe, runs: str | Path = "runs") -> Recipe | None:
    """The recipe of a teacher given as `recipe:NAME`; None where a finished run of it exists.

    Errors: UserError where that recipe uses other data, or another run is in its place.
    """
    source, _, name = recipe.teacher.weights.partition(":")
    if not recipe.method_names or source != "recipe" or recipe.teacher.store:
        return None
    placement = {key: getattr(recipe, key) for key in NOT_PART_OF_RESULT if "." not in key}
    own = replace(load_recipe(name, "--data.root", recipe.data.root), **placement)
    if own.data.name != recipe.data.name:
        raise UserError(
            f"The teacher {name} is trained on {own.data.name}, its student on {recipe.data.name}: train one with "
            f"`famkd train {name} --data {recipe.data.name} --name mine/teacher` and pass --teacher.weights "
            "runs/mine/teacher/none-seed0."
        )
    run = default_run(own, runs)
    changed = [name for name in differences(run.recipe, own) if name != "data.root"] if run.begun else []
    if changed:
        raise UserError(
            f"{run.path} is not a run of the recipe {name} ({', '.join(changed[:3])} differ): pass --teacher.weights "
            f"{run.path} to use it nevertheless, or another --runs."
        )
    return None if run.finished else own


def measure_teacher(title: str, run: Run, training: Training, known: bool) -> None:
    """Evaluate the teacher on the student's test set before it teaches, and keep its figures in the run.

    Wrong weights, another order of the classes or wrong preprocessing show here.

    Args:
        known: whether figures that the run holds already are this teacher's.
    """
    data = training.data
    if known and distributed.on_rank_zero(lambda: run.teacher):
        return
    figures = _teacher_figures(training)
    if not figures:
        return
    console.print(f"{title}  teacher {'  '.join(f'{name} {value:.2f}' for name, value in figures.items())}")
    if distributed.rank() == 0:
        run.write_teacher(figures)
    chance = chance_level(data)
    if "top1" in figures and figures["top1"] <= most_by_chance(chance, data.n_test):
        console.print(
            f"{title}  warning: the teacher is no better than chance ({chance:.2f} top1): check that its weights are "
            "for these classes in this order, and how it wants its images (--teacher.mean, --teacher.std, "
            "--teacher.size)"
        )


def _teacher_figures(training: Training) -> dict[str, float]:
    """Test-set figures of the teacher, from its store if it has one; {} where it cannot be measured."""
    distiller, data, teacher = training.distiller, training.data, training.networks.teacher
    if isinstance(data, TaughtData):
        return data.store.header.figures
    if distiller.teacher is None or teacher is None or teacher.new_head or not distiller.task.measures_teacher:
        return {}
    return distiller.task.evaluate(distiller.teacher.model, data.test()).figures


def chance_level(data: Dataset) -> float:
    """Percent of images that are right if the most frequent class of the training set is always named."""
    if data.labels is None or not len(data.labels):
        return 100 / len(data.classes)
    return 100 * float(data.labels.bincount().max() / len(data.labels))


def most_by_chance(chance: float, images: int) -> float:
    """What a network without any knowledge exceeds on a few images once in forty times."""
    share = chance / 100
    return chance + 200 * sqrt(share * (1 - share) / max(images, 1))
