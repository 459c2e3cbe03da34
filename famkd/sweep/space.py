"""A search file: the settings that a search varies, and those that it keeps.

recipe: quickstart
data.val: 0.1                                     # one value: kept
optim.lr: {low: 0.01, high: 0.3, log: true}       # a range
method: [kd, fam_review]                          # one of several values
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from famkd.command_line.parse import did_you_mean, flags_of
from famkd.config.load import load_recipe
from famkd.config.yaml_flags import as_flags, read_yaml
from famkd.errors import UserError

PARTS = {"low", "high", "log"}  # of a range


class Range(NamedTuple):
    """A range of numbers, both ends included."""

    low: float
    high: float
    log: bool


class Space(NamedTuple):
    """What a search varies and what it keeps."""

    recipe: str
    kept: dict[str, Any]  # setting to a value, a text or a list of texts
    choices: dict[str, dict[str, Any]]  # setting to its possible values, by a text that names each
    ranges: dict[str, Range]

    def flags(self, values: Mapping[str, Any]) -> list[str]:
        """The command-line flags of a trial, from the value or the name of the choice of each varied setting."""
        settings = dict(self.kept)
        for name, value in values.items():
            settings[name] = self.choices[name][value] if name in self.choices else repr(value)
        return as_flags(settings)

    def example(self) -> dict[str, Any]:
        """Values of a first trial: the first choice of each setting, and the low end of each range."""
        return {name: next(iter(values)) for name, values in self.choices.items()} | {
            name: each.low for name, each in self.ranges.items()
        }


def read_space(path: Path) -> Space:
    """Read a search file. UserError for a file that varies nothing, or for a range that is none."""
    tree = read_yaml(path, "search file").tree
    if not isinstance(tree, dict) or not isinstance(tree.get("recipe"), str):
        raise UserError(f"{path} is no search: write `recipe: quickstart` and `optim.lr: {{low: 0.01, high: 0.3}}`.")
    if "plugins" in tree:
        raise UserError(f"{path} names plug-ins: leave them out and pass --plugins, if you trust them.")
    space = Space(tree.pop("recipe"), {}, {}, {})
    for name, value in tree.items():
        if isinstance(value, dict):
            space.ranges[name] = _range(name, value, path)
        elif isinstance(value, list):
            space.choices[name] = _choices(name, value, path)
        else:
            space.kept[name] = value
    if not space.ranges and not space.choices:
        raise UserError(f"{path} varies nothing: give a setting a list of values or a range {{low: 0.01, high: 0.3}}.")
    return space


def whole_numbers(space: Space) -> set[str]:
    """Names of the ranges whose setting is a whole number. UserError for a range of a setting that is no number."""
    chosen = {name: value for name, value in space.example().items() if name in space.choices}
    known = flags_of(load_recipe(space.recipe, *space.flags(chosen)))
    whole = set()
    for name in space.ranges:
        if name not in known:
            raise UserError(f"{name} is no setting of this recipe.{did_you_mean(name, known)}")
        value = known[name].default
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UserError(f"{name} is no number, so it has no range: give a list of values.")
        if isinstance(value, int):
            whole.add(name)
    return whole


def _range(name: str, table: dict[str, Any], path: Path) -> Range:
    example = f"{name}: {{low: 0.01, high: 0.3, log: true}}"
    if not {"low", "high"} <= table.keys() <= PARTS:
        raise UserError(f"{path}: write the range as {example}. Other settings have dotted names.")
    try:
        low, high = float(table["low"]), float(table["high"])
    except (TypeError, ValueError):
        raise UserError(f"{path}: the ends of the range of {name} are numbers, as in {example}.") from None
    log = str(table.get("log", "false")).lower()
    if log not in ("true", "false"):
        raise UserError(f"{path}: log of {name} is true or false.")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{path}: {name} has no range from {low:g} to {high:g}: low must be smaller than high.")
    if log == "true" and low <= 0:
        raise UserError(f"{path}: the range of {name} begins at {low:g}: with log: true, low must be above 0.")
    return Range(low, high, log == "true")


def _choices(name: str, values: list[Any], path: Path) -> dict[str, Any]:
    named = {" ".join(map(str, value)) if isinstance(value, list) else str(value): value for value in values}
    if len(named) < 2 or len(named) < len(values):
        raise UserError(f"{path}: give {name} two different values or more, or a single one without brackets.")
    return named
