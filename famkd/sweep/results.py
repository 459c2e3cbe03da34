"""What a search has found: a table of its trials, the recipe of the best, and a picture."""

import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from famkd.errors import UserError
from famkd.files import write_atomically
from famkd.run.directory import Run
from famkd.run.scores import result
from famkd.sweep.study import EPOCH, WHY, Study
from famkd.tables import MISSING, write_table

SHOWN = 20  # trials in the printed table; the file has all


class Tuned(NamedTuple):
    """What a search has found, and where it is kept."""

    text: str  # a table of the trials, the best first, and where the files are
    best: Path  # run directory of the best trial
    recipe: Path  # file of its recipe
    table: Path  # trials.csv
    picture: Path | None  # parallel coordinates; None where fewer than two trials were trained to the end


def results(study: Study, source: Path) -> Tuned:
    """Write the table, the recipe of the best trial and the picture. UserError where no trial has finished."""
    trials = study.optuna.get_trials(deepcopy=False)
    finished = [trial for trial in trials if trial.state.name == "COMPLETE"]
    if not finished:
        reasons = [trial.user_attrs[WHY] for trial in trials if WHY in trial.user_attrs]
        raise UserError(f"No trial of {source} was trained to its end. {reasons[0] if reasons else ''}".strip())
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    header = ["trial", "held out %", "epochs", *names, "state"]
    rows = [_row(trial, names) for trial in sorted(trials, key=_place)]
    table = study.folder / "trials.csv"
    write_atomically(table, write_table("csv", header, rows).encode())

    best = max(finished, key=lambda trial: trial.value)
    run = Run(study.folder / f"trial-{best.number:04d}")
    recipe = study.folder / "best.yaml"
    head, _, rest = run.recipe.to_yaml().partition("\n")
    comment = (
        f"# trial {best.number} of {source.name}, the best of {len(trials)} on held-out images: {best.value:.2f} %"
    )
    write_atomically(recipe, f"{head}\n{comment}\n{rest}".encode())
    picture = _picture(study, len(finished))
    notes = [*_notes(run, len(trials)), f"recipe of the best: {recipe}", f"all trials: {table}"]
    notes += [f"parallel coordinates: {picture}"] if picture else []
    return Tuned(write_table("table", header, rows[:SHOWN], notes), run.path, recipe, table, picture)


def _place(trial: Any) -> tuple[int, float]:
    """Finished trials from best to worst, then pruned ones, then the others."""
    kinds = ("COMPLETE", "PRUNED")
    kind = kinds.index(trial.state.name) if trial.state.name in kinds else len(kinds)
    return kind, -(_value(trial) or 0.0)


def _value(trial: Any) -> float | None:
    return max(trial.intermediate_values.values(), default=None)


def _row(trial: Any, names: list[str]) -> list[str]:
    value = _value(trial)
    settings = [_text(trial.params.get(name, MISSING)) for name in names]
    name = str(trial.state.name)
    state = {"COMPLETE": "finished", "FAIL": f"failed: {trial.user_attrs.get(WHY, '')}"}.get(name, name.lower())
    shown = MISSING if value is None else f"{value:.2f}"
    epochs = str(trial.user_attrs.get(EPOCH, 0))
    return [str(trial.number), shown, epochs, *settings, state]


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _notes(run: Run, count: int) -> list[str]:
    found = result(run)
    notes = [f"{count} trials, of which the table shows the first {SHOWN}"] if count > SHOWN else []
    if found.best is not None:
        notes.append(f"the best trial has {found.figure} {found.best:.2f} % on the test set, which chose nothing")
    return notes


def _picture(study: Study, finished: int) -> Path | None:
    """Draw a line for each finished trial through its settings and its held-out figure."""
    if finished < 2:
        return None
    os.environ.setdefault("MPLBACKEND", "Agg")  # draws into a file, also where there is a screen
    try:
        from optuna.visualization.matplotlib import plot_parallel_coordinate
    except ImportError:
        raise UserError("The picture of a search needs matplotlib: pip install 'famkd[tune]'.") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the function is experimental
        axes = plot_parallel_coordinate(study.optuna, target_name="held out %")
    axes.set_title(f"{study.folder.name}: settings of {finished} trials and their held-out figures")
    figure: Any = axes.figure
    figure.set_size_inches(10, 5)
    path = study.folder / "parallel.png"
    figure.savefig(path, dpi=150, bbox_inches="tight")
    return path
