"""Object detection: a detector's own losses, and COCO's average precision."""

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from famkd import distributed
from famkd.distill.types import Batch, Engine, Method, Scores, View
from famkd.features.taps import Tapped
from famkd.models import DETECTORS
from famkd.tasks.coco_ap import Boxes, coco_figures

GRID = 16  # largest side of a filter: feature maps differ in size from batch to batch, and a full one fills a GPU


class Detection:
    """Images to boxes with a class: a detector's own four losses, and COCO's average precision in percent."""

    name = "detection"
    usual_data = "coco"
    outputs = "classes"
    models: Mapping[str, Callable[..., nn.Module]] | None = DETECTORS
    engine: Engine = "eager"  # images differ in size, so no step can be captured or compiled once
    folds_teacher = False
    measures_teacher = True
    returns_logits = False
    judged_by_teacher = False
    has_single_class = False

    def predicted(self, logits: Tensor) -> Tensor:
        raise NotImplementedError  # a detector returns no logits

    def refuses(self, method: type[Method]) -> str:
        if method.wants.startswith(("stages", "preact")) and not method.relates_images:
            return ""
        return (
            "compares what one image shows as a whole: detection takes methods that compare stages, such as fam, "
            "fam_review, reviewkd, mimic and at"
        )

    def option_defaults(self, options: Container[str]) -> dict[str, Any]:
        return {"grid": GRID} if "grid" in options else {}

    def prepare(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Give both networks one transform, so that they see the same pixels."""
        if teacher is not None:
            teacher.transform = student.transform

    def study(self, net: Tapped, batch: Batch) -> tuple[dict[str, Tensor], View]:
        losses, feats = net(batch.images, batch.targets)
        return {name.removeprefix("loss_"): loss for name, loss in losses.items()}, View(None, feats)

    def teach(self, net: Tapped, batch: Batch) -> View:
        """The view of the backbone: no method learns from a teacher's proposals and boxes."""
        detector: Any = net.model
        images, _ = detector.transform(batch.images)
        return View(None, net.through(detector.backbone, images.tensors)[1])

    @torch.no_grad()
    def evaluate(self, model: nn.Module, batches: Iterable[Batch]) -> Scores:
        """COCO's twelve figures, and the average precision of each class; -1 where there is nothing to find."""
        truths: list[Boxes] = []
        found: list[Boxes] = []
        for batch in batches:
            for image, truth, boxes in zip(batch.images, batch.targets, model(batch.images)):
                scale = _scale_to_stored(image, truth)
                truths.append(_scaled(truth, scale))
                found.append(_scaled(boxes, scale))
        shares = distributed.all_gather_objects((truths, found))
        detector: Any = model
        classes = detector.roi_heads.box_predictor.cls_score.out_features - 1
        figures, by_class = coco_figures(
            [truth for share, _ in shares for truth in share],
            [boxes for _, share in shares for boxes in share],
            classes,
        )
        return Scores(figures, by_class)


def _scale_to_stored(image: Tensor, truth: Boxes) -> Tensor:
    """Factors (4,) that bring x1 y1 x2 y2 of a resized image back to the image as stored."""
    h, w = image.shape[-2:]
    height, width = truth["size"].tolist()
    return truth["boxes"].new_tensor((width / w, height / h) * 2)


def _scaled(target: Boxes, scale: Tensor) -> Boxes:
    """A target with scaled boxes, on the CPU."""
    scaled = target | {"boxes": target["boxes"].float() * scale}
    return {key: value.cpu() for key, value in scaled.items()}
