"""Names of the columns in the metrics of a training."""

from collections.abc import Sequence

from famkd.run.scores import measured_on

__all__ = ["loss_names", "measured_on", "score_names"]

NOT_SCORES = ("epoch", "lr")


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


def _columns(rows: Sequence[dict]) -> list[str]:
    return list(rows[0]) if rows else []
