"""The peak memory of a recipe's training step on a GPU, computed without a GPU (see famkd/sweep/memory.py).

python benchmarks/memory.py imagenet/resnet50-MobileNetV1 [--data.batch_size 256] [--fam_review.filter dense] ...
"""

import sys

import torch

from famkd.command_line.main import exiting
from famkd.config.load import load_recipe
from famkd.config.recipe import Recipe
from famkd.config.sections import method_arguments
from famkd.distill.distiller import Distiller
from famkd.distill.types import Batch
from famkd.methods import METHODS
from famkd.models import build_model
from famkd.sweep.memory import StepMemory, step_memory
from famkd.tasks import Classification
from famkd.training.schedule import loss_weights


def random_batch(images: int, side: int) -> Batch:
    x = torch.randn(images, 3, side, side).to(memory_format=torch.channels_last)
    zeros = torch.zeros(images, dtype=torch.long)
    return Batch(x, zeros, zeros)


def recipe_memory(recipe: Recipe, classes: int = 1000, side: int = 224) -> StepMemory:
    """Memory of a step of a classification recipe with a teacher. The data set is not needed."""
    student = build_model(recipe.student.model, classes).to(memory_format=torch.channels_last)
    teacher = build_model(recipe.teacher.model, classes).to(memory_format=torch.channels_last)
    methods = {name: METHODS[name] for name in recipe.method_names}
    options = {name: method_arguments(method, vars(recipe.section(name))) for name, method in methods.items()}
    distiller = Distiller(
        Classification(),
        student,
        teacher,
        methods,
        options=options,
        probe=random_batch(2, side),
        labels=torch.arange(classes),
    )
    batch = random_batch(recipe.data.batch_size, side)
    return step_memory(distiller.train(), batch, recipe.optim, loss_weights(recipe, 1))


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        raise SystemExit(__doc__)
    recipe = load_recipe(sys.argv[1], *sys.argv[2:])
    memory = recipe_memory(recipe)
    kept, peak = memory.kept / 2**30, memory.peak / 2**30
    print(f"{recipe.name} {recipe.method}, batch {recipe.data.batch_size}: {kept:.1f} GiB kept, peak {peak:.1f} GiB")


if __name__ == "__main__":
    with exiting("memory.py"):
        main()
