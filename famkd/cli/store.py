"""famkd store."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

from famkd.config.builtin import find_recipe
from famkd.errors import UserError


@dataclass(frozen=True)
class StoreFlags:
    """What is stored, and where. Not part of the recipe. `--views K` is the number of augmentations of each image."""

    out: str = ""
    """Folder of the store. By default a folder in `stores`, named after teacher, data set and views."""
    features: tuple[Literal["stages", "preact", "embed", "last"], ...] = ()
    """Features to store beside the logits, as methods want them: the maps after each stage, these maps before their
    activation, the input of the classifier, the last map."""
    topk: Annotated[int, Ge(0)] = 0
    """Store the largest k logits of each image, and one number for the others, which then share their probability
    equally; 0 for all logits."""
    dtype: Literal["float16", "float32"] = "float16"
    """Type of the stored numbers."""
    runs: str = "runs"
    """Folder of run directories. Teachers are looked up here."""


def store_command(argv: list[str]) -> None:
    """Run a recipe's teacher once over the training images, and store what it returns for trainings without it."""
    if argv and argv[0] not in ("-h", "--help"):
        find_recipe(argv[0])  # before torch is imported
    from famkd.config.load import load_recipe, parse_known, parse_recipe

    if not argv or argv[0].startswith("-"):
        if not {"-h", "--help"} & {*argv}:
            raise UserError("Name a recipe or a file: famkd store quickstart --views 4, or one of `famkd ls recipes`.")
        parse_recipe({"method": "kd"}, ["--help"], name="recipe", prog="famkd store RECIPE", own=StoreFlags)
    source, *rest = argv
    own, flags = parse_known(StoreFlags, rest, prog=f"famkd store {source}")
    recipe = load_recipe(source, *flags, prog="famkd store", own=StoreFlags)
    from famkd.training.store import StoreOptions, store_teacher

    store_teacher(recipe, own.out, StoreOptions(own.features, own.topk, own.dtype), own.runs)
