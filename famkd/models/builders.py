"""Call the builder of a network, whatever its arguments are called."""

import inspect
import re
from collections.abc import Callable
from typing import Any

from torch import nn

from famkd.errors import UserError, one_line
from famkd.models.options import DEFAULTS, BuildOptions, named_by

# names of arguments that take the number of classes, such as num_classes, n_labels, class_num or out_features
CLASSES = re.compile(
    "((n|nb|num|number)_?(of_)?)(class|classes|cls|labels|outputs|categories)"
    "|classes|class(es)?_?(num|number|count)|out(put)?_(features|dim)"
)
CHANNELS = re.compile("in(put)?_?(ch|chans|channels|planes|dim|c)")  # names of those that take the images' channels


def call_builder(
    builder: Callable[..., Any], name: str, num_classes: int, channels: int = 3, options: BuildOptions = DEFAULTS
) -> nn.Module:
    """Build a network by a class or function of the user, which may take the number of classes and of channels.

    The number of classes goes to the argument that is called so (`CLASSES`), else to the first one without a default,
    else to `**kwargs` or `*args`. A builder without any of these is called without it. The number of channels goes to
    the argument that is called so (`CHANNELS`), if there is one.

    Errors: UserError if the builder needs more arguments, fails, or returns no module.
    """
    if isinstance(builder, nn.Module):
        raise UserError(f"The model {name!r} is a network, not a builder: register a function that builds it.")
    if not callable(builder):
        raise UserError(f"The model {name!r} is a {type(builder).__name__}: register a function that builds it.")
    args, kwargs = _arguments(builder, name, num_classes, channels)
    kwargs |= named_by(builder, name, options)
    try:
        model = builder(*args, **kwargs)
    except UserError:
        raise
    except Exception as error:  # a user's builder can raise anything
        reason = one_line(error)
        raise UserError(
            f"The builder of {name!r} failed for {num_classes} classes: {type(error).__name__}: {reason}."
        ) from error
    if not isinstance(model, nn.Module):
        raise UserError(f"The builder of {name!r} returned a {type(model).__name__}: it must return an nn.Module.")
    return model


def _arguments(
    builder: Callable[..., Any], name: str, num_classes: int, channels: int
) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments for a builder, from its signature."""
    try:
        parameters = list(inspect.signature(builder).parameters.values())
    except (TypeError, ValueError):  # a builtin without a signature
        return [num_classes], {}
    named = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    values: dict[str, Any] = {each.name: channels for each in named if CHANNELS.fullmatch(each.name)}
    for_classes = [each for each in named if CLASSES.fullmatch(each.name)]
    needed = [each for each in named if each.default is each.empty and each.name not in values]
    kinds = {each.kind for each in parameters}
    args: list[Any] = []
    if for_classes or needed:
        values[(for_classes or needed)[0].name] = num_classes
    elif inspect.Parameter.VAR_KEYWORD in kinds:
        values["num_classes"] = num_classes
    elif inspect.Parameter.VAR_POSITIONAL in kinds:
        args = [num_classes]
    missing = [each.name for each in needed if each.name not in values]
    if missing:
        raise UserError(
            f"The builder of {name!r} needs {' and '.join(missing)}, which famkd does not know: give a default, or "
            "register functools.partial of it."
        )
    by_position = [each.name for each in named if each.kind is each.POSITIONAL_ONLY and each.name in values]
    return [*(values.pop(each) for each in by_position), *args], values
