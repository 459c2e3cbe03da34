"""What "run the network" means for a task: the student studies, the teacher teaches, the result is measured."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from famkd import distributed
from famkd.distill.types import Batch, Task, View
from famkd.features.taps import Tapped
from famkd.tasks.coco_ap import coco_figures


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
        counts = torch.zeros(3, dtype=torch.int64, device=next(model.parameters()).device)
        for batch in batches:
            logits = model(batch.images)
            ranked = logits.topk(min(5, logits.shape[1]), 1).indices == batch.targets[:, None]
            counts[:2] += torch.stack((ranked[:, 0].sum(), ranked.any(1).sum()))
            counts[2] += len(ranked)
        top1, top5, seen = distributed.all_reduce_sum(counts).tolist()  # each process has counted its share
        return {"top1": 100 * top1 / max(1, seen), "top5": 100 * top5 / max(1, seen)}


class Detection:
    """Images to objects in them: a detector's own four losses, and COCO's average precision in percent."""

    def study(self, net: Tapped, batch: Batch) -> tuple[dict[str, Tensor], View]:
        losses, feats = net(batch.images, batch.targets)
        return {name.removeprefix("loss_"): loss for name, loss in losses.items()}, View(None, feats)

    def teach(self, net: Tapped, batch: Batch) -> View:
        """What the backbone showed; proposals and boxes of a teacher are nobody's to learn from."""
        images, _ = net.model.transform(batch.images)
        return View(None, net.through(net.model.backbone, images.tensors)[1])

    def evaluate(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
        return self.measure(model, batches)[0]

    @torch.no_grad()
    def measure(self, model: nn.Module, batches: Iterable[Batch]) -> tuple[dict[str, float], list[float]]:
        """COCO's twelve figures, and average precision of each class; -1 where there is nothing to find."""
        pairs = []
        for batch in batches:
            for image, truth, found in zip(batch.images, batch.targets, model(batch.images)):
                (h, w), (height, width) = image.shape[-2:], truth["size"].tolist()
                scale = truth["boxes"].new_tensor((width / w, height / h) * 2)  # back to the image as stored
                both = (truth | {"boxes": truth["boxes"] * scale}, found | {"boxes": found["boxes"].float() * scale})
                pairs.append([{key: value.cpu() for key, value in each.items()} for each in both])
        pairs = [pair for share in distributed.all_gather_objects(pairs) for pair in share]
        classes = model.roi_heads.box_predictor.cls_score.out_features - 1
        return coco_figures([truth for truth, _ in pairs], [found for _, found in pairs], classes)


TASKS: dict[str, type[Task]] = {"classification": Classification, "detection": Detection}
