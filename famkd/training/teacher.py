"""The run that a teacher comes from, and the training of a teacher that does not exist yet."""

from dataclasses import replace
from pathlib import Path

from famkd.config.load import differences, load_recipe
from famkd.config.recipe import NOT_PART_OF_RESULT, Recipe
from famkd.errors import UserError
from famkd.run.directory import Run
from famkd.training.build import default_run, recipe_run


def teacher_run(recipe: Recipe, runs: str | Path = "runs") -> Run | None:
    """The run directory of the teacher's weights; None where they do not come from a run."""
    source, _, name = recipe.teacher.weights.partition(":")
    if not recipe.method_names:
        return None
    if source == "recipe":
        run = recipe_run(name, runs)
        return run if run.begun or not recipe.teacher.store else None
    path = Path(recipe.teacher.weights)
    folder = path.parent if path.name in ("student.safetensors", "best.safetensors", "ema.safetensors") else path
    return Run(folder) if recipe.teacher.weights and (folder / "metrics.jsonl").is_file() else None


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
    if run.begun and (changed := differences(run.recipe, own)):
        raise UserError(
            f"{run.path} is not a run of the recipe {name} ({', '.join(changed[:3])} differ): pass --teacher.weights "
            f"{run.path} to use it nevertheless, or another --runs."
        )
    return None if run.finished else own
