"""famkd bench."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge

from famkd.cli.flags import Place
from famkd.cli.recipe_first import read_recipe
from famkd.errors import UserError


@dataclass(frozen=True)
class BenchFlags:
    """What to time. Not part of the recipe."""

    against: Literal["", "naive"] = ""
    """Also time a literal implementation of the method in the same process."""
    steps: Annotated[int, Ge(1)] = 20
    """Timed steps. The median is reported."""
    noise: bool = False
    """Use random 32 x 32 images instead of the recipe's data set."""
    attention: bool = False
    """Time each attention module instead of the whole step."""
    format: Literal["text", "json"] = "text"
    """Format of the figures."""
    save: Place = ""
    """Append a row to SAVE/<device>-<torch>.csv."""


def bench_command(argv: list[str]) -> None:
    """Time a recipe's training step: images/s, the parts of a step, and the share of the device's peak."""
    example = "famkd bench quickstart"
    own, recipe = read_recipe(argv, BenchFlags, prog="famkd bench", example=example, method="fam_review")
    if own.attention and (own.save or own.noise or own.against):
        raise UserError("--attention times modules, so it cannot be combined with --save, --noise or --against.")
    if own.attention:
        from famkd.bench.modules import cost_table

        print(cost_table(recipe, own.steps, own.format), end="")
        return
    from famkd.bench.step import as_json, as_text, bench, save_csv

    figures = bench(recipe, steps=own.steps, against_naive=bool(own.against), noise=own.noise)
    print(as_json(figures) if own.format == "json" else as_text(figures))
    if own.save:
        print(f"saved in {save_csv(figures, Path(own.save))}", file=sys.stderr)
