"""The sections of a recipe that depend on what it chooses: the options of its methods and of its data set.

An option is a keyword-only argument. Its type, default and help are those of the signature and the docstring.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import field, fields, is_dataclass, make_dataclass, replace
from functools import cache
from typing import Annotated, Any, get_type_hints

from annotated_types import Ge

from famkd.config.recipe import Data, Recipe
from famkd.data import DATA
from famkd.distill.types import Method
from famkd.methods import METHODS
from famkd.ranges import values_and_hints

WEIGHT_OPTIONS = {
    "weight": "Weight of this method's losses.",
    "task_weight": "Weight of the student's own loss. With several methods the largest value counts.",
    "warmup": "Epochs over which this method's weight rises linearly.",
}

Options = dict[str, tuple[Any, Any]]  # name to type and default


def keyword_options(function: Callable[..., Any]) -> Options:
    """Type and default of each option of a function: of its keyword-only arguments.

    An argument that is a dataclass, such as `FilterOptions`, stands for all of its fields.
    """
    options: Options = {}
    hints = get_type_hints(function, include_extras=True)
    for name, default in _keyword_defaults(function).items():
        if is_dataclass(default):
            values, group_hints = values_and_hints(default)
            options |= {key: (group_hints[key], value) for key, value in values.items()}
        else:
            options[name] = (hints.get(name, type(default)), default)
    return options


def _keyword_defaults(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


def method_options(method: type[Method]) -> Options:
    """Type and default of each option of a method."""
    return keyword_options(method.__init__)


def method_arguments(method: type[Method], options: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of a method's class from its options by name: groups of options become dataclasses again.

    Options that are not given keep their defaults. Names that are not options of the method are ignored.
    """
    arguments = {}
    for name, default in _keyword_defaults(method.__init__).items():
        if is_dataclass(default) and not isinstance(default, type):
            group = {each.name: options[each.name] for each in fields(default) if each.name in options}
            arguments[name] = replace(default, **group)
        elif name in options:
            arguments[name] = options[name]
    return arguments


def data_options(name: str) -> Options:
    """Type and default of each option of a data set; none for a name that is not in `DATA`."""
    if name not in DATA:
        return {}
    load = DATA[name]
    return keyword_options(load.__init__ if isinstance(load, type) else load)


@cache
def recipe_type(methods: tuple[str, ...], data: str) -> type[Recipe]:
    """`Recipe` with the section of a data set and a section for each chosen method."""
    sections = [("data", data_section(data)), *((name, method_section(name)) for name in methods)]
    members = [(name, kind, field(default_factory=kind)) for name, kind in sections]
    return make_dataclass("Recipe", members, bases=(Recipe,), frozen=True, namespace={"__doc__": Recipe.__doc__})


def method_section(name: str) -> type:
    """The dataclass of a method's section: its weights, then its own options."""
    method = METHODS[name]
    weights = [(key, Annotated[type(getattr(method, key)), Ge(0)], getattr(method, key)) for key in WEIGHT_OPTIONS]
    options = [(key, hint, default) for key, (hint, default) in method_options(method).items()]
    section = make_dataclass(f"{method.__name__}Options", weights + options, frozen=True)
    summary, own_help = _summary_and_help(method.__doc__ or "Options of this method.")
    for default in _keyword_defaults(method.__init__).values():
        if is_dataclass(default):
            own_help += _summary_and_help(default.__doc__ or "")[1]
    weight_help = "".join(f"\n    {key}: {text}" for key, text in WEIGHT_OPTIONS.items())
    section.__doc__ = f"{summary}\n\nArgs:{weight_help}{own_help}"
    return section


def _summary_and_help(docstring: str) -> tuple[str, str]:
    """The part of a docstring before `Args:`, and the lines after it, which explain the options."""
    summary, _, option_help = inspect.cleandoc(docstring).partition("\nArgs:")
    return summary.rstrip(), option_help


def data_section(name: str) -> type[Data]:
    """The dataclass of a data set's section: the common fields, then its own options."""
    options = [(key, hint, default) for key, (hint, default) in data_options(name).items()]
    section = make_dataclass(f"{name}Data", options, bases=(Data,), frozen=True)
    _, own_help = _summary_and_help(DATA[name].__doc__ or "" if name in DATA else "")
    section.__doc__ = f"{Data.__doc__}\n\nArgs:{own_help}" if own_help else Data.__doc__
    return section
