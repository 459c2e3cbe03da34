"""What a training step of a recipe holds at most on a GPU, computed without one (famkd/memory.py tells how).

python benchmarks/memory.py imagenet/resnet50-MobileNetV1 [--data.batch_size 256] [--fam_review.filter dense] ...
"""

import sys

import torch

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


def batch(images: int, side: int) -> Batch:
    x = torch.randn(images, 3, side, side).to(memory_format=torch.channels_last)
    return Batch(x, torch.zeros(images, dtype=torch.long), torch.zeros(images, dtype=torch.long))


def held(recipe: Recipe, classes: int = 1000, side: int = 224) -> StepMemory:
    """Bytes of a classification recipe's step; networks and methods are built, data is not needed."""
    nets = [build_model(net.model, classes) for net in (recipe.student, recipe.teacher)]
    student, teacher = (net.to(memory_format=torch.channels_last) for net in nets)
    methods = {name: METHODS[name] for name in recipe.method_names}
    options = {name: method_arguments(method, vars(recipe.section(name))) for name, method in methods.items()}
    labels = torch.arange(classes)
    distiller = Distiller(
        Classification(), student, teacher, methods, options=options, probe=batch(2, side), labels=labels
    )
    whole = batch(recipe.data.batch_size, side)
    return step_memory(distiller.train(), whole, recipe.optim, loss_weights(recipe, 1))


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        raise SystemExit(__doc__)
    recipe = load_recipe(sys.argv[1], *sys.argv[2:])
    kept, most = (size / 2**30 for size in held(recipe))
    print(f"{recipe.name} {recipe.method}, batch {recipe.data.batch_size}: {kept:.1f} GiB kept, {most:.1f} GiB at most")


if __name__ == "__main__":
    main()
