"""Images to numbers: smooth L1 or squared error, and the share of the variance that is explained (R2)."""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from famkd import distributed
from famkd.distill.types import Batch, Method, Scores, View
from famkd.features.taps import Tapped
from famkd.tasks.base import ImageTask

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"smooth_l1": F.smooth_l1_loss, "mse": F.mse_loss}


class Regression(ImageTask):
    """Images to one number or several: a mean loss of all numbers, R2 in percent and the mean absolute error (MAE).

    Args:
        loss: smooth_l1 or mse.
    """

    name = "regression"
    usual_data = "folder"
    outputs = "numbers"

    def __init__(self, loss: str = "smooth_l1"):
        self.loss = loss

    def with_loss(self, loss: str) -> "Regression":
        """The task with another loss of the student's own."""
        return Regression(loss)

    def refuses(self, method: type[Method]) -> str:
        if "logits" in method.wants or method.needs_classes:
            return "compares classes, and regression has none: take a method that compares features, such as fam_review"
        return ""

    def study(self, net: Tapped, batch: Batch) -> tuple[dict[str, Tensor], View]:
        view = self.teach(net, batch)
        numbers = view.logits
        assert numbers is not None
        return {self.loss: batch.over_labels(lambda targets: LOSSES[self.loss](numbers.float(), targets))}, view

    @torch.no_grad()
    def evaluate(self, model: nn.Module, batches: Iterable[Batch]) -> Scores:
        """R2 in percent, its mean over the numbers, and MAE in the unit of the targets."""
        images, sums = 0, torch.zeros(4, 1, dtype=torch.float64)
        for batch in batches:
            truth = batch.targets.cpu().double()  # on the CPU, as mps has no float64
            error = truth - model(batch.images).cpu().double()
            images += len(truth)
            sums = sums + torch.stack([truth.sum(0), truth.square().sum(0), error.square().sum(0), error.abs().sum(0)])
        shares = distributed.all_gather_objects((images, sums))
        count = max(1, sum(each for each, _ in shares))
        total, squares, wrong, absolute = sum((each for _, each in shares), torch.zeros(4, 1, dtype=torch.float64))
        spread = squares - total.square() / count
        explained = torch.where(spread > 0, 1 - wrong / spread.clamp(min=1e-12), torch.zeros_like(wrong))
        return Scores({"R2": 100 * float(explained.mean()), "MAE": float(absolute.mean() / count)})
