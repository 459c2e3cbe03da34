"""A distillation for a training loop of your own: one module, called with a batch, that returns the loss."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from famkd.config.load import known_methods
from famkd.config.sections import method_arguments, method_section
from famkd.distill.distiller import Distiller, total_loss
from famkd.distill.types import Batch, View
from famkd.errors import UserError, nearest
from famkd.features.taps import Tapped
from famkd.methods import METHODS
from famkd.ranges import check_ranges
from famkd.tasks.classification import Classification
from famkd.training.schedule import weights_of

IMAGES = ("pixel_values", "images", "image", "x")  # names of a batch that is a dictionary
TARGETS = ("labels", "label", "targets", "target", "y")

Criterion = Callable[[Tensor, Tensor], Tensor]  # logits (B, classes) and targets to a scalar


class DistillationLoss(NamedTuple):
    """What a distillation returns for one batch."""

    total: Tensor  # scalar: the weighted sum, to call `backward` on
    parts: dict[str, Tensor]  # each loss before its weight, without gradient, such as "task.ce" and "kd.kd"
    logits: Tensor  # the student's, (B, classes), for metrics


class Distillation(Distiller):
    """A student that learns from a teacher. `distill` builds it.

    Its parameters and its state dict are those of the student and of the methods. The teacher moves with it from device
    to device and stays in eval mode. `deployed` is the network to measure and save: the student, or what a method makes
    of it (SimKD).
    """

    task: "_OwnTask"  # pyright: ignore[reportIncompatibleVariableOverride]
    sections: dict[str, Any]
    own_weight: float | None = None
    epoch: int = 0  # counted from 1, for the warm-up of the methods' weights; 0 for full weights

    def forward(self, images: Any, targets: Tensor | None = None, index: Tensor | None = None) -> DistillationLoss:
        """The loss of a batch.

        Args:
            images: (B, C, H, W); or a whole batch as a tuple (images, targets) or a dictionary.
            targets: what the criterion takes, class indices (B,) by default. Not needed with a task weight of 0 by
                methods that look at no labels.
            index: positions (B,) of the images in the training set, for crd.
        """
        batch = _batch(images, targets, index)
        self._must_have_what_is_read(batch)
        losses, student, _ = self.losses(batch)
        assert student.logits is not None
        parts = {f"{group}.{name}": loss.detach() for group, terms in losses.items() for name, loss in terms.items()}
        return DistillationLoss(total_loss(losses, self.weights), parts, student.logits)

    def _must_have_what_is_read(self, batch: Batch) -> None:
        """UserError where a loss reads something that the batch does not have."""
        for name in self.sections:
            for part in METHODS[name].reads:
                if getattr(batch, part) is None:
                    raise UserError(f"{name} reads the {part} of a batch: pass {part}= with the images.")
        if batch.targets is None and self.weights["task"] and self.task.criterion is not None:
            raise UserError("The student's own loss needs targets: pass them with the images, or task_weight=0.")

    @property
    def weights(self) -> dict[str, float]:
        """The present weight of the task and of each method."""
        weights = weights_of(self.sections, self.epoch or None)
        return weights if self.own_weight is None else weights | {"task": self.own_weight}

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        super()._apply(fn, recurse)
        if self.teacher is not None:
            self.teacher._apply(fn)
        return self


def distill(
    student: nn.Module,
    teacher: nn.Module,
    methods: str | Sequence[str] = "fam_review",
    *,
    example: Any,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    criterion: Criterion | None = F.cross_entropy,
    task_weight: float | None = None,
    labels: Tensor | None = None,
    student_taps: Sequence[str] = (),
    teacher_taps: Sequence[str] = (),
    student_output: str = "",
    teacher_output: str = "",
) -> Distillation:
    """A module for your own training loop: called with a batch, it returns the weighted loss and its parts.

    The teacher is frozen and put in eval mode. Both networks must be on one device.

    Args:
        methods: names from `famkd ls methods`, joined by + or as a list.
        example: a real batch (images, targets), from which shapes are read.
        options: of each method, as in a recipe: {"kd": {"temperature": 2, "weight": 0.5}}. `weight`, `task_weight` and
            `warmup` are options of every method.
        criterion: the student's own loss of logits and targets; None for none.
        task_weight: its weight; by default the largest `task_weight` of the methods.
        labels: class (N,) of every training image, for crd.
        student_taps, teacher_taps: module paths of the stages to compare. Found automatically by default.
        student_output, teacher_output: where the logits are in what a network returns. Found automatically by default.

    Errors: UserError, one sentence, where the methods cannot teach this pair; a warning for options without effect.
    """
    names = known_methods("+".join([methods] if isinstance(methods, str) else methods))
    sections = {name: _section(name, (options or {}).get(name, {})) for name in names}
    if unused := set(options or {}) - set(names):
        raise UserError(f"There are options of {', '.join(sorted(unused))}, which is not among the methods.")
    probe = _batch(example)
    try:
        module = Distillation(
            _OwnTask(criterion), student, teacher, {name: METHODS[name] for name in names}, probe=probe, labels=labels,
            options={name: method_arguments(METHODS[name], vars(sections[name])) for name in names},
            student_taps=tuple(student_taps), teacher_taps=tuple(teacher_taps),
            student_output=student_output, teacher_output=teacher_output,
        )  # fmt: skip
    except ValueError as error:
        raise UserError(f"{'+'.join(names)} cannot teach this pair: {error}.") from error
    module.sections, module.own_weight = sections, task_weight
    _warn_of_idle_options(module)
    return module.to(probe.images.device)


def _warn_of_idle_options(module: Distillation) -> None:
    for name, method in module.methods.items():
        for option, why in method.idle_options().items():  # pyright: ignore[reportCallIssue]  (it is a Method)
            warnings.warn(f"The option {option} of {name} has no effect: {why}.", stacklevel=3)


class _OwnTask(Classification):
    """Classification by a criterion of the user's own."""

    def __init__(self, criterion: Criterion | None):
        self.criterion = criterion

    def study(self, net: Tapped, batch: Batch) -> tuple[dict[str, Tensor], View]:
        view = self.teach(net, batch)
        assert view.logits is not None
        if self.criterion is None or batch.targets is None:
            return {}, view
        return {"ce" if self.criterion is F.cross_entropy else "loss": self.criterion(view.logits, batch.targets)}, view


def _section(name: str, options: Mapping[str, Any]) -> Any:
    """The options of a method with their defaults; UserError for an unknown one or a value out of range."""
    kind = method_section(name)
    known = [each.name for each in fields(kind)]
    for option in options:
        if option not in known:
            raise UserError(f"{name} has no option {option!r}.{nearest(option, known)} See famkd train --help.")
    section = kind(**options)
    check_ranges(section, f"{name}.")
    return section


def _batch(images: Any, targets: Any = None, index: Any = None) -> Batch:
    """A batch from what loops pass on: tensors, a tuple or list of them, or a dictionary."""
    if isinstance(images, Mapping):
        images, targets = _named(images, IMAGES), _named(images, TARGETS) if targets is None else targets
    elif isinstance(images, tuple | list):
        images, targets, index = (*images, None, None)[:3]
    if not isinstance(images, Tensor) or images.ndim != 4:
        raise UserError("A batch is (images, targets) with images of shape (batch, channels, height, width).")
    return Batch(images, targets, index)


def _named(batch: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((batch[name] for name in names if name in batch), None)
