"""Accuracy over seeds: the results of a study, as the repository keeps them beside the code."""

import statistics
from pathlib import Path

import famkd
from famkd.compare import Paired, paired
from famkd.compare.groups import group_scores
from famkd.compare.saved import RUNS, read_results
from famkd.errors import UserError, nearest
from famviz.analysis.answers import difference_words, joined, verdict
from famviz.tables import Table

PLACE = Path("benchmarks/results/truth")
Scores = dict[str, dict[int, float]]  # group, then seed, to the leading figure in % after the last epoch


def study(source: str | Path = "parts_bands") -> Scores:
    """The accuracy of each group and seed of a study.

    Args:
        source: name of a study in the repository, or a folder that `famkd compare --save` wrote.

    Errors: UserError if there is no such folder.
    """
    places = [folder / PLACE / source for folder in (Path(famkd.__file__).parents[1], Path(".."))]
    path = next((each for each in (Path(source), *places) if (each / RUNS).is_file()), None)
    if path is None:
        raise UserError(f"There are no saved results at {source}: write some by `famkd compare RUNS --save {source}`.")
    groups, _ = group_scores(read_results(path))
    return {group.label: group.last() for group in groups}


def study_table(scores: Scores, base: str = "none", least: int = 2) -> Table:
    """A row for each group with at least `least` seeds: mean, spread, difference from `base` paired by seed."""
    _must_have(scores, base)
    rows = []
    for name, last in sorted(scores.items(), key=lambda item: -statistics.mean(item[1].values())):
        if len(last) < least:
            continue
        row: dict[str, object] = {"group": name, "seeds": len(last), "last top-1 %": _spread(list(last.values()))}
        test = paired(last, scores[base])
        if test and name != base:
            row[f"difference from {base} [95 % CI]"] = difference_words(test, "")
        rows.append(row)
    return Table(rows)


def study_words(scores: Scores, method: str = "fam_review", against: tuple[str, ...] = ("none",)) -> str:
    """What a study says for or against a method: its difference from each other group, paired by seed."""
    parts, seeds = [], 0
    for other in against:
        test = _tested(scores, method, other)
        seeds = max(seeds, test.n)
        told = verdict(test) if test.n > 1 else "one seed"
        parts.append(f"{difference_words(test)} from {other} ({told})")
    return f"On {seeds} seeds {method} is {joined(parts)}."


def _tested(scores: Scores, one: str, other: str) -> Paired:
    _must_have(scores, one)
    _must_have(scores, other)
    test = paired(scores[one], scores[other])
    if test is None:
        raise UserError(f"{one} and {other} have no seed in common.")
    return test


def _must_have(scores: Scores, name: str) -> None:
    if name not in scores:
        raise UserError(f"There is no group {name!r}.{nearest(name, scores)} There are: {'; '.join(scores)}.")


def _spread(values: list[float]) -> str:
    average = f"{statistics.mean(values):.2f}"
    return f"{average} ± {statistics.stdev(values):.2f}" if len(values) > 1 else average
