"""The results of runs as CSV files and recipes: what remains of a study where its networks are not kept."""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from famkd.compare.groups import RunResult, SeedGroup
from famkd.config.load import load_recipe
from famkd.config.recipe import Recipe
from famkd.errors import UserError
from famkd.files import read_csv, reading, write_atomically, write_csv
from famkd.run.directory import Run
from famkd.run.scores import result

RUNS, EPOCHS, RECIPES = "runs.csv", "epochs.csv", "recipes"

Row = dict[str, Any]


def save_results(groups: Iterable[SeedGroup], folder: Path) -> None:
    """Write runs.csv (a row for each run), epochs.csv (a row for each epoch) and the recipe of each group.

    `read_results` reads them, and so does `famkd compare`. Recipes of groups that were saved there before and are not
    among these are removed.
    """
    before = read_csv(folder / RUNS) if (folder / RUNS).is_file() else []
    stale = {_recipe_path(folder, row["recipe"], row["group"]) for row in before}
    runs: list[Row] = []
    epochs: list[Row] = []
    for group in sorted(groups, key=lambda group: (group.recipe.name, group.label)):
        recipe = _recipe_path(folder, group.recipe.name, group.label)
        stale.discard(recipe)
        write_atomically(recipe, group.recipe.to_yaml().encode())
        for seed, score in group.scores.items():
            name = {"recipe": group.recipe.name, "group": group.label, "seed": seed}
            runs.append(name | _run_row(score))
            epochs += [name | row for row in _epoch_rows(Run(score.path))]
    write_csv(folder / RUNS, runs)
    write_csv(folder / EPOCHS, epochs)
    for recipe in stale:
        recipe.unlink(missing_ok=True)


def read_results(folder: Path) -> list[RunResult]:
    """The runs that `save_results` wrote to a folder; UserError where a file is missing or damaged."""
    seconds: dict[tuple[str, ...], list[float]] = {}
    for row in read_csv(folder / EPOCHS):
        seconds.setdefault(_name(row), []).append(float(row["seconds"]))
    recipes = {}
    results = []
    for row in read_csv(folder / RUNS):
        with reading(folder / RUNS):
            path = _recipe_path(folder, row["recipe"], row["group"])
            if path not in recipes:
                recipes[path] = load_recipe(path)
            results.append(_result(row, folder / f"{path.stem}-seed{row['seed']}", recipes[path], seconds[_name(row)]))
    return results


def _recipe_path(folder: Path, recipe: str, label: str) -> Path:
    """Where the recipe of a group is saved."""
    return folder / RECIPES / (re.sub(r"[^\w.+=-]+", "_", f"{recipe}-{label}") + ".yaml")


def _name(row: dict[str, str]) -> tuple[str, ...]:
    return row["recipe"], row["group"], row["seed"]


def _run_row(score: RunResult) -> Row:
    """The figures of one run, and what it ran on."""
    run = Run(score.path)
    if not run.exists:
        raise UserError(f"{score.path} is a saved result: save the runs themselves.")
    found = result(run)
    machine = run.machine if (run.path / "machine.json").is_file() else {}
    return {
        "method": score.recipe.method,
        "epochs": score.recipe.optim.epochs,
        "figure": found.figure,
        "last": found.last,
        "best": found.best,
        "best_epoch": found.best_epoch,
        "chosen_on": found.chosen_on,
        "ema": found.ema,
        "teacher": run.teacher.get(found.figure, ""),
        "hours": round(sum(score.seconds) / 3600, 4),
        "peak_mib": score.peak_mib,
        **{key: machine.get(key, "") for key in ("device", "torch", "commit")},
    }


def _epoch_rows(run: Run) -> list[Row]:
    """Metrics and seconds of each epoch."""
    return [row | {"seconds": timing["seconds"]} for row, timing in zip(run.metrics(), run.timing())]


def _result(row: dict[str, str], path: Path, recipe: Recipe, seconds: list[float]) -> RunResult:
    best, peak, ema = (float(row[key]) if row.get(key) else None for key in ("best", "peak_mib", "ema"))
    own = replace(recipe, seed=int(row["seed"]))
    return RunResult(path, own, row["figure"], float(row["last"]), best, row["chosen_on"], seconds, peak, ema)
