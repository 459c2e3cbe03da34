"""Average precision of boxes as COCO defines it, computed by pycocotools."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from famkd.errors import UserError

FIGURES = (
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
    "AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large",
)  # fmt: skip
ABSENT = -1.0  # what pycocotools returns where there is nothing to find, for example no small object
COLUMNS = ("labels", "scores", "area", "iscrowd")

Boxes = dict[str, Tensor]


def coco_figures(truths: Sequence[Boxes], found: Sequence[Boxes], classes: int) -> tuple[dict[str, float], list[float]]:
    """COCO's twelve figures in percent, AP first, and AP of each class; -1 where there is nothing to find.

    Args:
        truths: for each image boxes (N, 4) as x1 y1 x2 y2 in pixels, labels (N,) in 1..classes, area and iscrowd (N,).
        found: for each image boxes (M, 4), labels (M,) and scores (M,).
    """
    try:
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise UserError("Average precision needs the package pycocotools: pip install famkd[detection]") from error
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        judge = COCOeval(_table(truths, classes), _table(found, classes), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    precision = judge.eval["precision"][..., 0, -1]  # thresholds, recalls, classes; all areas, at most 100 boxes
    figures: dict[str, float] = {}
    for name, share in zip(FIGURES, judge.stats.tolist(), strict=True):
        figures[name] = _percent(share)
    by_class = []
    for values in np.moveaxis(precision, 2, 0):
        known = values[values > -1]
        by_class.append(_percent(float(known.mean())) if len(known) else ABSENT)
    return figures, by_class


def _percent(share: float) -> float:
    return ABSENT if share < 0 else 100 * share


def _table(images: Sequence[Boxes], classes: int) -> Any:
    """Ground truth or detections as a table of pycocotools."""
    from pycocotools.coco import COCO

    annotations: list[dict[str, Any]] = []
    for image, held in enumerate(images):
        for place in range(len(held["boxes"])):
            annotations.append({"id": len(annotations) + 1, "image_id": image, **_annotation(held, place)})
    table: Any = COCO()
    table.dataset = {
        "images": [{"id": image} for image in range(len(images))],
        "categories": [{"id": label} for label in range(1, classes + 1)],
        "annotations": annotations,
    }
    table.createIndex()
    return table


def _annotation(held: Boxes, place: int) -> dict[str, Any]:
    """One box of an image, with the defaults of what detections or ground truth lack."""
    x1, y1, x2, y2 = held["boxes"][place].tolist()
    own = {key: values[place].item() for key, values in held.items() if key in COLUMNS}
    return {
        "category_id": own["labels"],
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": own.get("area", (x2 - x1) * (y2 - y1)),
        "iscrowd": int(own.get("iscrowd", 0)),
        "score": own.get("scores", 1.0),
    }
