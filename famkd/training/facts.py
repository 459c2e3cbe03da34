"""What was found before the first epoch, kept in the run for its readers and for a resumed training."""

import json
from typing import Any

from famkd.distill.types import Dataset
from famkd.errors import UserError
from famkd.files import digest
from famkd.run.directory import Run
from famkd.training.networks import Built

DATA = ("classes", "images", "labels")  # what tells one data set from another, wherever it lies
PIXELS = ("size", "mean", "std")  # of images held in memory, mean and std are those of the training images


def facts_of(data: Dataset, student: Built, teacher: Built | None) -> dict[str, Any]:
    """The classes and images of a data set, how the networks take these images, and which weights the teacher has."""
    labels = data.labels
    facts: dict[str, Any] = {
        "classes": [*data.classes],
        "images": {"train": data.n_train, "test": data.n_test},
        "labels": None if labels is None else digest({"labels": labels.cpu()}),
        "size": data.size,
        "mean": data.mean,
        "std": data.std,
        "student": student.pixels.as_dict() if student.pixels else None,
    }
    if teacher is not None:
        pixels = teacher.pixels.as_dict() if teacher.pixels else {}
        facts["teacher"] = {**pixels, "weights": digest(teacher.model.state_dict())}
    return facts


def same_data(one: Run, other: Run | None) -> bool:
    """Whether two runs are of the same classes and images, as far as they know."""
    if other is None:
        return False
    return all(one.facts.get(key) == other.facts.get(key) for key in DATA)


def must_be_same(before: dict[str, Any], now: dict[str, Any]) -> None:
    """UserError where a resumed training would go on with other data or another teacher than it began with."""
    now = json.loads(json.dumps(now))  # as the run has kept them
    for key in (*DATA, *PIXELS):
        if key in before and before[key] != now[key]:
            raise UserError(
                f"The data set has other {key} than when this run began, so it is another one: name the run's own data "
                "by --data.root, or pass another --out."
            )
    teachers = [facts.get("teacher", {}).get("weights") for facts in (before, now)]
    if all(teachers) and teachers[0] != teachers[1]:
        raise UserError(
            "The teacher has other weights than when this run began: name its file by --teacher.weights, or pass "
            "another --out."
        )
