"""A moving average of the student's weights (EMA), measured and saved beside the student itself."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from famkd.distill.distiller import Distiller, freeze
from famkd.distill.types import Batch
from famkd.run.scores import EMA


class Averaged:
    """The exponential moving average of a network's weights and running statistics over the steps of a training.

    The decay rises from 0 to the given one in the first steps, as 1 - step^(-2/3), so that the average does not keep
    the random weights of the start (timm's ModelEmaV3).

    Args:
        network: the network to measure and export; it is copied.
        decay: share of the old average that a step keeps.
    """

    def __init__(self, network: nn.Module, decay: float):
        from timm.utils.model_ema import ModelEmaV3

        self._source = network
        self._average = ModelEmaV3(network, decay=decay, use_warmup=True)
        self.network: nn.Module = freeze(self._average.module)
        self.steps = 0

    def update(self) -> None:
        """Take in the weights after one more step."""
        self.steps += 1
        self._average.update(self._source, step=self.steps)

    def state(self) -> dict[str, Any]:
        return {"steps": self.steps, "weights": self.network.state_dict()}

    def set_state(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        self.network.load_state_dict(state["weights"])


def measure(
    distiller: Distiller, averaged: Averaged | None, batches: Callable[[], Iterable[Batch]]
) -> dict[str, float]:
    """Figures of the deployed network by name, then those of the averaged one, named ema_top1 and so on."""
    figures = dict(distiller.task.evaluate(distiller.deployed, batches()).figures)
    if averaged is not None:
        others = distiller.task.evaluate(averaged.network, batches()).figures
        figures |= {EMA + name: value for name, value in others.items()}
    return figures
