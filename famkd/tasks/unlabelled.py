"""Images without labels: the teacher alone teaches, and figures are agreement with it."""

from collections.abc import Container, Iterable
from typing import Any

from torch import Tensor, nn

from famkd.distill.types import Batch, Method, Scores, View
from famkd.features.taps import Tapped
from famkd.tasks.base import ImageTask
from famkd.tasks.classification import Classification


class Unlabelled(ImageTask):
    """Classes that only a teacher knows: no loss of the student's own, and agreement with the teacher in percent.

    agree1 counts the images in which student and teacher see the same class, agree5 those in which the teacher's class
    is among the student's first five.
    """

    name = "unlabelled"
    usual_data = "folder"
    measures_teacher = False
    judged_by_teacher = True

    def refuses(self, method: type[Method]) -> str:
        if method.needs_classes:
            return (
                "needs the class of each image: without labels take kd, dist, wttm, or a method that compares features"
            )
        return ""

    def option_defaults(self, options: Container[str]) -> dict[str, Any]:
        return {"task_weight": 0.0} if "task_weight" in options else {}

    def study(self, net: Tapped, batch: Batch) -> tuple[dict[str, Tensor], View]:
        """No loss: the methods are all that the student learns from."""
        return {}, self.teach(net, batch)

    def evaluate(self, model: nn.Module, batches: Iterable[Batch]) -> Scores:
        """Agreement with the teacher, whose class of each image is the target of the batches."""
        figures, _ = Classification().evaluate(model, batches)
        return Scores({"agree1": figures["top1"], "agree5": figures["top5"]})
