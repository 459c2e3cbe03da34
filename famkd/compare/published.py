"""What other papers print for a pair, from published.csv; never more than they say of it."""

import csv
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from famkd.config.load import Recipe

MISSING = "not available"
EPOCHS = 240  # of every figure in the file


class Figure(NamedTuple):
    """One cell of a paper's table, top-1 in percent."""

    data: str
    teacher: str
    student: str
    method: str  # as `method_key` writes it; "none" for the student alone, "teacher" for the teacher
    top1: str
    source: str
    epoch: str  # which epoch it is of: "best epoch", "last epoch" or "not stated"

    def __str__(self) -> str:
        return f"{self.top1} ({self.source}, {'epoch ' * (self.epoch == 'not stated')}{self.epoch})"


@cache
def published_figures() -> tuple[Figure, ...]:
    """Every figure in the package's data file."""
    with (files("famkd.compare") / "published.csv").open(encoding="utf-8", newline="") as file:
        return tuple(Figure(**row) for row in csv.DictReader(file))


def method_key(recipe: Recipe) -> str:
    """A recipe's method as the data file names it: "kd", or "kd standardize" with its logits standardised."""
    options = [recipe.section(name) for name in recipe.method_names]
    return recipe.method + " standardize" * any(getattr(option, "standardize", False) for option in options)


def published_for(recipe: Recipe) -> str:
    """The figure that goes beside a group of runs, or "not available"; another length of training is said."""
    here = [figure for figure in published_figures() if figure.data == recipe.data.name]
    if recipe.method_names:
        pair = (recipe.teacher.model, recipe.student.model, method_key(recipe))
        found = [figure for figure in here if (figure.teacher, figure.student, figure.method) == pair]
    else:
        model = recipe.student.model
        found = [f for f in here if (f.method == "none" and f.student == model)]
        found += [f for f in here if (f.method == "teacher" and f.teacher == model)]
    if not found:
        return MISSING
    other = recipe.optim.epochs != EPOCHS
    return f"{found[0]}, {EPOCHS} epochs against {recipe.optim.epochs} here" if other else str(found[0])


def published_beside(recipes: list[Recipe]) -> list[Figure]:
    """Figures of the pairs among some recipes for methods that none of them used."""
    pairs = {(r.data.name, r.teacher.model, r.student.model) for r in recipes if r.method_names}
    used = {(r.data.name, r.teacher.model, r.student.model, method_key(r)) for r in recipes}
    alone = {(r.data.name, r.student.model) for r in recipes if not r.method_names}

    def is_new(figure: Figure) -> bool:
        if figure.method in ("none", "teacher"):
            return (figure.data, figure.student if figure.method == "none" else figure.teacher) not in alone
        return figure[:4] not in used

    return [figure for figure in published_figures() if figure[:3] in pairs and is_new(figure)]
