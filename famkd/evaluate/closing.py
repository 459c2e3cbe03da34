"""The table that ends a training: teacher, student alone and distilled student."""

from pathlib import Path

from famkd.config.recipe import Recipe
from famkd.console import output
from famkd.run.directory import Run
from famkd.run.scores import Result, best_is_chosen, result
from famkd.tables import MISSING, rich_table
from famkd.training.facts import same_data
from famkd.training.places import student_alone
from famkd.training.teacher import teacher_run


def closing_table(run: Run, runs: str | Path = "runs") -> None:
    """Print the teacher, the student alone where such a run is finished, and this run: last epoch first, then best."""
    recipe = run.recipe
    if not run.finished:
        return
    figure = result(run).figure
    teacher = teacher_run(recipe, runs)
    shown: list[tuple[str, Run]] = []
    if alone := student_alone(recipe, Path(runs) / recipe.name):
        shown.append((f"student {recipe.student.model} alone", alone))
    shown.append((_role(recipe), run))
    results = [result(each) for _, each in shown]
    rows = [row for (role, each), found in zip(shown, results) for row in _rows(role, each, found)]
    if recipe.method_names:
        rows.insert(0, _teacher_row(run, teacher, figure))
    name = figure.replace("top1", "top-1") + " %"
    header = ["", f"last {name}", f"best {name}", "seconds"]
    output.print(rich_table(f"{recipe.name}, seed {recipe.seed}", header, rows))
    if recipe.method_names:
        output.print(f"teacher {recipe.teacher.model}: {teacher.path if teacher else recipe.teacher.weights}")
    for role, each in shown:
        output.print(f"{role}: {each.path}")
    output.print(best_is_chosen((role, found.chosen_on) for (role, _), found in zip(shown, results)))


def _teacher_row(run: Run, teacher: Run | None, figure: str) -> list[str]:
    """Last and best figure of the teacher, measured on the student's test set, and the seconds of its own training.

    The best figure is of the teacher's own run, so it is shown only if that was tested on the same images. Runs of
    older versions did not measure a teacher that came from a run; its own figures are shown for those.
    """
    role = f"teacher {run.recipe.teacher.model}"
    own = _rows(role, teacher, result(teacher))[0] if teacher else [role, MISSING, MISSING, MISSING]
    if teacher and not run.teacher and not run.facts:
        return own
    measured = f"{run.teacher[figure]:.2f}" if figure in run.teacher else MISSING
    best = own[2] if measured == own[1] and same_data(run, teacher) else MISSING
    return [role, measured, best, own[3]]


def _role(recipe: Recipe) -> str:
    return f"student {recipe.student.model} by {recipe.method}" if recipe.method_names else recipe.student.model


def _rows(role: str, run: Run, found: Result) -> list[list[str]]:
    """Last and best value of the leading figure, and the seconds of all epochs; then those of the averaged student."""
    seconds = sum(row["seconds"] for row in run.timing())
    best = MISSING if found.best is None else f"{found.best:.2f}"
    rows = [[role, f"{found.last:.2f}", best, f"{seconds:.1f}"]]
    if found.ema is not None:
        rows.append([f"{role}, EMA {run.recipe.ema:g}", f"{found.ema:.2f}", MISSING, MISSING])
    return rows
