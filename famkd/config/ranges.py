"""Check the numbers of a recipe against the ranges in its types."""

from typing import Any

from famkd.distill.ranges import out_of_range, values_and_hints
from famkd.errors import RecipeError


def check_ranges(value: Any, prefix: str = "") -> None:
    """Raise RecipeError for the first field of a dataclass instance that lies outside of its annotated range.

    Fields are annotated with the constraints of `annotated_types`, as in `lr: Annotated[float, Ge(0)]` or
    `steps: tuple[Annotated[int, Ge(1)], ...]`. Nested dataclasses are checked too.

    Args:
        prefix: what stands in front of the fields' names in the error, such as "optim.".
    """
    for name, found, needed in out_of_range(*values_and_hints(value)):
        shown = " ".join(map(str, found)) if isinstance(found, tuple) else found
        raise RecipeError(f"--{prefix}{name} is {shown}: pass {needed}.", prefix + name)
