"""Finished runs, grouped by what they have in common: the recipe skipped from its seed."""

import contextlib
import glob
import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from famkd.config.load import NOT_PART_OF_RESULT, Recipe, flatten
from famkd.errors import UserError
from famkd.run.directory import Run, leading

# fields of a recipe that do not decide what comes out
IRRELEVANT = ("seed", "baseline", "log", "data.root", "plugins", *NOT_PART_OF_RESULT)


class RunResult(NamedTuple):
    """What one finished run came to."""

    path: Path
    recipe: Recipe
    figure: str  # what is measured: top1, or the first figure of another task
    last: float
    best: float
    seconds: list[float]  # of each epoch
    peak_mib: float | None


@dataclass(frozen=True)
class SeedGroup:
    """Finished runs that differ in their seed alone."""

    label: str
    scores: Mapping[int, RunResult]  # by seed

    @property
    def recipe(self) -> Recipe:
        return next(iter(self.scores.values())).recipe

    def last(self) -> dict[int, float]:
        return {seed: score.last for seed, score in self.scores.items()}


def find_runs(places: Iterable[str | Path]) -> list[Path]:
    """Run directories at, under or matching some paths; UserError for a path that leads to none."""
    found: dict[Path, None] = {}
    for place in map(str, places):
        matches = [Path(match) for match in sorted(glob.glob(place, recursive=True))] or [Path(place)]
        inside = [file.parent for match in matches for file in sorted(match.rglob("recipe.yaml"))]
        if not inside:
            raise UserError(f"There is no run at {place}: name run directories, folders of runs or a pattern.")
        found |= dict.fromkeys(inside)
    return list(found)


def read_scores(paths: Iterable[Path]) -> tuple[list[RunResult], list[str]]:
    """Scores of the finished runs, and a sentence on each of the others."""
    scores, skipped = [], []
    for path in paths:
        run, said = Run(path), io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                recipe = run.recipe
            rows, timing = run.metrics(), run.timing()
            done = rows[-1]["epoch"] if rows else 0
            if done < recipe.optim.epochs:
                skipped.append(f"Unfinished: {path}, epoch {done} of {recipe.optim.epochs}.")
            else:
                scores.append(_score(path, recipe, rows, timing))
        except SystemExit:  # the recipe parser ends the process on what it does not take, with its reason in a box
            skipped.append(f"Unreadable: {path}: its recipe does not parse: {_reason(said.getvalue())}.")
        except Exception as error:  # what chance or somebody changed can contradict itself in any way
            skipped.append(f"Unreadable: {path}: {error}")
    return scores, skipped


def _reason(box: str) -> str:
    """What the parser says, without the frame around it, up to its first rule."""
    plain = [line.strip("│| ") for line in re.sub(r"\x1b\[[\d;]*m", "", box).splitlines()[1:]]
    rules = [not line.strip("─╰╯+- ") for line in plain] + [True]
    start = rules.index(False) if False in rules else 0
    return " ".join(" ".join(plain[start : rules.index(True, start)]).split())[:200].rstrip(".") or "no reason given"


def _score(path: Path, recipe: Recipe, rows: list[dict], timing: list[dict]) -> RunResult:
    figure = leading(rows[-1])
    values = [float(row[figure]) for row in rows]
    peaks = [float(row["peak_mib"]) for row in timing if row.get("peak_mib")]
    seconds = [float(row["seconds"]) for row in timing]
    return RunResult(path, recipe, figure, values[-1], max(values), seconds, max(peaks, default=None))


def group_scores(scores: Iterable[RunResult]) -> tuple[list[SeedGroup], list[str]]:
    """Groups by recipe minus seed, and a sentence on each run that repeats another's seed and so is left out."""
    by_recipe: dict[str, dict[int, RunResult]] = defaultdict(dict)
    settings: dict[str, dict[str, Any]] = {}
    repeated = []
    for score in scores:
        flat = {key: value for key, value in flatten(score.recipe.to_dict()).items() if key not in IRRELEVANT}
        key = repr(sorted(flat.items(), key=lambda item: item[0]))
        settings[key] = flat
        first = by_recipe[key].setdefault(score.recipe.seed, score)
        if first is not score:
            repeated.append(f"Left out: {score.path} repeats recipe and seed of {first.path}.")
    labels = _labels(settings)
    return [SeedGroup(labels[key], dict(sorted(runs.items()))) for key, runs in by_recipe.items()], repeated


def _labels(settings: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """The method, and what sets a group skipped from the usual one of its recipe and method."""
    families: dict[tuple, list[str]] = defaultdict(list)
    for key, flat in settings.items():
        families[flat["name"], flat["method"]].append(key)
    labels = {}
    for (_, method), keys in families.items():
        usual = {name: _usual([settings[key].get(name) for key in keys]) for key in keys for name in settings[key]}
        for key in keys:
            skipped = [f"{n.removeprefix(f'{method}.')}={v}" for n, v in settings[key].items() if usual[n] != repr(v)]
            labels[key] = f"{method} {' '.join(skipped)}".strip()
    return labels


def _usual(values: list[Any]) -> str | None:
    """What most have, as text; None where no value is commoner than all others."""
    (first, count), *rest = Counter(map(repr, values)).most_common(2)
    return None if rest and rest[0][1] == count else first
