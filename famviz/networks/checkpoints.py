"""A network as it was after an epoch, from its checkpoints."""

import copy
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from famkd.errors import UserError, one_line
from famkd.models.weights import load_weights
from famkd.run.directory import Run
from famkd.run.scores import best_row

Checkpoint = str | Path | Mapping[str, Tensor]  # a file of weights, or a state dict
Checkpoints = Mapping[str, Mapping[int, Checkpoint]]  # by network and epoch


def best_checkpoint(run: Run) -> dict[int, Checkpoint]:
    """The epoch after which a run kept its best weights, and their state dict; {} where that is the last epoch."""
    rows = run.metrics()
    if not rows or best_row(rows) == len(rows) - 1 or not (run.path / "best.safetensors").is_file():
        return {}
    return {int(rows[best_row(rows)]["epoch"]): run.student_state(best=True)}


def network_at(model: nn.Module, checkpoint: Checkpoint) -> nn.Module:
    """A copy of a network with the weights of a checkpoint.

    Errors: UserError for a checkpoint that cannot be read or does not fit.
    """
    found = copy.deepcopy(model)
    if isinstance(checkpoint, str | Path):
        load_weights(found, checkpoint)
        return found
    try:
        found.load_state_dict(checkpoint)
    except RuntimeError as error:
        reason = one_line(error)
        raise UserError(f"A checkpoint does not fit the network: {reason}.") from error
    return found
