"""famkd store."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

from famkd.cli.flags import Place
from famkd.cli.recipe_first import read_recipe


@dataclass(frozen=True)
class StoreFlags:
    """What is stored, and where. Not part of the recipe. `--views K` is the number of augmentations of each image."""

    out: Place = ""
    """Folder of the store. By default a folder in `stores`, named after teacher, data set and views."""
    features: tuple[Literal["stages", "preact", "embed", "last"], ...] = ()
    """Features to store beside the logits, as methods want them: the maps after each stage, these maps before their
    activation, the input of the classifier, the last map."""
    topk: Annotated[int, Ge(0)] = 0
    """Store the largest k logits of each image, and one number for the others, which then share their probability
    equally; 0 for all logits."""
    dtype: Literal["float16", "float32"] = "float16"
    """Type of the stored numbers."""
    runs: Place = "runs"
    """Folder of run directories. Teachers are looked up here."""


def store_command(argv: list[str]) -> None:
    """Run a recipe's teacher once over the training images, and store what it returns for trainings without it."""
    example = "famkd store quickstart --views 4"
    own, recipe = read_recipe(argv, StoreFlags, prog="famkd store", example=example, method="kd")
    from famkd.training.store import StoreOptions, store_teacher

    store_teacher(recipe, own.out, StoreOptions(own.features, own.topk, own.dtype), own.runs)
