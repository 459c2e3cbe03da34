"""Images without labels: the teacher alone teaches, and figures are agreement with it."""

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from famkd.distill.types import Batch, Engine, Method, Scores, View
from famkd.features.taps import Tapped
from famkd.tasks.classification import Classification


class Unlabelled:
    """Classes that only a teacher knows: no loss of the student's own, and agreement with the teacher in percent.

    agree1 counts the images in which student and teacher see the same class, agree5 those in which the teacher's class
    is among the student's first five.
    """

    name = "unlabelled"
    usual_data = "folder"
    models: Mapping[str, Callable[..., nn.Module]] | None = None
    engine: Engine = "auto"
    folds_teacher = True
    measures_teacher = False
    returns_logits = True
    judged_by_teacher = True
    has_single_class = False

    def refuses(self, method: type[Method]) -> str:
        if method.needs_classes:
            return (
                "needs the class of each image: without labels take kd, dist, wttm, or a method that compares features"
            )
        return ""

    def option_defaults(self, options: Container[str]) -> dict[str, Any]:
        return {"task_weight": 0.0} if "task_weight" in options else {}

    def prepare(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Nothing to do: both networks take the same normalised images."""

    def study(self, net: Tapped, batch: Batch) -> tuple[dict[str, Tensor], View]:
        """No loss: the methods are all that the student learns from."""
        return {}, self.teach(net, batch)

    def teach(self, net: Tapped, batch: Batch) -> View:
        logits, feats = net(batch.images)
        return View(logits, feats, net.head)

    def evaluate(self, model: nn.Module, batches: Iterable[Batch]) -> Scores:
        """Agreement with the teacher, whose class of each image is the target of the batches."""
        figures, _ = Classification().evaluate(model, batches)
        return Scores({"agree1": figures["top1"], "agree5": figures["top5"]})
