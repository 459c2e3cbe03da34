"""What a recipe must be before anything is built from it: numbers in their ranges, options that mean something."""

import math
from dataclasses import fields, replace

from famkd.config.load import Net, Recipe
from famkd.config.recipe import Data
from famkd.data import DATA
from famkd.errors import UserError, nearest
from famkd.methods import METHODS
from famkd.models import DETECTORS, must_be_known

FOREIGN = ("timm:", "torchvision:")
MOST_SEED = (1 << 32) - 1  # of numpy's generator
LEAST = {
    "data.batch_size": 1, "data.size": 0, "optim.epochs": 1, "optim.lr": 0, "optim.gamma": 0, "optim.lr_warmup": 0,
    "optim.warmup_steps": 0, "optim.accumulate": 1, "seed": 0, "devices": 1, "nodes": 1,
}  # fmt: skip
OF_EVERY_DATA = {"name", "root", "batch_size", "augment"}
OF_DATA = {"imagenet": {"size", "splits", "workers", "gpu_decode"}, "coco": {"sides", "longest", "workers"}}


def validated(recipe: Recipe) -> Recipe:
    """The recipe, once it can mean something: a student, and a teacher with weights where a method needs one."""
    _must_be_in_range(recipe)
    if not recipe.student.model:
        raise UserError("No student is named: pass --student.model, or a recipe that has one.")
    if recipe.data.name not in DATA:
        raise UserError(
            f"There is no data set {recipe.data.name!r}.{nearest(recipe.data.name, DATA)} See `famkd ls data`."
        )
    for net in (recipe.student, recipe.teacher):
        must_be_known(net.model or recipe.student.model)
    recipe = fit_to_task(recipe)
    _must_use_its_options(recipe.data)
    if not recipe.method_names:
        return replace(recipe, teacher=Net())
    if not recipe.teacher.model:
        raise UserError(f"The method {recipe.method} needs a teacher: pass --teacher.model and --teacher.weights.")
    if not recipe.teacher.weights:
        foreign = "pretrained, " if recipe.teacher.model.startswith(FOREIGN) else ""
        raise UserError(
            f"The teacher has no weights: pass --teacher.weights with {foreign}a file, a run or recipe:NAME."
        )
    return recipe


def _must_be_in_range(recipe: Recipe) -> None:
    least = dict.fromkeys((f"{n}.{key}" for n in recipe.method_names for key in ("weight", "task_weight", "warmup")), 0)
    for flag, low in (LEAST | least).items():
        value = recipe
        for part in flag.split("."):
            value = getattr(value, part)
        if not low <= value < math.inf:  # NaN neither
            raise UserError(f"--{flag} is {value}: pass {low} or more.")
    if recipe.seed > MOST_SEED:
        raise UserError(f"--seed is {recipe.seed}: pass {MOST_SEED} or less.")
    if min(recipe.optim.steps, default=1) < 1:
        raise UserError(f"--optim.steps is {' '.join(map(str, recipe.optim.steps))}: epochs count from 1.")


def _must_use_its_options(data: Data) -> None:
    """No option is taken and then not looked at."""
    known = OF_EVERY_DATA | OF_DATA.get(data.name, set())
    for each in fields(Data):
        if each.name not in known and getattr(data, each.name) != each.default:
            of = " and ".join(name for name, options in OF_DATA.items() if each.name in options)
            raise UserError(f"--data.{each.name} is for {of} and means nothing to {data.name}: leave it out.")


def fit_to_task(recipe: Recipe) -> Recipe:
    """The recipe, once networks, data, methods and engine are its task's; images of many sizes run eager."""
    detects = recipe.task == "detection"
    for net in (recipe.student, recipe.teacher) if recipe.method_names else (recipe.student,):
        if detects and net.model not in DETECTORS:
            known = ", ".join(DETECTORS)
            raise UserError(f"{net.model or 'No model'} finds no objects in images: detection takes {known}.")
        if not detects and net.model in DETECTORS:
            raise UserError(f"{net.model} finds objects in images: pass --task detection, and --data coco.")
    if detects != (recipe.data.name == "coco"):
        other = "pass --data coco" if detects else "pass --task detection, and detectors as networks"
        raise UserError(f"The data set {recipe.data.name} does not fit the task {recipe.task}: {other}.")
    if not detects:
        return recipe
    for name in recipe.method_names:
        if not METHODS[name].wants.startswith(("stages", "preact")):
            raise UserError(
                f"{name} compares what one image shows as a whole: "
                "detection takes methods of stages: fam, fam_review, reviewkd, mimic, at and others."
            )
    if recipe.engine not in ("auto", "eager"):
        raise UserError(f"Images of detection differ in size, so it runs eager: leave --engine {recipe.engine} out.")
    return replace(recipe, engine="eager")
