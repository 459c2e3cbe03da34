"""A teacher's classifier for classes that its weights do not know: refused, or trained before it teaches."""

from collections.abc import Iterable, Mapping
from math import cos, pi

import torch
from torch import Tensor, nn

from famkd import distributed
from famkd.config.recipe import Recipe
from famkd.distill.types import Dataset, Method
from famkd.errors import UserError, counted
from famkd.features.taps import Tapped
from famkd.methods import METHODS
from famkd.models.heads import classifiers
from famkd.run.directory import Run
from famkd.tasks import TASKS
from famkd.training.networks import Built

STEP = 0.3  # the most by which the first step of the optimizer changes a logit


def with_trained_head(
    teacher: Built, recipe: Recipe, data: Dataset, run: Run | None = None, rehearsal: bool = False
) -> Built:
    """The teacher once its classifier knows the data's classes.

    Args:
        run: a run of this recipe that holds the classifier already.
        rehearsal: whether nothing is to be trained.

    Errors: UserError for methods that learn from a classifier with random weights.
    """
    if not recipe.teacher.finetune_head:
        if teacher.new_head:
            _refuse_classifier(recipe, teacher.new_head)
        return teacher
    layers = classifiers(teacher.model, len(data.classes))
    if not layers:
        raise UserError(f"No classifier is found in {recipe.teacher.model}: leave --teacher.finetune_head out.")
    if rehearsal:
        return teacher._replace(new_head="")
    saved = run.teacher_head() if run else {}
    if saved:
        teacher.model.load_state_dict(saved, strict=False)
        return teacher._replace(new_head="", head=saved)
    if teacher.new_head:
        start_at_zero(layers.values())
    loss = train_head(teacher.model, layers, data, recipe)
    epochs = recipe.teacher.finetune_head
    remark = f"its classifier was trained for {counted(epochs, 'epoch')}, with a loss of {loss:.3f} in the last one"
    return teacher._replace(new_head="", remarks=(*teacher.remarks, remark), head=head_state(teacher.model, layers))


def head_state(model: nn.Module, layers: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """State dict of some layers, by the names of the whole model."""
    prefixes = tuple(f"{path}." for path in layers)
    return {name: value.clone() for name, value in model.state_dict().items() if name.startswith(prefixes)}


def start_at_zero(layers: Iterable[nn.Module]) -> None:
    """Set the parameters of new classifiers to 0, so that every class starts with the same probability.

    The random weights that libraries draw can be so large (timm's for EfficientNet) that some hundred steps do not
    outgrow them.
    """
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)


def train_head(model: nn.Module, layers: Mapping[str, nn.Module], data: Dataset, recipe: Recipe) -> float:
    """Train some layers of a network in eval mode on the training set; returns the mean loss of the last epoch.

    The optimizer is AdamW, with a rate that suits the size of the features and falls to 0 along a cosine. No random
    number is drawn beside those of the data.
    """
    model.eval().requires_grad_(False)
    parameters = [p.requires_grad_() for layer in layers.values() for p in layer.parameters()]
    epochs, net, task = recipe.teacher.finetune_head, Tapped(model), TASKS[recipe.task]
    rate = _rate(net, next(iter(layers.values())), data)
    optimizer = torch.optim.AdamW(parameters, rate, weight_decay=0)
    losses: list[Tensor] = []
    for epoch in range(1, epochs + 1):
        losses.clear()
        for number, piece in enumerate(data.epoch(epoch)):
            done = (epoch - 1 + number / data.steps) / epochs
            for group in optimizer.param_groups:
                group["lr"] = rate * (1 + cos(pi * done)) / 2
            terms, _ = task.study(net, data.take(piece))
            loss = sum(terms.values())
            assert isinstance(loss, Tensor)
            optimizer.zero_grad()
            loss.backward()
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad = distributed.all_reduce_mean(parameter.grad)
            optimizer.step()
            losses.append(loss.detach())
    model.requires_grad_(False)
    return float(torch.stack(losses).mean())


@torch.no_grad()
def _rate(net: nn.Module, layer: nn.Module, data: Dataset) -> float:
    """The learning rate with which a step, which changes every weight by the rate, changes a logit by about `STEP`."""
    sums: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, args: sums.append(args[0].abs().flatten(1).sum(1).mean()))
    try:
        net(data.probe().images)
    finally:
        handle.remove()
    total = float(distributed.all_reduce_mean(sums[-1])) if sums else 1.0
    return STEP / max(total, 1.0)


def _refuse_classifier(recipe: Recipe, reason: str) -> None:
    for name in recipe.method_names:
        if learns_from_classifier(METHODS[name]):
            raise UserError(
                f"{name} learns from the teacher's classifier, which has random weights, because {reason}: pass "
                "--teacher.finetune_head 5 to train it first, weights for these classes, or a method that compares "
                "features, such as fam_review."
            )


def learns_from_classifier(method: type[Method]) -> bool:
    """Whether a method uses the teacher's logits or the weights of its classifier."""
    return method.uses_classifier or "logits" in (method.teacher_wants or method.wants)
