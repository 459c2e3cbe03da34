"""Checks of a recipe that need no data and no device. What is refused here costs no training time."""

from dataclasses import replace

from famkd.config.optimizers import check_optim
from famkd.config.recipe import Net, Recipe, Teacher
from famkd.data import tasks_of_data
from famkd.data.augment import NOTHING, without_effect
from famkd.data.split import read_split
from famkd.distill.types import Engine
from famkd.errors import UserError
from famkd.methods import METHODS
from famkd.models import must_be_known
from famkd.ranges import check_ranges
from famkd.store.header import read_header
from famkd.tasks import TASKS, task_of_model

LIBRARIES = ("timm:", "torchvision:", "hf-hub:")  # prefixes of models that have pretrained weights


def validated(recipe: Recipe) -> Recipe:
    """The recipe, once every check has passed; without a method, its teacher is dropped."""
    if recipe.teacher.store and recipe.method_names:
        recipe = _with_stored_teacher(recipe)
    for check in (
        check_ranges, _networks_known, _networks_fit_task, _data_fit_task, _methods_fit_task, _split_fits,
        _steps_can_be_cut, _something_is_learned, _augmentation_fits, _teacher_is_not_trained, _precision_fits,
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
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in header.settings.items()}
    for name, wanted in settings.items():
        if getattr(given, name) not in (getattr(Teacher(), name), wanted):
            raise UserError(f"{store} is of another --teacher.{name}: leave it out, or store the teacher with it.")
    for name, wanted in (("views", header.views), ("views_seed", header.views_seed)):
        if getattr(data, name) not in (0, wanted):
            raise UserError(f"{store} is of --data.{name} {wanted}, not {getattr(data, name)}: leave it out.")
    teacher = replace(given, model=header.model, weights=given.weights or header.weights, **settings)
    return replace(recipe, teacher=teacher, data=replace(data, views=header.views, views_seed=header.views_seed))


def _precision_fits(recipe: Recipe) -> None:
    if recipe.precision == "16-mixed" and recipe.engine == "graph":
        raise UserError("A CUDA graph cannot capture the gradient scaler of 16-mixed: use --engine compile or eager.")


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
        own, known = task_of_model(net.model), TASKS[recipe.task].models
        if not net.model or own == recipe.task or TASKS[own].models is known is None:
            continue
        cure = f"pass --task {own}" if known is None else f"{recipe.task} takes {', '.join(known)}"
        raise UserError(f"{net.model} is a network for {own}, not for {recipe.task}: {cure}.")


def _data_fit_task(recipe: Recipe) -> None:
    own = tasks_of_data(recipe.data.name)
    if recipe.task not in own:
        tasks = " or ".join(own)
        raise UserError(
            f"The data set {recipe.data.name} is for {tasks}, not for {recipe.task}: pass --task {own[0]} and networks "
            "for it, or another --data."
        )


def _methods_fit_task(recipe: Recipe) -> None:
    task = TASKS[recipe.task]
    for name in recipe.method_names:
        reason = task.refuses(METHODS[name])
        if reason:
            raise UserError(f"{name} {reason}.")
        weight = recipe.section(name).task_weight
        if task.judged_by_teacher and weight:
            raise UserError(f"Without labels the student has no loss of its own: pass --{name}.task_weight 0.")
    if task.judged_by_teacher and (recipe.baseline or not recipe.method_names):
        what = "leave --baseline out" if recipe.baseline else "pass --method and --teacher.model"
        raise UserError(f"Without labels nothing is learned without a teacher: {what}.")


def _split_fits(recipe: Recipe) -> None:
    if recipe.data.val:
        read_split(recipe.data.val)
    elif recipe.optim.patience:
        raise UserError(
            f"--patience {recipe.optim.patience} looks at held-out images: pass --data.val too, such as 0.1."
        )


def _steps_can_be_cut(recipe: Recipe) -> None:
    """UserError where parts of a step would be compared within themselves only."""
    parts = recipe.optim.accumulate
    for name in recipe.method_names:
        if parts > 1 and METHODS[name].relates_images:
            raise UserError(
                f"{name} compares the images of a step with one another, so a step cannot be cut into "
                f"--optim.accumulate {parts} parts: leave it out, or choose a method that looks at each image alone."
            )


def _something_is_learned(recipe: Recipe) -> None:
    """UserError where no loss has a weight."""
    sections = [recipe.section(name) for name in recipe.method_names]
    if sections and not any(section.weight or section.task_weight for section in sections):
        raise UserError(f"{recipe.method} and the task have weight 0, so nothing is learned: raise one of them.")


def _augmentation_fits(recipe: Recipe) -> None:
    """UserError for augmentation or label smoothing that the task or a method cannot learn from, or without effect."""
    augment, task = recipe.augment, TASKS[recipe.task]
    why = without_effect(augment)
    if why:
        raise UserError(f"{why}.")
    if augment != NOTHING and not task.returns_logits:
        raise UserError(f"--augment is for classification, not for {recipe.task}: leave it out.")
    if augment != NOTHING and not recipe.data.augment:
        raise UserError("--data.no_augment contradicts --augment: leave one of them out.")
    repeated = augment.mixes or (augment.erase and augment.erase_with == "noise")
    if recipe.data.views and repeated:
        what = "--augment.mixup and --augment.cutmix" if augment.mixes else "--augment.erase_with noise"
        raise UserError(f"{what} cannot be repeated in every epoch, as --data.views and stores do: leave it out.")
    if recipe.label_smoothing and not hasattr(task, "smoothed"):
        raise UserError(f"--label_smoothing is for classification, not for {recipe.task}: leave it out.")
    if recipe.regression_loss != Recipe().regression_loss and not hasattr(task, "with_loss"):
        raise UserError(f"--regression_loss is for regression, not for {recipe.task}: leave it out.")
    for name in recipe.method_names:
        if augment.mixes and not METHODS[name].takes_mixed:
            raise UserError(
                f"{name} cannot learn from images that are mixed of two: leave --augment.mixup and --augment.cutmix "
                "out, or choose another method."
            )


def _teacher_is_not_trained(recipe: Recipe) -> None:
    for option in ("drop", "drop_path"):
        if getattr(recipe.teacher, option):
            raise UserError(f"--teacher.{option} has no effect, because a teacher is not trained: leave it out.")


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
