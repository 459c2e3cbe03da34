"""Being one of the processes of a training: how many there are, how they join, and what happens when one is lost.

Every process runs the same `train`. torchrun, SLURM's srun or famkd itself starts them (famkd/training/launch.py).
"""

import contextlib
import gc
import logging
import os
import re
import warnings
from collections.abc import Iterator

import torch.distributed as dist
from lightning_fabric import Fabric

from famkd import distributed
from famkd.config.recipe import Recipe
from famkd.errors import UserError, started_by_famkd
from famkd.run.directory import Run
from famkd.training.build import build_fabric

LOST = re.compile(r"gloo|nccl|connection|peer|tcpstore|heartbeat|broken pipe", re.IGNORECASE)


def must_start_processes(recipe: Recipe) -> bool:
    """Whether a training needs several processes, and this is not yet one of them."""
    devices, nodes = processes(recipe)
    return devices * nodes > 1 and not {"LOCAL_RANK", "SLURM_PROCID"} & os.environ.keys()


def processes(recipe: Recipe) -> tuple[int, int]:
    """Processes per machine and number of machines: those of torchrun or SLURM, else those of the recipe.

    Errors: UserError where the two differ. SLURM counts only in tasks that srun started.
    """
    started, by = None, ""
    if dist.is_available() and dist.is_torchelastic_launched():
        each = int(os.environ["LOCAL_WORLD_SIZE"])
        started, by = (each, int(os.environ["WORLD_SIZE"]) // each), "torchrun"
    elif "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        tasks, nodes = int(os.environ["SLURM_NTASKS"]), int(os.environ.get("SLURM_NNODES", 1))
        started, by = (tasks // nodes, nodes), "SLURM"
    asked = (recipe.devices, recipe.nodes)
    if started and asked not in ((1, 1), started):
        raise UserError(
            f"{by} started {started[0]} processes on each of {started[1]} machines, but the recipe asks for --devices "
            f"{asked[0]} --nodes {asked[1]}: leave these two out, or make them agree."
        )
    return started or asked


@contextlib.contextmanager
def joined(recipe: Recipe, run: Run) -> Iterator[Fabric]:
    """Fabric in every process of a recipe's training, once all processes have joined.

    The training of a teacher or a baseline uses the processes of the training that asks for it.

    Errors: UserError where another process has ended; the run directory then holds the last epoch that all finished.
    """
    devices, nodes = processes(recipe)
    fabric = build_fabric(recipe, devices, nodes)
    if devices * nodes == 1 or dist.is_initialized():
        fabric.launch()  # uses the existing processes
        yield fabric
        return
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    # Strides of 1x1 convolutions in channels-last are ambiguous, which has no effect.
    warnings.filterwarnings("ignore", "Grad strides do not match")
    try:
        fabric.launch()
        yield fabric
        distributed.barrier()
    except RuntimeError as error:
        if not LOST.search(str(error)):
            raise
        if distributed.rank() > 0 or started_by_famkd():
            raise SystemExit(1) from None  # rank 0 says so, or the process that started this one
        raise UserError(lost(run)) from error
    finally:
        _leave_group()


def _leave_group() -> None:
    """Leave the process group and end its threads, which would abort a process that exits while they run."""
    if dist.is_initialized():
        group = dist.group.WORLD
        dist.destroy_process_group()
        gc.collect()  # what else refers to the group
        del group  # waits for the threads


def lost(run: Run) -> str:
    """What to tell the user when a process was lost."""
    return f"A process of this training has ended, so it cannot continue. {what_remains(run)}."


def what_remains(run: Run) -> str:
    """What the run directory holds, and how to continue."""
    epoch = len(run.metrics())
    return f"{run.path} holds epoch {epoch}; the same command with --resume continues, on any number of devices"
