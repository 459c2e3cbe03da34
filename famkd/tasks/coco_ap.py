"""Average precision of boxes as COCO counts it, by pycocotools."""

import contextlib
import io
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from famkd.errors import UserError

FIGURES = (
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
    "AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large",
)  # fmt: skip
ABSENT = -1.0  # what pycocotools answers where there is nothing to find, of no small object for instance

Boxes = dict[str, Tensor]


def coco_figures(truths: Sequence[Boxes], found: Sequence[Boxes], classes: int) -> tuple[dict[str, float], list[float]]:
    """COCO's twelve figures in percent, AP first, and AP of each class; -1 where there is nothing to find.

    Args:
        truths: of each image boxes (N, 4) as x1 y1 x2 y2 in pixels, labels (N,) in 1..classes, area (N,), iscrowd (N,).
        found: of each image boxes (M, 4), labels (M,) and scores (M,).
    """
    try:
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise UserError("Average precision needs the package pycocotools: pip install famkd[detection]") from error
    with contextlib.redirect_stdout(io.StringIO()):  # it reports progress by print
        judge = COCOeval(_table(truths, classes), _table(found, classes), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    precision = judge.eval["precision"][..., 0, -1]  # thresholds, recalls, classes; all areas, at most 100 boxes
    by_class = [values[values > -1] for values in np.moveaxis(precision, 2, 0)]
    figures = dict(zip(FIGURES, map(_percent, judge.stats.tolist()), strict=True))
    return figures, [_percent(float(values.mean())) if len(values) else ABSENT for values in by_class]


def _percent(share: float) -> float:
    return ABSENT if share < 0 else 100 * share


def _table(images: Sequence[Boxes], classes: int):
    """Boxes as pycocotools keeps them, of truths and of findings alike."""
    from pycocotools.coco import COCO

    table, notes = COCO(), []
    for image, held in enumerate(images):
        columns = {key: value.tolist() for key, value in held.items() if key in ("labels", "scores", "area", "iscrowd")}
        for n, (x1, y1, x2, y2) in enumerate(held["boxes"].tolist()):
            own = {key: values[n] for key, values in columns.items()}
            notes.append({
                "id": len(notes) + 1, "image_id": image, "category_id": own["labels"],
                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": own.get("area", (x2 - x1) * (y2 - y1)),
                "iscrowd": int(own.get("iscrowd", 0)), "score": own.get("scores", 1.0),
            })  # fmt: skip
    table.dataset = {
        "images": [{"id": image} for image in range(len(images))],
        "categories": [{"id": label} for label in range(1, classes + 1)],
        "annotations": notes,
    }
    table.createIndex()
    return table
