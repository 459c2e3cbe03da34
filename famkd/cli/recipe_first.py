"""The command lines of `famkd bench` and `famkd store`: a recipe, its flags, and flags of the command's own."""

from typing import TYPE_CHECKING, TypeVar

from famkd.command_line.parse import parse_known
from famkd.config.builtin import find_recipe
from famkd.errors import UserError

if TYPE_CHECKING:
    from famkd.config.recipe import Recipe  # it imports torch

Own = TypeVar("Own")


def read_recipe(argv: list[str], own: type[Own], *, prog: str, example: str, method: str) -> "tuple[Own, Recipe]":
    """The command's own flags and the recipe. `--help` prints and exits.

    Args:
        own: a dataclass of the command's own flags.
        prog: the command, such as "famkd bench".
        example: a command line, for the error without a recipe.
        method: the method whose options `--help` shows without a recipe.

    Errors: UserError for a command line that does not begin with a recipe.
    """
    if argv and argv[0] not in ("-h", "--help"):
        find_recipe(argv[0])  # before torch is imported
    from famkd.config.load import load_recipe, parse_recipe

    if not argv or argv[0].startswith("-"):
        if not {"-h", "--help"} & {*argv}:
            raise UserError(f"Name a recipe or a file: {example}, or one of `famkd ls recipes`.")
        parse_recipe({"method": method}, ["--help"], name="recipe", prog=f"{prog} RECIPE", own=own)
    source, *rest = argv
    parsed, flags = parse_known(own, rest, prog=f"{prog} {source}")
    return parsed, load_recipe(source, *flags, prog=prog, own=own)
