"""Tasks by name: what networks do with an image."""

from famkd.distill.types import Task
from famkd.tasks.classification import Classification
from famkd.tasks.detection import Detection
from famkd.tasks.multilabel import Multilabel
from famkd.tasks.regression import Regression
from famkd.tasks.unlabelled import Unlabelled

TASKS: dict[str, Task] = {
    "classification": Classification(),
    "detection": Detection(),
    "multilabel": Multilabel(),
    "regression": Regression(),
    "unlabelled": Unlabelled(),
}


def task_of_model(model: str) -> str:
    """Name of the task that has a network of this name; classification for any other name."""
    for name, task in TASKS.items():
        if task.models is not None and model in task.models:
            return name
    return "classification"
