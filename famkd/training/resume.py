"""What may change between a run and its continuation: the number of epochs, and the places of files."""

from famkd.config.load import differences
from famkd.config.recipe import Optim, Recipe
from famkd.errors import UserError, counted
from famkd.run.directory import Run
from famkd.training.schedule import learning_rate

EPOCHS = "optim.epochs"


def refused_changes(run: Run, recipe: Recipe) -> list[str]:
    """Settings of a recipe with which a run cannot be continued.

    The data, the teacher's file and its store may lie elsewhere: `facts.must_be_same` compares what is in them. This
    needs a run that knows its facts.

    Errors: UserError for a number of epochs with which the finished ones would have had other learning rates.
    """
    changed, allowed = differences(run.recipe, recipe), {EPOCHS}
    if run.facts.get("labels"):
        allowed.add("data.root")
    if run.facts.get("teacher", {}).get("weights"):
        allowed.add("teacher.weights")
        if run.recipe.teacher.store and recipe.teacher.store:
            allowed.add("teacher.store")
    refused = [name for name in changed if name not in allowed]
    if EPOCHS in changed and not refused:
        _must_keep_rates(run, recipe.optim)
    return refused


def _must_keep_rates(run: Run, new: Optim) -> None:
    """UserError unless all epochs so far have the same learning rates with the new number of epochs."""
    old, done = run.recipe.optim, len(run.metrics())
    if new.epochs < done:
        raise UserError(f"{run.path} has finished {counted(done, 'epoch')}: pass --epochs {done} or more.")
    begun = min(done + 1, old.epochs)  # the next epoch may have been interrupted
    places = [(epoch, half) for epoch in range(1, begun + 1) for half in (0, 1)]
    if any(learning_rate(old, *place, 2) != learning_rate(new, *place, 2) for place in places):
        raise UserError(
            f"With --epochs {new.epochs} the finished epochs of {run.path} would have had other learning rates, as the "
            f"schedule {new.schedule} depends on the number of epochs: keep --epochs {old.epochs}, or train anew into "
            "another --out. The schedules step and constant can be extended."
        )
