"""Accuracy over seeds: the results of a study, as the repository keeps them beside the code."""

from pathlib import Path

import famkd
from famkd.compare import Paired, paired
from famkd.compare.groups import group_scores
from famkd.compare.saved import RUNS, read_results
from famkd.errors import UserError, nearest
from famkd.files import read_csv, reading
from famviz.analysis.answers import difference_words, joined, verdict

PLACE = Path("benchmarks/results/truth")
COSTS = "costs.csv"
Scores = dict[str, dict[int, float]]  # group, then seed, to the leading figure in % after the last epoch


def study_folder(source: str | Path = "parts_bands") -> Path:
    """The folder of the saved results of a study, which `famkd.compare.compare` makes a table of.

    Args:
        source: name of a study in the repository, or a folder that `famkd compare --save` wrote.

    Errors: UserError if there is no such folder.
    """
    places = [folder / PLACE / source for folder in (Path(famkd.__file__).parents[1], Path(".."))]
    path = next((each for each in (Path(source), *places) if (each / RUNS).is_file()), None)
    if path is None:
        raise UserError(f"There are no saved results at {source}: write some by `famkd compare RUNS --save {source}`.")
    return path


def study(source: str | Path = "parts_bands") -> Scores:
    """The accuracy of each group and seed of a study. Source and errors as for `study_folder`."""
    groups, _ = group_scores(read_results(study_folder(source)))
    return {group.label: group.last() for group in groups}


def study_costs(source: str | Path = "methods") -> dict[str, float]:
    """The time of a training step of each group, in times of the student alone, as benchmarks/truth/cost.py wrote it.

    Source as for `study_folder`. Errors: UserError if the study has no costs.csv.
    """
    path = study_folder(source) / COSTS
    with reading(path):
        return {row["group"]: float(row["ratio"]) for row in read_csv(path)}


def study_words(scores: Scores, method: str = "fam_review", against: tuple[str, ...] = ("none",)) -> str:
    """What a study says for or against a method: its difference from each other group, paired by seed."""
    parts, seeds = [], 0
    for other in against:
        test = _tested(scores, method, other)
        seeds = max(seeds, test.n)
        told = verdict(test) if test.n > 1 else "one seed"
        parts.append(f"{difference_words(test)} from {other} ({told})")
    return f"On {seeds} seeds {method} is {joined(parts)}."


def differences(scores: Scores, against: str) -> dict[str, Paired]:
    """How far each group is above one of them, paired by seed. Groups of fewer than two common seeds are left out."""
    _must_have(scores, against)
    tests = {group: paired(scores[group], scores[against]) for group in scores if group != against}
    return {group: test for group, test in tests.items() if test is not None and test.n > 1}


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
