"""The command lines of `famkd bench` and `famkd store`: a recipe, its flags, and flags of the command's own."""

from typing import TYPE_CHECKING, TypeVar

from famkd.command_line.parse import parse_known
from famkd.config.builtin import find_recipe
from famkd.errors import UserError

if TYPE_CHECKING:
    from famkd.config.recipe import Recipe  # it imports torch

Own = TypeVar("Own")


def read_recipe(argv: list[str], own: type[Own], *, prog: str, example: str, method: str) -> "tuple[Own, Recipe]":
    """The command's own flags and the recipe, which may be one of flags alone. `--help` prints and exits.

    Args:
        own: a dataclass of the command's own flags.
        prog: the command, such as "famkd bench".
        example: a command line, for the error without a recipe.
        method: the method whose options `--help` shows without a recipe.

    Errors: UserError for a command line that neither begins with a recipe nor names a student.
    """
    source = argv[0] if argv and not argv[0].startswith("-") else ""
    if source:
        find_recipe(source)  # before torch is imported
    from famkd.config.load import load_recipe, parse_recipe

    if not source and not names_a_student(argv):
        if not {"-h", "--help"} & {*argv}:
            raise UserError(
                f"Name a recipe or a file: {example}, or one of `famkd ls recipes`; or networks of your own by "
                "--student.model, --teacher.model and --teacher.weights, as for famkd train."
            )
        parse_recipe({"method": method}, ["--help"], name="recipe", prog=f"{prog} RECIPE", own=own)
    parsed, flags = parse_known(own, argv[1:] if source else argv, prog=f"{prog} {source}".rstrip())
    return parsed, load_recipe(source, *flags, prog=prog, own=own)


def names_a_student(argv: list[str]) -> bool:
    """Whether flags name a student, so that no recipe is needed."""
    return any(word.partition("=")[0] in ("--student.model", "--student-model") for word in argv)
