"""The fields that decide which other fields a recipe has, and which options have an effect."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from famkd.config.optimizers import refuse_without_effect, without_effect
from famkd.config.recipe import Optim, Recipe
from famkd.config.sections import data_options
from famkd.data import DATA
from famkd.errors import UserError
from famkd.methods import METHODS


@dataclass(frozen=True)
class _DataName:
    name: Annotated[str, tyro.conf.arg(aliases=["--data"])] = Recipe().data.name


@dataclass(frozen=True)
class _OptimChoice:
    name: str = Optim().name
    schedule: str = Optim().schedule


@dataclass(frozen=True)
class Choice:
    """The fields that decide which other fields a recipe has, and which of them have an effect."""

    method: str = "none"
    task: str = "classification"
    plugins: tuple[str, ...] = ()
    data: _DataName = field(default_factory=_DataName)
    optim: _OptimChoice = field(default_factory=_OptimChoice)


def of_chosen(tree: dict[str, Any], methods: tuple[str, ...], choice: Choice) -> dict[str, Any]:
    """The settings without those of other methods, and without options that a flag has made meaningless.

    A recipe may hold the options of several methods, and be used with another data set, optimizer or schedule.
    """
    chosen = {key: value for key, value in tree.items() if key in methods or key not in METHODS}
    section, data = tree.get("data"), choice.data.name
    if isinstance(section, dict) and section.get("name", data) != data:
        foreign = data_options(str(section["name"])).keys() - data_options(data).keys()
        chosen["data"] = {key: value for key, value in section.items() if key not in foreign}
    optim = tree.get("optim")
    if isinstance(optim, dict) and choice.optim != _OptimChoice(**optim_choice(optim)):
        foreign = without_effect(optim, choice.optim.name, choice.optim.schedule)
        chosen["optim"] = {key: value for key, value in optim.items() if key not in foreign}
    return chosen


def optim_choice(optim: dict[str, Any]) -> dict[str, Any]:
    """The optimizer and the schedule that a file names."""
    return {key: optim[key] for key in ("name", "schedule") if key in optim}


def refuse_options_of_others(flags: Sequence[str], methods: tuple[str, ...], data: str) -> None:
    """UserError for an option of a method or of a data set that is not the chosen one."""
    for flag in flags:
        section, dot, option = flag.partition("=")[0].removeprefix("--").replace("-", "_").partition(".")
        if not flag.startswith("--") or not dot:
            continue
        if section in METHODS and section not in methods:
            raise UserError(
                f"{section} is not among this run's methods ({'+'.join(methods) or 'none'}): pass --method {section} "
                f"or leave {flag.partition('=')[0]} out."
            )
        if section == "data" and option not in data_options(data):
            others = [name for name in DATA if option in data_options(name)]
            if others:
                raise UserError(f"--data.{option} is an option of {' and '.join(others)}, not of {data}: leave it out.")


def refuse_optim_flags(flags: Sequence[str], optim: Optim) -> None:
    """UserError for a flag of the section optim that has no effect on the chosen optimizer and schedule."""
    names = [flag.partition("=")[0].replace("-", "_") for flag in flags if flag.startswith("--optim.")]
    options = [name.removeprefix("__optim.").removeprefix("no_") for name in names]
    refuse_without_effect(options, optim.name, optim.schedule)
