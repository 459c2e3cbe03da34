"""Image classification: cross-entropy, and top-1 and top-5 accuracy."""

from collections.abc import Iterable
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from famkd import distributed
from famkd.distill.types import Batch, Method, Scores, View
from famkd.features.taps import Tapped
from famkd.tasks.base import ImageTask


class Classification(ImageTask):
    """Images to one of several classes: cross-entropy, and top-1 and top-5 accuracy in percent."""

    name = "classification"
    usual_data = "cifar100"
    has_single_class = True

    def __init__(self, label_smoothing: float = 0.0):
        self.label_smoothing = label_smoothing

    def smoothed(self, label_smoothing: float) -> "Classification":
        """The task with label smoothing in the student's cross-entropy."""
        return Classification(label_smoothing)

    def refuses(self, method: type[Method]) -> str:
        return ""

    def study(self, net: Tapped, batch: Batch) -> tuple[dict[str, Tensor], View]:
        view = self.teach(net, batch)
        assert view.logits is not None
        logits, smoothing, weights = view.logits, self.label_smoothing, batch.class_weights

        def loss(targets: Tensor) -> Tensor:
            if weights is None:
                return F.cross_entropy(logits, targets, label_smoothing=smoothing)
            losses = F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
            return (losses * weights[targets]).mean()

        return {"ce": batch.over_labels(loss)}, view

    @torch.no_grad()
    def evaluate(self, model: nn.Module, batches: Iterable[Batch]) -> Scores:
        held = chain(model.parameters(), model.buffers(), [torch.zeros(0)])
        counts = torch.zeros(3, dtype=torch.int64, device=next(held).device)
        for batch in batches:
            logits = model(batch.images)
            ranked = logits.topk(min(5, logits.shape[1]), 1).indices == batch.targets[:, None]
            counts[0] += ranked[:, 0].sum()
            counts[1] += ranked.any(1).sum()
            counts[2] += len(ranked)
        top1, top5, images = distributed.all_reduce_sum(counts).tolist()
        images = max(1, images)
        return Scores({"top1": 100 * top1 / images, "top5": 100 * top5 / images})
