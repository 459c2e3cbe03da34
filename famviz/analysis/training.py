"""What the rows of a training say: names of its columns, its columns as lists, and the time that is left."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from famkd.run.scores import measured_on
from famviz.load import LoadedRun, evenly

__all__ = ["columns_of", "loss_names", "measured_on", "score_names", "seconds_left", "training_facts"]

NOT_SCORES = ("epoch", "lr")
RECENT = 5  # epochs whose mean duration says how long the next ones will take
MOST_POINTS = 600  # of a curve: more than a screen can show
DIGITS = 6


def loss_names(rows: Sequence[dict]) -> list[str]:
    """Columns that hold losses, such as `task.ce`."""
    return [name for name in _columns(rows) if "." in name]


def score_names(rows: Sequence[dict]) -> list[str]:
    """Columns that hold held-out figures, the one that ranks epochs first.

    Others that are 100 in every epoch are left out: top-5 is with few classes.
    """
    names = [name for name in _columns(rows) if "." not in name and name not in NOT_SCORES]
    informative = [name for name in names[1:] if any(row.get(name) != 100 for row in rows)]
    return names[:1] + informative


def columns_of(rows: Sequence[dict], most: int = MOST_POINTS) -> dict[str, list[float | None]]:
    """Each column as a list, None where a row lacks it; of more than `most` rows evenly spaced ones."""
    rows = evenly(rows, most)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [_number(row.get(name)) for row in rows] for name in names}


def seconds_left(timing: Sequence[dict], epochs: int) -> float | None:
    """Seconds until all `epochs` are done, by the mean of the last few; None before the first one is."""
    recent = [row["seconds"] for row in timing[-RECENT:] if row.get("seconds") is not None]
    if not recent:
        return None
    return max(0, epochs - len(timing)) * sum(recent) / len(recent)


def training_facts(opened: LoadedRun) -> dict[str, Any]:
    """Everything that the log of a run says, as JSON: progress, columns by name, the teacher's figures."""
    assert opened.run is not None
    rows, timing = opened.metrics(), opened.timing()
    by_epoch = {row["epoch"]: row for row in timing}
    speeds = ("images_per_s", "seconds", "peak_mib")
    joined = [{**row, **{name: by_epoch.get(row["epoch"], {}).get(name) for name in speeds}} for row in rows]
    epochs, finished = opened.run.recipe.optim.epochs, opened.run.finished
    return {
        "epochs": epochs,
        "epoch": rows[-1]["epoch"] if rows else 0,
        "finished": finished,
        "left": 0.0 if finished else seconds_left(timing, epochs),
        "took": sum(row.get("seconds") or 0.0 for row in timing),
        "scores": score_names(rows),
        "losses": loss_names(rows),
        "columns": columns_of(joined),
        "teacher": opened.run.teacher,
    }


def _number(value: Any) -> float | None:
    """A value as JSON knows it, without digits that no screen shows."""
    if not isinstance(value, int | float) or not np.isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.{DIGITS}g}")


def _columns(rows: Sequence[dict]) -> list[str]:
    return list(rows[0]) if rows else []
