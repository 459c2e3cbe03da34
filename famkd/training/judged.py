"""Test images without labels: the class that the teacher sees in each stands in for its label."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from famkd.config.recipe import Net, Recipe
from famkd.distill.types import Batch, Dataset, Task
from famkd.errors import UserError
from famkd.models import build_model
from famkd.models.matching import find_weights, misfit
from famkd.models.origin import library_origin
from famkd.models.weight_files import read_weights
from famkd.tasks import TASKS
from famkd.training.networks import origin_of
from famkd.training.places import weights_file

UNLIKELY = 3  # classes of a network that is built to find out how many its weights are for


class Judged:
    """A data set whose test and held-out images have the teacher's class as their label; all else is the data set's.

    The teacher looks at each image once, and its class is kept.
    """

    def __init__(self, data: Dataset, teacher: nn.Module):
        self._data, self._teacher = data, teacher
        self._seen: dict[tuple[str, int], Tensor] = {}  # by split and position of the first image of a batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def test(self, batch_size: int = 0) -> Iterator[Batch]:
        """This process's share of the test images, in order, with the teacher's classes."""
        return self._judged("test", self._data.test, batch_size)

    def val(self, batch_size: int = 0) -> Iterator[Batch]:
        """This process's share of the held-out images, as `test` yields test images."""
        return self._judged("val", self._data.val, batch_size)

    @torch.no_grad()
    def _judged(self, split: str, batches: Callable[[int], Iterator[Batch]], batch_size: int) -> Iterator[Batch]:
        for batch in batches(batch_size):
            first = int(batch.index[0])
            kept = self._seen.get((split, first))
            if kept is None or len(kept) != len(batch.index):
                kept = self._seen[split, first] = self._teacher(batch.images).argmax(1)
            yield batch._replace(targets=kept)


def judged(task: Task, data: Dataset, teacher: nn.Module | None) -> Dataset:
    """The data set, with the teacher's classes on its test images where the task wants these."""
    if not task.judged_by_teacher or teacher is None:
        return data
    return cast(Dataset, Judged(data, teacher))


def with_classes(recipe: Recipe, runs: str | Path = "runs") -> Recipe:
    """The recipe with the number of classes of its teacher, where the images have no labels.

    Errors: UserError where it cannot be found.
    """
    if not TASKS[recipe.task].judged_by_teacher or recipe.data.classes:
        return recipe
    classes = _classes_of(recipe.teacher, runs)
    if not classes:
        raise UserError(
            f"How many classes {recipe.teacher.weights} is for is not found: pass the number as --data.classes."
        )
    return replace(recipe, data=replace(recipe.data, classes=classes))


def _classes_of(net: Net, runs: str | Path) -> int:
    """The number of classes that the weights of a network are for; 0 if it is not found."""
    source, _, which = net.weights.partition(":")
    if source == "pretrained":
        return library_origin(net.model, which or True).classes or 0
    file, part = weights_file(net, runs)
    known = origin_of(file).classes
    if known is not None:
        return known
    if source == "recipe" and not file.exists():  # it is still to be trained
        return 0
    own = build_model(net.model, UNLIKELY, False).state_dict()
    found = find_weights(read_weights(file), own, part)
    if found is None:
        return 0
    wrong = misfit(found.state, own)
    rows = {len(found.state[name]) for name in wrong.misshapen if len(own[name]) == UNLIKELY}
    if not rows and not wrong.missing:
        return UNLIKELY
    return rows.pop() if len(rows) == 1 else 0
