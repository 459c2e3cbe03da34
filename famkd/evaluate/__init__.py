"""Evaluation of a run or a checkpoint."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_type_hints

import torch
from annotated_types import Ge
from torch import nn

from famkd.config.load import with_data
from famkd.config.recipe import Net, Recipe
from famkd.data import build_data
from famkd.distill.types import Dataset, Method
from famkd.errors import UserError
from famkd.evaluate.answers import Answers, Recorder
from famkd.evaluate.closing import closing_table as closing_table
from famkd.evaluate.noise import Noise
from famkd.evaluate.show import Evaluation
from famkd.evaluate.teacher import teacher_of
from famkd.methods import METHODS
from famkd.models import load_weights
from famkd.ranges import check_values
from famkd.run.directory import Run
from famkd.run.kept import file_name, kept_epochs
from famkd.run.scores import result
from famkd.tasks import TASKS, task_of_model
from famkd.training.build import build_distiller, build_recipe_data, one_device
from famkd.training.judged import judged
from famkd.training.networks import load_network, student_of

Split = Literal["test", "val"]


def evaluate_run(
    path: str | Path,
    data: str = "",
    root: str = "",
    *,
    best: bool = False,
    ema: bool = False,
    epoch: int = 0,
    split: Split = "test",
    batch_size: int = 0,
    accelerator: str = "auto",
    agreement: bool = False,
    teacher_weights: str = "",
) -> Evaluation:
    """Figures of a run's student on the test set, or on its held-out images.

    Args:
        data, root: another data set, or another place of the same one.
        best: weights of the best epoch instead of the last.
        ema: the averaged student (EMA) of the last epoch.
        epoch: weights of one of the best epochs, of a run that was trained with --keep.
        split: "val" for the images that the run held out of training.
        agreement: show the same images to the run's teacher too.
        teacher_weights: where the teacher's weights are, if they have moved.
    """
    run = Run.open(path)
    if split == "val" and not run.recipe.data.val:
        raise UserError(f"{run.path} was trained without held-out images: leave --split out.")
    if split == "val" and data not in ("", run.recipe.data.name):
        raise UserError(f"{run.path} held images of {run.recipe.data.name} out: leave --data out, or --split.")
    device = one_device(accelerator).device
    network, images = load_deployed(run, device, data=data, root=root, best=best, ema=ema, epoch=epoch)
    task = TASKS[run.recipe.task]
    if agreement and not (task.has_single_class or task.judged_by_teacher):
        raise UserError(f"Agreement is of classes, and {run.recipe.task} has none: leave --agreement out.")
    teacher = teacher_of(run, images, teacher_weights) if agreement or task.judged_by_teacher else None
    images = judged(task, images, teacher)
    names = _class_names(run, images)
    return _evaluate(network, images, run.recipe.task, batch_size, split, names=names, teacher=teacher)


def evaluate_checkpoint(
    model: str,
    weights: str,
    data: str = "",
    root: str = "",
    *,
    task: str = "",
    output: str = "",
    batch_size: int = 0,
    accelerator: str = "auto",
    **images: Any,
) -> Evaluation:
    """Test-set figures of a bare checkpoint of `model`.

    Args:
        weights: a checkpoint file, a run directory, `recipe:NAME` or `pretrained`.
        data, root: the data set; by default the usual one of the task, in the folder `data`.
        task: what the model does with an image; by default what it is for.
        output: where the logits are in what the model returns, such as `logits` or `1`.
        images: mean, std, size and interpolation, as in the section `teacher` of a recipe.
    """
    if not weights:
        raise UserError("A model needs --weights: a checkpoint file, a run, recipe:NAME or pretrained.")
    task = task or task_of_model(model)
    if task not in TASKS or TASKS[task].judged_by_teacher:
        known = [name for name, each in TASKS.items() if not each.judged_by_teacher]
        raise UserError(f"--task {task} has no figures of a checkpoint alone: pass {', '.join(known)}.")
    device = one_device(accelerator).device
    chosen = build_data(data or TASKS[task].usual_data, root or "data", 1, device=device, augment=False, task=task)
    network = load_network(Net(model, weights, output=output, **images), chosen, task).model.eval()
    return _evaluate(network, chosen, task, batch_size)


def _evaluate(
    network: nn.Module,
    images: Dataset,
    task: str,
    batch_size: Annotated[int, Ge(0)],
    split: Split = "test",
    *,
    names: list[str] | None = None,
    teacher: nn.Module | None = None,
) -> Evaluation:
    given = {"batch_size": batch_size, "split": split}
    check_values(given, get_type_hints(_evaluate, include_extras=True))
    batches = images.val(batch_size) if split == "val" else images.test(batch_size)
    names = names or images.classes
    known = TASKS[task]
    if not known.returns_logits:
        figures, by_class = known.evaluate(network, batches)
        return Evaluation(figures, dict(zip(names, by_class, strict=True)) if by_class else {})
    recorder = Recorder(network, teacher if known.has_single_class else None)
    figures, by_label = known.evaluate(network, recorder.watch(batches))
    answers = _with_files(recorder.answers(names), images, split)
    if known.has_single_class:
        return Evaluation(figures, dict(zip(names, answers.accuracy_by_class())), answers)
    numbers = None if known.judged_by_teacher else replace(answers, logits=known.predicted(answers.logits))
    return Evaluation(figures, dict(zip(names, by_label or ())), numbers=numbers)


def _with_files(answers: Answers, images: Dataset, split: Split) -> Answers:
    """Answers with the file of each image, where the data set knows it."""
    file = getattr(images, "file", None)
    files = [file(index, split) for index in answers.index.tolist()] if file else []
    return replace(answers, files=files if all(files) else ())


def _class_names(run: Run, images: Dataset) -> list[str]:
    """The names of the classes that a run was trained on, in the order of its logits.

    Errors: UserError for images of the same classes in another order, whose labels would mean other classes.
    """
    known = run.facts.get("classes") or images.classes
    if known != images.classes and sorted(known) == sorted(images.classes):
        raise UserError(f"The data has the classes of {run.path} in another order: give them the order of the run.")
    return known if len(known) == len(images.classes) else images.classes


def load_deployed(
    run: Run,
    device: torch.device | str = "cpu",
    *,
    data: str = "",
    root: str = "",
    best: bool = False,
    ema: bool = False,
    epoch: int = 0,
    noise: bool = False,
) -> tuple[nn.Module, Dataset]:
    """The network that a run is measured by and exported as, in eval mode, and its data.

    It is the student, or what a method makes of the student.

    Args:
        data, root: another data set, or another place of the same one.
        best: the student after its best epoch. Methods save their last state only, so this is refused where a method
            changes the deployed network.
        ema: the averaged student (EMA) of the last epoch.
        epoch: the student after one of the epochs that --keep kept, under the same condition as `best`.
        noise: where the images cannot be read, return `Noise` in their place, with a line on standard error.

    Errors: UserError for weights that the run does not have.
    """
    recipe = run.recipe
    chosen = _weights_name(run, best, ema, epoch)
    average = run.ema_state() if ema else {}
    if not run.finished:
        print(f"{run.path} has finished {len(run.metrics())} of {recipe.optim.epochs} epochs", file=sys.stderr)
    if best:
        print(best_epoch_note(run), file=sys.stderr)
    recipe = replace(with_data(recipe, data, root), student=student_of(run))
    images = _images(run, recipe, device, noise)
    if all(METHODS[name].deploy_as is Method.deploy_as for name in recipe.method_names):
        network = load_network(recipe.student, images, recipe.task, weights=False, who="student").model
        load_weights(network, run.path / chosen)
        return network.eval(), images
    if best or epoch:
        flag = "best" if best else "epoch"
        raise UserError(f"{recipe.method} adds to the student a part that only its last epoch has: leave --{flag} out.")
    distiller = build_distiller(recipe, images, weights=False)
    distiller.student.model.load_state_dict(run.student_state())
    distiller.methods.load_state_dict(run.method_state()[0])
    if ema:
        distiller.deployed.load_state_dict(average)
    return distiller.eval().deployed.eval(), images


def _weights_name(run: Run, best: bool, ema: bool, epoch: int) -> str:
    """The file of the student that is asked for; UserError where several are, or where an epoch was not kept."""
    if epoch and (best or ema):
        raise UserError(f"--epoch {epoch} names one student: leave --best and --ema out.")
    if best and ema:
        raise UserError("The average is kept of the last epoch only: leave --best out, or --ema.")
    kept = kept_epochs(run.path)
    if epoch and epoch not in kept:
        known = f"it holds {', '.join(map(str, kept))}" if kept else "train with --keep to keep the best ones"
        raise UserError(f"{run.path} does not hold the student of epoch {epoch}: {known}.")
    if epoch:
        return file_name(epoch)
    return f"{'ema' if ema else 'best' if best else 'student'}.safetensors"


def _images(run: Run, recipe: Recipe, device: torch.device | str, noise: bool) -> Dataset:
    """The data set of a recipe, or what the run knows of it."""
    try:
        return build_recipe_data(recipe, device)
    except UserError as error:
        if not noise or not run.facts.get("size"):
            raise
        print(f"{error} The network is checked on noise instead of images.", file=sys.stderr)
        return cast(Any, Noise(run.facts, device))


def best_epoch_note(run: Run) -> str:
    """Which epoch of a run is its best, and what it was chosen on."""
    found = result(run)
    return f"{run.path}: epoch {found.best_epoch} is the best on {found.chosen_on}"
