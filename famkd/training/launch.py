"""Starting the processes of one training, as torchrun does: by an elastic agent on each machine.

The agent starts them (famkd/training/worker.py), passes signals on to them, and ends all of them when one is lost.
"""

import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from famkd.config.plugins import for_processes
from famkd.config.recipe import Recipe
from famkd.errors import ROLE, TrainingStopped, UserError
from famkd.run.directory import Run
from famkd.training.build import build_fabric
from famkd.training.processes import lost, what_remains

SIGNALS = [name for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]  # Windows has no SIGUSR1
SAVING = 24 * 3600  # seconds that processes get to save their state after a signal; a scheduler sets its own limit
REPORTED = {error.__name__: error for error in (UserError, TrainingStopped, BrokenPipeError)}


def start_processes(recipe: Recipe, run: Run, resume: bool, runs: str | Path) -> None:
    """Train a recipe in new processes on this machine, and wait for their end.

    Errors: those of `train`, whichever process raised them; UserError where a process was lost.
    """
    rendezvous = _rendezvous(recipe.nodes)
    build_fabric(recipe, recipe.devices, recipe.nodes)  # reports missing devices before anything starts
    with tempfile.TemporaryDirectory() as folder, _environment():
        file = Path(folder) / "recipe.yaml"
        file.write_text(recipe.to_yaml(), encoding="utf-8")
        worker = ("-m", "famkd.training.worker", file, run.path, runs, "resume" if resume else "", *sys.argv)
        config = LaunchConfig(
            min_nodes=recipe.nodes, max_nodes=recipe.nodes, nproc_per_node=recipe.devices, max_restarts=0,
            run_id=ROLE, role=ROLE, signals_to_handle=",".join(SIGNALS), logs_specs=DefaultLogsSpecs(folder),
            **rendezvous,
        )  # fmt: skip
        try:
            elastic_launch(config, sys.executable)(*worker)
        except (ChildFailedError, SignalException) as end:
            if error := _why(end, folder, run):
                raise error from None
        except dist.DistError as error:
            raise UserError(f"The machines of this training do not find each other: {error}") from error


def _rendezvous(nodes: int) -> dict[str, Any]:
    """How the agents of all machines find each other, as options of LaunchConfig."""
    if nodes == 1:
        return {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "local_addr": "localhost"}
    address, port, rank = (os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK"))
    if not (address and port.isdecimal() and rank.isdecimal() and int(rank) < nodes):
        raise UserError(
            f"--nodes needs torchrun or SLURM, or MASTER_ADDR, MASTER_PORT and NODE_RANK (0 to {nodes - 1}) in each "
            "machine's environment."
        )
    return {"rdzv_backend": "static", "rdzv_endpoint": f"{address}:{port}", "rdzv_configs": {"rank": int(rank)}}


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """What new processes inherit. Environment and signal handlers of this process are restored at the end."""
    agent = logging.getLogger("torch.distributed.elastic")
    agent.addHandler(logging.NullHandler())
    agent.propagate = False  # famkd says in one sentence how the processes ended
    environment, handlers = dict(os.environ), {number: signal.getsignal(number) for number in signal.valid_signals()}
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
    os.environ |= {"PYTHONPATH": path, "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SAVING), **for_processes()}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        for number, handler in handlers.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def _why(end: ChildFailedError | SignalException, folder: str, run: Run) -> BaseException | None:
    """Why the processes ended: the error that one of them recorded, else what the agent noticed.

    None where a signal came, or a process was lost, after the training had finished.
    """
    for file in Path(folder).rglob("error.json"):
        with contextlib.suppress(ValueError):  # of a file that is not complete
            name, _, text = json.loads(file.read_text(encoding="utf-8"))["message"]["message"].partition(": ")
            if name in REPORTED:
                return REPORTED[name](text)
    if run.finished:
        return None
    if isinstance(end, ChildFailedError):
        return UserError(lost(run))
    if end.sigval == signal.SIGINT:
        return KeyboardInterrupt()
    return TrainingStopped(f"stopped by {end.sigval.name}; {what_remains(run)}")
