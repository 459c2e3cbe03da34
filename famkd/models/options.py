"""Options of a network that its builder may take: dropout, drop path (stochastic depth), and patch size."""

import inspect
import itertools
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import nn

from famkd.errors import UserError

# What builders call each option, the most usual name first.
NAMES = {
    "drop": ("drop_rate", "dropout", "drop", "dropout_rate"),
    "drop_path": ("drop_path_rate", "stochastic_depth_prob", "drop_path"),
    "patch": ("patch_size", "patch"),
}
WORDS = {"drop": "dropout", "drop_path": "drop path", "patch": "patch size"}
REFUSED = re.compile(r"unexpected keyword argument '(\w+)'|multiple values for (?:keyword )?argument '(\w+)'")


class BuildOptions(NamedTuple):
    """Options of a network; 0 for the network's own."""

    drop: float = 0.0  # probability that a value before the classifier is dropped
    drop_path: float = 0.0  # probability that the last block is skipped; it rises from 0 in the first
    patch: int = 0  # side of a patch of a vision transformer, in pixels

    def given(self) -> dict[str, float]:
        return {name: value for name, value in self._asdict().items() if value}


DEFAULTS = BuildOptions()


def build_with(build: Callable[..., nn.Module], name: str, options: BuildOptions) -> nn.Module:
    """Call a builder of a library with the options, by the names that it takes. UserError for one that it does not."""
    given = options.given()
    refused: set[str] = set()
    for names in itertools.product(*(NAMES[option] for option in given)):
        if refused.intersection(names):
            continue
        try:
            return build(**dict(zip(names, given.values())))
        except TypeError as error:
            found = REFUSED.search(str(error))
            own = (found[1] or found[2]) if found else ""
            if own not in names:
                raise
            refused.add(own)
    raise _takes_none(name, [option for option in given if refused.issuperset(NAMES[option])])


def named_by(builder: Callable[..., Any], name: str, options: BuildOptions) -> dict[str, Any]:
    """The options as keyword arguments of a builder of this package or of a user. UserError for one without a name."""
    taken: Mapping[str, Any] = inspect.signature(builder).parameters if options.given() else {}
    arguments: dict[str, Any] = {}
    for option, value in options.given().items():
        names = [each for each in NAMES[option] if each in taken]
        if not names:
            raise _takes_none(name, [option])
        arguments[names[0]] = value
    return arguments


def refuse_all(name: str, options: BuildOptions) -> None:
    """UserError for a network that takes no options, if there are any."""
    if options.given():
        raise _takes_none(name, list(options.given()))


def _takes_none(name: str, options: list[str]) -> UserError:
    words = " and no ".join(WORDS[option] for option in options)
    flags = " and ".join(f"--student.{option}" for option in options)
    return UserError(f"{name} takes no {words}: leave {flags} out, or choose another model.")
