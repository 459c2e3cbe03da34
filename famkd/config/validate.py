"""Checks of a recipe that need no data and no device. What is refused here costs no training time."""

from dataclasses import replace

from famkd.config.optimizers import check_optim
from famkd.config.ranges import check_ranges
from famkd.config.recipe import Net, Recipe, Teacher
from famkd.data import task_of_data
from famkd.data.split import read_split
from famkd.distill.types import Engine
from famkd.errors import UserError
from famkd.methods import METHODS
from famkd.models import must_be_known
from famkd.store.header import read_header
from famkd.tasks import TASKS, task_of_model

LIBRARIES = ("timm:", "torchvision:")  # prefixes of models that have pretrained weights


def validated(recipe: Recipe) -> Recipe:
    """The recipe, once every check has passed; without a method, its teacher is dropped."""
    if recipe.teacher.store and recipe.method_names:
        recipe = _with_stored_teacher(recipe)
    for check in (
        _numbers_in_range, _networks_known, _networks_fit_task, _data_fit_task, _methods_fit_task, _split_fits,
    ):  # fmt: skip
        check(recipe)
    check_optim(recipe.optim)
    recipe = replace(recipe, engine=_engine(recipe))
    if not recipe.method_names:
        return replace(recipe, teacher=Teacher())
    _teacher_has_weights(recipe)
    return recipe


def _with_stored_teacher(recipe: Recipe) -> Recipe:
    """The recipe with the teacher and the augmentations of its store; UserError where it names others."""
    store, given, data = recipe.teacher.store, recipe.teacher, recipe.data
    header = read_header(store)
    if not TASKS[recipe.task].returns_logits:
        raise UserError(f"A teacher of {recipe.task} cannot be stored: leave --teacher.store out.")
    if given.model not in ("", header.model):
        raise UserError(f"{store} is of the teacher {header.model}, not of {given.model}: store that one.")
    if given.taps and list(given.taps) != header.named_taps:
        raise UserError(f"{store} is of other taps of the teacher: leave --teacher.taps out, or store these.")
    for name, wanted in (("views", header.views), ("views_seed", header.views_seed)):
        if getattr(data, name) not in (0, wanted):
            raise UserError(f"{store} is of --data.{name} {wanted}, not {getattr(data, name)}: leave it out.")
    teacher = replace(given, model=header.model, weights=given.weights or header.weights, taps=tuple(header.named_taps))
    return replace(recipe, teacher=teacher, data=replace(data, views=header.views, views_seed=header.views_seed))


def _numbers_in_range(recipe: Recipe) -> None:
    check_ranges(recipe)


def _networks(recipe: Recipe) -> list[Net]:
    return [recipe.student, recipe.teacher] if recipe.method_names else [recipe.student]


def _networks_known(recipe: Recipe) -> None:
    if not recipe.student.model:
        raise UserError("No student is named: pass --student.model, or a recipe that has one.")
    for net in _networks(recipe):
        if net.model and TASKS[task_of_model(net.model)].models is None:
            must_be_known(net.model)


def _networks_fit_task(recipe: Recipe) -> None:
    """UserError for a network of another task."""
    for net in _networks(recipe):
        own = task_of_model(net.model)
        if not net.model or own == recipe.task:
            continue
        known = TASKS[recipe.task].models
        cure = f"pass --task {own}" if known is None else f"{recipe.task} takes {', '.join(known)}"
        raise UserError(f"{net.model} is a network for {own}, not for {recipe.task}: {cure}.")


def _data_fit_task(recipe: Recipe) -> None:
    own = task_of_data(recipe.data.name)
    if own != recipe.task:
        raise UserError(
            f"The data set {recipe.data.name} is for {own}, not for {recipe.task}: pass --task {own} and networks for "
            "it, or another --data."
        )


def _methods_fit_task(recipe: Recipe) -> None:
    for name in recipe.method_names:
        reason = TASKS[recipe.task].refuses(METHODS[name])
        if reason:
            raise UserError(f"{name} {reason}.")


def _split_fits(recipe: Recipe) -> None:
    if recipe.data.val:
        read_split(recipe.data.val)
    elif recipe.optim.patience:
        raise UserError(
            f"--patience {recipe.optim.patience} looks at held-out images: pass --data.val too, such as 0.1."
        )


def _engine(recipe: Recipe) -> Engine:
    """The recipe's engine, or the only one that the task can run on; UserError where they contradict each other."""
    only = TASKS[recipe.task].engine
    if only == "auto":
        return recipe.engine
    if recipe.engine not in ("auto", only):
        raise UserError(
            f"{recipe.task} cannot run on --engine {recipe.engine}, because its images differ in size: leave it out."
        )
    return only


def _teacher_has_weights(recipe: Recipe) -> None:
    if not recipe.teacher.model:
        raise UserError(f"The method {recipe.method} needs a teacher: pass --teacher.model and --teacher.weights.")
    if not recipe.teacher.weights:
        pretrained = "pretrained, " if recipe.teacher.model.startswith(LIBRARIES) else ""
        raise UserError(
            f"The teacher has no weights: pass --teacher.weights with {pretrained}a file, a run or recipe:NAME."
        )
