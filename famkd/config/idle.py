"""Settings of a recipe that have no effect, told before training: a recipe is used with other methods and schedules.

A setting at its default value is not named, except where the training would not do what its reader expects.
"""

from collections.abc import Iterator

from famkd.config.recipe import Data, Recipe
from famkd.data.split import read_split
from famkd.distill.types import Method
from famkd.errors import counted
from famkd.methods import METHODS

WITHOUT_STAGES = {"logits", "embed"}  # what methods may want that named taps do not replace


def idle_settings(recipe: Recipe) -> list[str]:
    """A sentence for each setting that has no effect next to the others."""
    return [*_of_schedule(recipe), *_of_weights(recipe), *_of_networks(recipe)]


def _of_schedule(recipe: Recipe) -> Iterator[str]:
    optim = recipe.optim
    epochs = optim.epochs
    late = [step for step in optim.steps if step >= epochs]
    if optim.schedule == "step" and late:
        kept = f": the learning rate stays at {optim.lr:g}" if len(late) == len(optim.steps) else ""
        yield f"--optim.steps {' '.join(map(str, late))} has no effect in {counted(epochs, 'epoch')}{kept}."
    if optim.lr_warmup >= epochs:
        yield f"--optim.lr_warmup {optim.lr_warmup} lasts all {epochs} epochs, so the schedule has no effect."
    if optim.patience >= epochs:
        yield f"--patience {optim.patience} has no effect in {counted(epochs, 'epoch')}."
    if recipe.data.val_seed != Data().val_seed and not (recipe.data.val and read_split(recipe.data.val).fraction):
        yield "--data.val_seed has no effect unless --data.val is a fraction of the training images."
    if optim.lr == 0:
        yield "--optim.lr 0 has the effect that nothing is learned."


def _of_weights(recipe: Recipe) -> Iterator[str]:
    epochs = recipe.optim.epochs
    sections = {name: recipe.section(name) for name in recipe.method_names}
    largest = max((section.task_weight for section in sections.values()), default=0.0)
    for name, section in sections.items():
        if not section.weight:
            yield f"--{name}.weight is 0, so {name} has no effect."
        if section.warmup > epochs:
            share = epochs / section.warmup
            yield (
                f"--{name}.warmup {section.warmup} is longer than the training of {counted(epochs, 'epoch')}, so the "
                f"weight of {name} only rises to {share * section.weight:.3g}."
            )
        if section.task_weight not in (largest, METHODS[name].task_weight):
            yield f"--{name}.task_weight {section.task_weight:g} has no effect next to a larger one, {largest:g}."
    if sections and not largest and not any(map(_trains_the_classifier, sections)):
        yield f"With task_weight 0 nothing trains the student's classifier: {recipe.method} compares features only."


def _trains_the_classifier(name: str) -> bool:
    """Whether a method's losses reach the student's classifier, or the method replaces it."""
    method = METHODS[name]
    return method.wants in ("logits", "last") or method.deploy_as is not Method.deploy_as


def _of_networks(recipe: Recipe) -> Iterator[str]:
    methods = [METHODS[name] for name in recipe.method_names]
    own = [method.wants for method in methods]
    others = [method.teacher_wants or method.wants for method in methods]
    for role, net, wants in (("student", recipe.student, own), ("teacher", recipe.teacher, others)):
        if net.taps and methods and not any(set(want.split("+")) - WITHOUT_STAGES for want in wants):
            yield f"--{role}.taps has no effect on {recipe.method}, which compares no stages."
    if not methods:
        if recipe.student.taps:
            yield "--student.taps has no effect without a method."
        teacher = recipe.teacher
        if named := teacher.model or teacher.store or teacher.weights:
            yield f"The teacher {named} has no effect without a method: pass --method to learn from it."
        if recipe.baseline:
            yield "--baseline has no effect without a method: the student is trained alone already."
