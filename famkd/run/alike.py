"""Recipes of runs that differ in their seed only, without parsing each of them."""

import re
from dataclasses import replace

from famkd.config.recipe import Recipe

SEED = re.compile(rb"^seed: (\d+)\r?\n", re.MULTILINE)  # only the fields of the recipe itself begin a line


def with_own_seed(text: bytes | None, other: tuple[bytes | None, Recipe] | None) -> Recipe | None:
    """The recipe of a recipe.yaml that differs from another one in its seed at most; None if it differs in more.

    Args:
        text: contents of the recipe.yaml.
        other: the contents of another one, and the recipe in it.
    """
    seed = SEED.search(text) if text else None
    if text is None or seed is None or other is None or other[0] is None:
        return None
    if SEED.sub(b"", text, count=1) != SEED.sub(b"", other[0], count=1):
        return None
    return replace(other[1], seed=int(seed[1]))
