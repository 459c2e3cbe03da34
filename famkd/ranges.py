"""Ranges and choices of options, written as types: `Annotated[float, Gt(0)]`, `Literal["high", "low"]`."""

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from math import isfinite
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from annotated_types import Ge, GroupedMetadata, Gt, Le, Lt

from famkd.errors import RecipeError, either


class OutOfRange(NamedTuple):
    """An option whose value lies outside of the range in its annotation, or is none of its choices."""

    name: str  # dotted, where a dataclass holds it
    value: Any
    needed: str  # such as "0 or more"


def out_of_range(values: Mapping[str, Any], hints: Mapping[str, Any]) -> Iterator[OutOfRange]:
    """Find the values that lie outside of the range in their annotation. Dataclasses are searched too.

    Args:
        values: option values by name.
        hints: their annotations by the same names, from `get_type_hints(..., include_extras=True)`.
    """
    for name, value in values.items():
        if is_dataclass(value) and not isinstance(value, type):
            for inner in out_of_range(*values_and_hints(value)):
                yield inner._replace(name=f"{name}.{inner.name}")
        else:
            needed = _needed(value, hints.get(name))
            if needed:
                yield OutOfRange(name, value, needed)


def values_and_hints(section: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values and annotations of a dataclass instance, by field name."""
    return vars(section), get_type_hints(type(section), include_extras=True)


def check_ranges(section: Any, prefix: str = "") -> None:
    """Raise RecipeError for the first field of a dataclass instance that lies outside of its annotated range.

    Fields are annotated with the constraints of `annotated_types`, as in `lr: Annotated[float, Ge(0)]` or
    `steps: tuple[Annotated[int, Ge(1)], ...]`. Nested dataclasses are checked too.

    Args:
        prefix: what stands in front of the fields' names in the error, such as "optim.".
    """
    check_values(*values_and_hints(section), prefix)


def check_values(values: Mapping[str, Any], hints: Mapping[str, Any], prefix: str = "") -> None:
    """`check_ranges` of options by name, with the arguments of `out_of_range`."""
    for name, value, needed in out_of_range(values, hints):
        shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
        raise RecipeError(f"--{prefix}{name} is {shown}: pass {needed}.", prefix + name)


def check_options(method: type, options: Mapping[str, Any]) -> None:
    """Raise ValueError for the first keyword argument that is outside of the range annotated in `method.__init__`."""
    if not options:
        return
    hints = get_type_hints(method.__init__, include_extras=True)
    for name, value, needed in out_of_range(options, hints):
        raise ValueError(f"{name} is {value}, it must be {needed}")


def _needed(value: Any, hint: Any) -> str:
    """What an annotation asks of a value, such as "0 or more", or "" if the value meets it."""
    if get_origin(hint) is Annotated:
        inner, *metadata = get_args(hint)
        for constraint in _ungrouped(metadata):
            needed = _asked_by(constraint, value)
            if needed:
                return needed
        return _needed(value, inner)
    if get_origin(hint) is tuple:
        for item, item_hint in zip(value, _item_hints(hint, len(value))):
            needed = _needed(item, item_hint)
            if needed:
                return needed
    if get_origin(hint) is Literal and value not in get_args(hint):
        return either(map(str, get_args(hint)))
    return ""


def _item_hints(hint: Any, length: int) -> list[Any]:
    """One annotation for each item of a tuple, from `tuple[X, ...]` or `tuple[X, Y]`."""
    args = get_args(hint)
    if args[-1:] == (Ellipsis,):
        return [args[0]] * length
    return list(args)


def _ungrouped(metadata: list[Any]) -> Iterator[Any]:
    """Single constraints: an Interval, for example, holds up to four."""
    for item in metadata:
        if isinstance(item, GroupedMetadata):
            yield from item
        else:
            yield item


def _asked_by(constraint: Any, value: Any) -> str:
    """What one constraint asks of a number, or "" if the number meets it. NaN and infinity meet none."""
    if isinstance(constraint, Gt | Ge | Lt | Le) and not isfinite(value):
        return "a finite number"
    match constraint:
        case Gt(limit) if not value > limit:
            return f"more than {limit}"
        case Ge(limit) if not value >= limit:
            return f"{limit} or more"
        case Lt(limit) if not value < limit:
            return f"less than {limit}"
        case Le(limit) if not value <= limit:
            return f"{limit} or less"
    return ""
