"""Group finished runs that differ only in their seed."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from famkd.config.recipe import NOT_PART_OF_RESULT, Recipe
from famkd.config.yaml_flags import flatten

# Fields in which runs of one group may differ. A run is resumed only where the last four are equal too: an .npz file
# in another place can be another data set, for example.
NOT_COMPARED = (*NOT_PART_OF_RESULT, "seed", "baseline", "log", "data.root", "plugins")

Settings = dict[str, Any]  # dotted names of a recipe's fields to their values


class RunResult(NamedTuple):
    """The figures of one finished run."""

    path: Path
    recipe: Recipe
    figure: str  # name of the leading figure: top1, or the first figure of another task
    last: float
    best: float | None  # None where the network of the best epoch was not kept
    chosen_on: str  # what the best epoch was chosen on: "the test set" or "held-out images"
    seconds: list[float]  # of each epoch
    peak_mib: float | None
    ema: float | None = None  # of the averaged student after the last epoch


@dataclass(frozen=True)
class SeedGroup:
    """Finished runs that differ only in their seed."""

    label: str
    scores: Mapping[int, RunResult]  # by seed

    @property
    def recipe(self) -> Recipe:
        """The recipe of the first run."""
        return next(iter(self.scores.values())).recipe

    @property
    def figure(self) -> str:
        """Name of the leading figure; equal settings mean the same for every run."""
        return next(iter(self.scores.values())).figure

    @property
    def chosen_on(self) -> str:
        """What the best epochs were chosen on; equal settings mean the same for every run."""
        return next(iter(self.scores.values())).chosen_on

    def last(self) -> dict[int, float]:
        """The leading figure after the last epoch, by seed."""
        return {seed: score.last for seed, score in self.scores.items()}


def group_scores(scores: Iterable[RunResult]) -> tuple[list[SeedGroup], list[str]]:
    """Groups of runs with equal settings, and a sentence about each run that repeats a seed and is left out."""
    runs_of: dict[str, dict[int, RunResult]] = defaultdict(dict)
    settings_of: dict[str, Settings] = {}
    repeated: list[str] = []
    for score in scores:
        settings = _settings(score.recipe)
        key = repr(sorted(settings.items(), key=lambda item: item[0]))
        settings_of[key] = settings
        first = runs_of[key].setdefault(score.recipe.seed, score)
        if first is not score:
            repeated.append(f"Left out: {score.path} repeats recipe and seed of {first.path}.")
    labels = _labels(settings_of)
    groups = [SeedGroup(labels[key], dict(sorted(runs.items()))) for key, runs in runs_of.items()]
    return groups, repeated


def _settings(recipe: Recipe) -> Settings:
    flat = flatten(recipe.to_dict())
    return {name: value for name, value in flat.items() if name not in NOT_COMPARED}


def _labels(settings_of: Mapping[str, Settings]) -> dict[str, str]:
    """The label of each group: its method, and the settings that are not usual for this recipe and method."""
    families: dict[tuple[str, str], list[str]] = defaultdict(list)
    for key, settings in settings_of.items():
        families[settings["name"], settings["method"]].append(key)
    labels = {}
    for (_, method), keys in families.items():
        usual = _usual([settings_of[key] for key in keys])
        for key in keys:
            unusual = [
                f"{name.removeprefix(f'{method}.')}={value}"
                for name, value in settings_of[key].items()
                if usual[name] != repr(value)
            ]
            labels[key] = " ".join([method, *unusual])
    return labels


def _usual(family: list[Settings]) -> dict[str, str | None]:
    """The most common value of each setting, as text; None where no value is more common than all others."""
    names = dict.fromkeys(name for settings in family for name in settings)
    usual = {}
    for name in names:
        counts = Counter(repr(settings.get(name)) for settings in family)
        (first, count), *others = counts.most_common(2)
        is_tie = bool(others) and others[0][1] == count
        usual[name] = None if is_tie else first
    return usual
