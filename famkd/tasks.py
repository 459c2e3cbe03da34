"""What "run the network" means for a task: the student studies, the teacher teaches, the result is measured."""

from collections.abc import Iterable
from typing import Protocol

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from famkd import ranks
from famkd.method import Batch, View
from famkd.metrics import coco_figures
from famkd.taps import Tapped


class Task(Protocol):
    """The two lines in which classification and detection differ, and how each is scored."""

    def study(self, net: Tapped, batch: Batch) -> tuple[dict[str, Tensor], View]:
        """The student's own losses by name, and what it showed."""

    def teach(self, net: Tapped, batch: Batch) -> View:
        """What the teacher showed."""

    def evaluate(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
        """Figures on held-out data; the first one ranks epochs."""


class Classification:
    """Images to one of several classes: cross-entropy, and top-1 and top-5 accuracy in percent."""

    def study(self, net: Tapped, batch: Batch) -> tuple[dict[str, Tensor], View]:
        view = self.teach(net, batch)
        return {"ce": F.cross_entropy(view.logits, batch.targets)}, view

    def teach(self, net: Tapped, batch: Batch) -> View:
        logits, feats = net(batch.images)
        return View(logits, feats, net.head)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
        seen, hits = 0, 0
        for batch in batches:
            logits = model(batch.images)
            ranked = logits.topk(min(5, logits.shape[1]), 1).indices == batch.targets[:, None]
            hits = hits + torch.stack((ranked[:, 0].sum(), ranked.any(1).sum()))
            seen += len(batch.targets)
        top1, top5 = (100 * hits.double() / seen).tolist()
        return {"top1": top1, "top5": top5}
