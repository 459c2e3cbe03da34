"""Several labels for each image: binary cross-entropy, and mean average precision."""

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from famkd import distributed
from famkd.distill.types import Batch, Method, Scores, View
from famkd.features.taps import Tapped
from famkd.tasks.base import ImageTask

ABSENT = -1.0  # average precision of a label that no image has


class Multilabel(ImageTask):
    """Images to any number of labels: the mean of a binary cross-entropy of each, and mean average precision.

    Methods that compare logits see each label as two classes, present and absent, so that a softmax over these is the
    sigmoid of its logit.
    """

    name = "multilabel"
    usual_data = "folder"
    outputs = "labels"

    def refuses(self, method: type[Method]) -> str:
        if "logits" in method.wants and not method.binary:
            return "compares the classes of an image, of which multilabel has several: take kd, wttm, or features"
        if method.needs_classes:
            return "needs the one class of each image, and multilabel has several: take kd, or features"
        return ""

    def study(self, net: Tapped, batch: Batch) -> tuple[dict[str, Tensor], View]:
        logits, feats = net(batch.images)
        loss = batch.over_labels(lambda targets: F.binary_cross_entropy_with_logits(logits, targets))
        return {"bce": loss}, View(two_classes(logits), feats, net.head)

    def teach(self, net: Tapped, batch: Batch) -> View:
        logits, feats = net(batch.images)
        return View(two_classes(logits), feats, net.head)

    def predicted(self, logits: Tensor) -> Tensor:
        """The probability of each label."""
        return logits.sigmoid()

    @torch.no_grad()
    def evaluate(self, model: nn.Module, batches: Iterable[Batch]) -> Scores:
        """mAP over the labels that some image has, F1 of all labels at a probability of 0.5, and AP of each label."""
        scores: list[np.ndarray] = []
        truths: list[np.ndarray] = []
        for batch in batches:
            scores.append(model(batch.images).float().cpu().numpy())
            truths.append(batch.targets.cpu().numpy())
        shares = distributed.all_gather_objects((scores, truths))
        score = np.concatenate([part for parts, _ in shares for part in parts])
        truth = np.concatenate([part for _, parts in shares for part in parts]) > 0
        by_label = [100 * average_precision(truth[:, n], score[:, n]) for n in range(truth.shape[1])]
        present = [value for value in by_label if value >= 0]
        named = score > 0
        right, wrong = int((named & truth).sum()), int((named ^ truth).sum())
        figures = {"mAP": float(np.mean(present)) if present else 0.0, "F1": 200 * right / max(1, 2 * right + wrong)}
        return Scores(figures, [value if value >= 0 else ABSENT for value in by_label])


def two_classes(logits: Tensor) -> Tensor:
    """Logits (B, labels) as logits (B * labels, 2) of present and absent; their softmax is the sigmoid of each."""
    flat = logits.reshape(-1, 1)
    return torch.cat((flat, torch.zeros_like(flat)), 1)


def average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """Area under the curve of precision over recall (N,) as a sum of steps; -1 where no image has the label."""
    from sklearn.metrics import average_precision_score

    if not truth.any():
        return ABSENT
    return float(average_precision_score(truth, scores))
