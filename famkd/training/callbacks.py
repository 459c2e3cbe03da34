"""Callbacks of a training: functions or objects of the user's own, called between its steps and epochs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from famkd.config.recipe import Recipe
from famkd.distill.distiller import Distiller
from famkd.distill.types import Dataset
from famkd.errors import UserError, nearest
from famkd.run.directory import Run

EVENTS = ("on_train_begin", "on_epoch_begin", "on_step_end", "on_epoch_end", "on_train_end")


@dataclass
class Moment:
    """Where a training is. Callbacks may read everything and change networks and optimizer in place."""

    run: Run
    recipe: Recipe
    data: Dataset
    distiller: Distiller
    optimizer: torch.optim.Optimizer
    metrics: list[dict[str, Any]] = field(default_factory=list)  # rows of all finished epochs, as in metrics.jsonl
    epoch: int = 0  # counted from 1; before the first epoch the number of finished ones
    step: int = 0  # steps of this epoch that are done

    @property
    def student(self) -> nn.Module:
        """The student's network, which is being trained."""
        return self.distiller.student.model

    @property
    def deployed(self) -> nn.Module:
        """The network that is measured and exported: the student, or what a method makes of it (SimKD)."""
        return self.distiller.deployed


class Callbacks:
    """The functions to call at each event, in the order in which they were given.

    Args:
        given: functions that are named after an event, such as `on_epoch_end`, and objects with methods of such names.

    Errors: UserError for something that is called at no event, and for a name that begins with `on_` and is no event.
    """

    def __init__(self, given: Iterable[Any] = ()):
        self._functions: dict[str, list[Callable[[Moment], Any]]] = {event: [] for event in EVENTS}
        self.given = list(given)
        for each in self.given:
            found = _events_of(each)
            for event, function in found.items():
                self._functions[event].append(function)

    def __call__(self, event: str, moment: Moment) -> None:
        """Call what belongs to an event. Exceptions end the training."""
        for function in self._functions[event]:
            function(moment)


def _events_of(given: Any) -> dict[str, Callable[[Moment], Any]]:
    """The functions of one callback, by event."""
    name = getattr(given, "__name__", "")
    if callable(given) and name in EVENTS:
        return {name: given}
    for own in (name, *dir(given)):
        if own.startswith("on_") and own not in EVENTS:
            raise UserError(f"There is no event {own}.{nearest(own, EVENTS)} Events are {', '.join(EVENTS)}.")
    found = {event: getattr(given, event) for event in EVENTS if hasattr(given, event)}
    if not found:
        raise UserError(
            f"The callback {name or type(given).__name__} is called at no event: name a function, or the methods of an "
            f"object, {', '.join(EVENTS)}."
        )
    return found
