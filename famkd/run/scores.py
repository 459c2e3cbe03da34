"""What the rows of a run say: which epoch is best, whether training is over, and the figures on the test set."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from famkd.config.recipe import Recipe
from famkd.files import reading

if TYPE_CHECKING:
    from famkd.run.directory import Run

EMA = "ema_"  # what the name of a figure of the averaged student starts with, as in ema_top1 and val_ema_top1
HELD_OUT = "val_"  # what the name of a figure on held-out images starts with, as in val_top1

Rows = list[dict[str, Any]]  # of metrics.jsonl


class Result(NamedTuple):
    """The leading figure of a run after its last epoch and after its best one."""

    figure: str  # such as top1 of the test set; val_top1 before the test set is measured
    last: float
    best: float | None  # None where the network of the best epoch was not kept
    best_epoch: int
    chosen_on: str  # what the best epoch was chosen on: "the test set" or "held-out images"
    ema: float | None = None  # of the averaged student after the last epoch


def leading(row: dict[str, Any]) -> str:
    """Name of the figure that ranks epochs: the first that is no loss. Names of losses contain a dot."""
    return next(key for key in row if "." not in key and key not in ("epoch", "lr"))


def best_row(rows: Rows) -> int:
    """Position of the row whose leading figure is largest; of several the first."""
    scores = [row[leading(row)] for row in rows]
    return scores.index(max(scores))


def measured_on(rows: Rows) -> str:
    """Which images the figures of some rows are of."""
    return "held-out images" if leading(rows[-1]).startswith(HELD_OUT) else "the test set"


def best_is_chosen(runs: Iterable[tuple[str, str]]) -> str:
    """What the best epochs of some runs, each a label and its `chosen_on`, were chosen on, as part of a sentence."""
    labels: dict[str, list[str]] = {}
    for label, place in runs:
        labels.setdefault(place, []).append(label)
    if len(labels) == 1:
        return f"the best epoch is chosen on {next(iter(labels))}"
    parts = [f"on {place} for {', '.join(dict.fromkeys(own))}" for place, own in labels.items()]
    return f"the best epoch is chosen {' and '.join(parts)}"


def training_over(recipe: Recipe, rows: Rows) -> bool:
    """Whether all epochs are done, or no epoch of the last `optim.patience` was better than those before."""
    if not rows:
        return False
    waited = len(rows) - 1 - best_row(rows)
    stopped_early = 0 < recipe.optim.patience <= waited
    return stopped_early or rows[-1]["epoch"] >= recipe.optim.epochs


def result(run: "Run") -> Result:
    """The leading figure of a run with one epoch or more: on the test set, where it was measured."""
    rows, test = run.metrics(), run.test
    with reading(run.path / "metrics.jsonl"):
        figure, best = leading(rows[-1]), rows[best_row(rows)]
        seen = Result(figure, float(rows[-1][figure]), float(best[figure]), best["epoch"], measured_on(rows))
        seen = seen._replace(ema=_averaged(rows[-1], figure))
    if not test:
        return seen
    with reading(run.path / "test.json"):
        figure = figure.removeprefix(HELD_OUT)
        best_figures = test.get("best")
        best = float(best_figures[figure]) if best_figures else None
        last, ema = float(test["last"][figure]), _averaged(test["last"], figure)
        return seen._replace(figure=figure, last=last, best=best, ema=ema)


def _averaged(row: dict[str, Any], figure: str) -> float | None:
    """A figure of the averaged student, if the row has it."""
    split = HELD_OUT if figure.startswith(HELD_OUT) else ""
    value = row.get(f"{split}{EMA}{figure.removeprefix(split)}")
    return None if value is None else float(value)
