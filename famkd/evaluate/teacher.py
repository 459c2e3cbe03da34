"""The teacher of a finished run, for a comparison of its answers with the student's."""

from dataclasses import replace

from torch import nn

from famkd.distill.types import Dataset
from famkd.errors import UserError
from famkd.run.directory import Run
from famkd.training.build import build_networks


def teacher_of(run: Run, images: Dataset, weights: str = "") -> nn.Module:
    """The teacher of a run in eval mode, on the device of the images.

    Args:
        weights: where its weights are, if they have moved.

    Errors: UserError for a run without a teacher, and for a teacher whose classifier knows other classes.
    """
    recipe = run.recipe
    if not recipe.method_names:
        raise UserError(f"{run.path} was trained without a teacher: leave --agreement out.")
    teacher = replace(recipe.teacher, weights=weights or recipe.teacher.weights)
    if not teacher.weights:
        raise UserError(f"The teacher of {run.path} has random weights: leave --agreement out.")
    built = build_networks(replace(recipe, teacher=teacher), images, run=run).teacher
    assert built is not None  # the run has a method
    if built.new_head:
        raise UserError(f"The teacher has no classifier for these classes ({built.new_head}): leave --agreement out.")
    return built.model.eval()
