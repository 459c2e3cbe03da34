"""What a task wants to know of an image: a class, several labels, numbers, or nothing. An array has a row an image."""

import numpy as np
from torch import Tensor

from famkd.errors import UserError

LABELLED = ("classification", "multilabel", "regression")
ALL = (*LABELLED, "unlabelled")  # tasks for which data sets of images of one's own are read


def one_class_each(targets: Tensor) -> Tensor | None:
    """Targets that are class indices (N,); None for several labels (N, labels) and for none at all (N, 0)."""
    return targets if targets.ndim == 1 else None


def without_labels(images: np.ndarray | int) -> np.ndarray:
    """The targets (N, 0) of images without labels."""
    return np.zeros((images if isinstance(images, int) else len(images), 0), np.float32)


def checked_targets(values: np.ndarray, task: str, where: str) -> np.ndarray:
    """Targets (N, labels) as float32: 0 or 1 for each label (multilabel), or numbers (regression).

    Errors: UserError, which begins with `where`, for other values.
    """
    rows = values[:, None] if values.ndim == 1 and task == "regression" else values
    if rows.ndim != 2 or not rows.shape[1] or rows.dtype.kind not in "iufb":
        wanted = "a row of 0 and 1, one for each label" if task == "multilabel" else "a number, or a row of numbers"
        raise UserError(f"{where} {values.dtype} of shape {values.shape}: each image needs {wanted}.")
    targets = rows.astype(np.float32)
    if not np.isfinite(targets).all():
        raise UserError(f"{where} numbers that are not finite: leave images without a label out.")
    if task == "multilabel" and not np.isin(targets, (0, 1)).all():
        raise UserError(f"{where} {targets.min():g} to {targets.max():g}: each label of an image is 0 or 1.")
    return targets
