"""What tasks have in common whose networks map normalised images of one size to one tensor."""

from collections.abc import Callable, Container, Mapping
from typing import Any

from torch import Tensor, nn

from famkd.distill.types import Batch, Engine, View
from famkd.features.taps import Tapped


class ImageTask:
    """The parts of `Task` that all tasks but detection share."""

    outputs = "classes"
    models: Mapping[str, Callable[..., nn.Module]] | None = None
    engine: Engine = "auto"
    folds_teacher = True
    measures_teacher = True
    returns_logits = True
    judged_by_teacher = False
    has_single_class = False

    def option_defaults(self, options: Container[str]) -> dict[str, Any]:
        return {}

    def prepare(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Nothing to do: both networks take the same normalised images."""

    def teach(self, net: Tapped, batch: Batch) -> View:
        logits, feats = net(batch.images)
        return View(logits, feats, net.head)

    def predicted(self, logits: Tensor) -> Tensor:
        """The logits themselves: only a task without a single class shows others."""
        return logits
