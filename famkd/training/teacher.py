"""The teacher before a training: which run it comes from, and whether that is the one that is meant."""

from dataclasses import replace
from pathlib import Path

from famkd.config.load import NOT_PART_OF_RESULT, Recipe, differences, load_recipe
from famkd.errors import UserError
from famkd.run.directory import Run
from famkd.training.build import default_run, recipe_run


def teacher_run(recipe: Recipe, runs: str | Path = "runs") -> Run | None:
    """The run directory that the teacher's weights come from; None where they are of no run."""
    source, _, name = recipe.teacher.weights.partition(":")
    if not recipe.method_names:
        return None
    if source == "recipe":
        return recipe_run(name, runs)
    path = Path(recipe.teacher.weights)
    folder = path.parent if path.name in ("student.safetensors", "best.safetensors") else path
    return Run(folder) if recipe.teacher.weights and (folder / "metrics.jsonl").is_file() else None


def teacher_to_train(recipe: Recipe, runs: str | Path = "runs") -> Recipe | None:
    """What `recipe:NAME` as the teacher's weights asks to be trained first; None where a finished run of it is there.

    Errors: UserError where that recipe is of other data, or another run stands in its place.
    """
    source, _, name = recipe.teacher.weights.partition(":")
    if not recipe.method_names or source != "recipe":
        return None
    place = {key: getattr(recipe, key) for key in NOT_PART_OF_RESULT if "." not in key}
    own = replace(load_recipe(name, "--data.root", recipe.data.root), **place)
    if own.data.name != recipe.data.name:
        raise UserError(
            f"The teacher {name} learns {own.data.name}, its student {recipe.data.name}: `famkd train {name} --data "
            f"{recipe.data.name} --name mine/teacher` trains one, for --teacher.weights runs/mine/teacher/none-seed0."
        )
    run = default_run(own, runs)
    if run.begun and (changed := differences(run.recipe, own)):
        raise UserError(
            f"{run.path} is not what the recipe {name} trains ({', '.join(changed[:3])} differ): pass "
            f"--teacher.weights {run.path} to be taught by it all the same, or another --runs."
        )
    return None if run.finished else own
