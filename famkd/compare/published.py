"""Figures that other papers report, from published.csv. What a paper does not state is marked as not stated."""

import csv
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from famkd.config.recipe import Recipe

MISSING = "not available"
EPOCHS = 240  # of every figure in the file
ALONE = ("none", "teacher")  # methods of figures that are of one network


class Figure(NamedTuple):
    """One cell of a paper's table: top-1 in percent."""

    data: str
    teacher: str
    student: str
    method: str  # as `method_key` returns it; "none" for the student alone, "teacher" for the teacher
    top1: str
    source: str
    epoch: str  # "best epoch", "last epoch" or "not stated"

    def __str__(self) -> str:
        epoch = "epoch not stated" if self.epoch == "not stated" else self.epoch
        return f"{self.top1} ({self.source}, {epoch})"

    @property
    def network(self) -> str:
        """The network that a figure of one network is of."""
        return self.teacher if self.method == "teacher" else self.student


@cache
def published_figures() -> tuple[Figure, ...]:
    """Every figure in the package's data file."""
    text = (files("famkd.compare") / "published.csv").read_text(encoding="utf-8")
    return tuple(Figure(**row) for row in csv.DictReader(text.splitlines()))


def method_key(recipe: Recipe) -> str:
    """A recipe's method as the data file names it: "kd", or "kd standardize" where logits are standardised."""
    options = [recipe.section(name) for name in recipe.method_names]
    standardized = any(getattr(option, "standardize", False) for option in options)
    return f"{recipe.method} standardize" if standardized else recipe.method


def published_for(recipe: Recipe) -> str:
    """The published figure for a recipe, or "not available". Another number of epochs is mentioned."""
    of_data = [figure for figure in published_figures() if figure.data == recipe.data.name]
    if recipe.method_names:
        pair = (recipe.teacher.model, recipe.student.model, method_key(recipe))
        found = [figure for figure in of_data if (figure.teacher, figure.student, figure.method) == pair]
    else:
        of_model = [figure for figure in of_data if figure.network == recipe.student.model]
        found = [figure for method in ALONE for figure in of_model if figure.method == method]
    if not found:
        return MISSING
    if recipe.optim.epochs != EPOCHS:
        return f"{found[0]}, {EPOCHS} epochs against {recipe.optim.epochs} here"
    return str(found[0])


def published_beside(recipes: list[Recipe]) -> list[Figure]:
    """Figures for the pairs among some recipes, of methods that none of the recipes uses."""
    taught = [recipe for recipe in recipes if recipe.method_names]
    pairs = {(recipe.data.name, recipe.teacher.model, recipe.student.model) for recipe in taught}
    used = {(recipe.data.name, recipe.teacher.model, recipe.student.model, method_key(recipe)) for recipe in recipes}
    alone = {(recipe.data.name, recipe.student.model) for recipe in recipes if not recipe.method_names}

    def has_run(figure: Figure) -> bool:
        if figure.method in ALONE:
            return (figure.data, figure.network) in alone
        return figure[:4] in used

    of_pairs = [figure for figure in published_figures() if figure[:3] in pairs]
    return [figure for figure in of_pairs if not has_run(figure)]
