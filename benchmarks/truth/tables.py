"""Print the tables of a study from its CSV file: each group, and its differences from others with confidence intervals.

python benchmarks/truth/tables.py benchmarks/results/truth/methods --against none kd reviewkd
"""

import csv
import statistics
import sys
from math import isnan
from pathlib import Path

from tyro.conf import Positional

from famkd.command_line.parse import call
from famkd.compare import Paired, holm, paired
from famkd.errors import UserError
from famkd.tables import write_table

Scores = dict[str, dict[int, dict[str, str]]]  # group, then seed, then a row of runs.csv


def tables(results: Positional[str], against: tuple[str, ...] = ("none",)) -> None:
    """Print the tables of one study.

    Args:
        results: a folder that collect.py wrote.
        against: groups that the others are compared with.
    """
    scores = read_scores(Path(results) / "runs.csv")
    print(write_table("markdown", *accuracies(scores)))
    for base in against:
        if base not in scores:
            raise UserError(f"There is no group {base!r}. There are: {'; '.join(scores)}.")
        tests = {name: test for name in scores if name != base and (test := tested(scores, name, base))}
        adjusted = dict(zip(tests, holm([test.p for test in tests.values()])))
        print()
        for name, test in sorted(tests.items(), key=lambda item: -item[1].difference):
            print("- " + sentence(name, base, test, adjusted[name], len(tests)))


def read_scores(path: Path) -> Scores:
    """The rows of a study by group and seed, best group first."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    scores: Scores = {}
    for row in rows:
        scores.setdefault(row["group"], {})[int(row["seed"])] = row
    return dict(sorted(scores.items(), key=lambda item: -statistics.mean(column(item[1], "last").values())))


def column(runs: dict[int, dict[str, str]], name: str) -> dict[int, float]:
    """One figure of a group's runs by seed, where it is known."""
    return {seed: float(row[name]) for seed, row in runs.items() if row[name]}


def accuracies(scores: Scores) -> tuple[list[str], list[list[str]]]:
    """Header and rows: last and best figure of each group with its spread, and the hours of a run."""
    first = next(iter(next(iter(scores.values())).values()))
    header = ["group", "n", f"last {first['figure']}", f"best (chosen on {first['chosen_on']})", "hours per run"]
    rows = []
    for name, runs in scores.items():
        hours = statistics.mean(column(runs, "hours").values())
        figures = [spread(list(column(runs, key).values())) for key in ("last", "best")]
        rows.append([name, str(len(runs)), *figures, f"{hours:.2f}"])
    return header, rows


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def tested(scores: Scores, name: str, base: str) -> Paired | None:
    """A group against another, paired by seed, after the last epoch."""
    return paired(column(scores[name], "last"), column(scores[base], "last"))


def sentence(name: str, base: str, test: Paired, p: float, tests: int) -> str:
    """What a comparison says, in words."""
    side = "above" if test.difference >= 0 else "below"
    words = f"{name} was {abs(test.difference):.2f} points {side} {base}"
    if isnan(p):
        return f"{words}, n = {test.n}: too few seeds to tell them apart."
    low, high = sorted(value if test.difference >= 0 else -value for value in (test.low, test.high))
    verdict = "told apart" if p < 0.05 else "not told apart"
    many = f", corrected for {tests} comparisons" if tests > 1 else ""
    return f"{words} [{low:.2f}, {high:.2f}], n = {test.n}: {verdict} (p = {p:.3f}{many})."


if __name__ == "__main__":
    call(tables, sys.argv[1:], prog="python benchmarks/truth/tables.py")
