"""The fields that decide which other fields a recipe has, and which options have an effect."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from famkd.command_line.parse import flags_of
from famkd.command_line.values import PLACE
from famkd.config.optimizers import refuse_without_effect, without_effect
from famkd.config.recipe import Optim, Recipe
from famkd.config.sections import data_options, method_section
from famkd.config.settings import Settings
from famkd.data import refuse_option_of_others
from famkd.errors import UserError, nearest
from famkd.methods import METHODS

CHOOSING = ("method", "task", "data.name", "optim.name", "optim.schedule")  # the settings of a `Choice`


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
    plugins: tuple[Annotated[str, PLACE], ...] = ()
    data: _DataName = field(default_factory=_DataName)
    optim: _OptimChoice = field(default_factory=_OptimChoice)


def of_chosen(settings: Settings, methods: tuple[str, ...], choice: Choice) -> Settings:
    """The settings without those of other methods, and without options that a flag has made meaningless.

    A recipe may hold the options of several methods, and be used with another data set, optimizer or schedule.
    """
    others = [key for key in settings.table if (name := key.partition(".")[0]) in METHODS and name not in methods]
    for key in others:
        _must_be_an_option(settings, key)
    data = choice.data.name
    named = settings.table.get("data.name", data)
    if named != data:
        others += [f"data.{option}" for option in data_options(named).keys() - data_options(data).keys()]
    optim = settings.section("optim")
    written = _OptimChoice(**{key: optim[key] for key in ("name", "schedule") if key in optim})
    if choice.optim != written:
        others += [f"optim.{option}" for option in without_effect(optim, choice.optim.name, choice.optim.schedule)]
    return settings.without(*others)


def _must_be_an_option(settings: Settings, key: str) -> None:
    """RecipeError for a setting in the section of a method that is not chosen, if the method has no such option."""
    method, _, option = key.partition(".")
    known = flags_of(method_section(method)())
    if option not in known:
        hint = nearest(option, known).replace("mean ", f"mean {method}.") if option else ""
        raise settings.error(key, f"{key} is not a setting.{hint} See famkd train RECIPE --method {method} --help.")


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
        if section == "data":
            refuse_option_of_others(data, option)


def refuse_optim_flags(flags: Sequence[str], optim: Optim) -> None:
    """UserError for a flag of the section optim that has no effect on the chosen optimizer and schedule."""
    names = [flag.partition("=")[0].replace("-", "_") for flag in flags if flag.startswith("--optim.")]
    options = [name.removeprefix("__optim.").removeprefix("no_") for name in names]
    refuse_without_effect(options, optim.name, optim.schedule)
