"""The processes of one training: how they are started, and what happens when one of them is lost.

Every process runs the same `train`. torchrun and SLURM start all of them. Without those, the first process starts the
others of its machine: each runs `famkd train` with the recipe in a file, and the processes watch each other. To train
on several machines without torchrun or SLURM, start famkd on each of them with MASTER_ADDR, MASTER_PORT and NODE_RANK
in the environment.
"""

import contextlib
import logging
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch.distributed as dist
from lightning_fabric import Fabric

from famkd import distributed
from famkd.config.plugins import for_processes
from famkd.config.recipe import Recipe
from famkd.errors import UserError
from famkd.run.directory import Run
from famkd.training.build import build_fabric

GRACE = 5.0  # seconds that a process gets to print its own error before it is killed
LOST = re.compile(r"gloo|nccl|connection|peer|tcpstore|heartbeat|broken pipe", re.IGNORECASE)
PARENT = "FAMKD_STARTED_BY"


@contextlib.contextmanager
def launched(recipe: Recipe, run: Run, resume: bool, runs: str | Path) -> Iterator[Fabric]:
    """Fabric in every process of a recipe's training, once all processes have joined.

    The training of a teacher or a baseline uses the processes of the training that asks for it.

    Errors: UserError where another process has ended; the run directory then holds the last epoch that all finished.
    """
    devices, nodes = processes(recipe)
    if devices * nodes == 1:
        yield build_fabric(recipe)
        return
    fabric = build_fabric(recipe, devices, nodes)
    if dist.is_initialized():
        fabric.launch()  # joins the existing processes
        yield fabric
        return
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    # Strides of 1x1 convolutions in channels-last are ambiguous, which has no effect.
    warnings.filterwarnings("ignore", "Grad strides do not match")
    with _other_processes(recipe, run, resume, runs, devices, nodes), _leave_group():
        try:
            fabric.launch()
            yield fabric
            distributed.barrier()
        except RuntimeError as error:
            if not LOST.search(str(error)):
                raise
            if distributed.rank() > 0:
                time.sleep(1)
                if not _orphan():
                    raise SystemExit(1) from None  # rank 0 prints the error, or the process that started this one
            raise UserError(_lost(run)) from error


@contextlib.contextmanager
def _leave_group() -> Iterator[None]:
    """Leave the process group at the end: its threads abort a process that exits while they run."""
    try:
        yield
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


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
def _other_processes(
    recipe: Recipe, run: Run, resume: bool, runs: str | Path, devices: int, nodes: int
) -> Iterator[None]:
    """Start the other processes of this machine, unless torchrun or SLURM did, and end them at the end."""
    if PARENT in os.environ:
        _watch(_orphan, run, [])
    if any(name in os.environ for name in ("LOCAL_RANK", "SLURM_PROCID")):
        yield
        return
    if nodes > 1 and not {"MASTER_ADDR", "MASTER_PORT", "NODE_RANK"} <= os.environ.keys():
        raise UserError(
            "--nodes needs torchrun or SLURM, or MASTER_ADDR, MASTER_PORT and NODE_RANK in each machine's environment."
        )
    before = dict(os.environ)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "NODE_RANK": "0"} | before
    os.environ |= {"WORLD_SIZE": str(devices * nodes), "LOCAL_WORLD_SIZE": str(devices), "LOCAL_RANK": "0"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "recipe.yaml"
        file.write_text(recipe.to_yaml(), encoding="utf-8")
        command = [sys.executable, "-m", "famkd", "train", str(file), "--out", str(run.path), "--runs", str(runs)]
        path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), before.get("PYTHONPATH"))))
        own = {PARENT: str(os.getpid()), "PYTHONPATH": path, **for_processes()}
        others = [
            subprocess.Popen([*command, *["--resume"] * resume], env=os.environ | own | {"LOCAL_RANK": str(n)})
            for n in range(1, devices)
        ]
        stop = _watch(lambda: any(other.poll() not in (None, 0) for other in others), run, others)
        try:
            yield
            for other in others:
                other.wait()
        finally:
            stop.set()
            _end(others)
            os.environ.clear()
            os.environ.update(before)


def _watch(lost: Callable[[], bool], run: Run, others: list[subprocess.Popen]) -> threading.Event:
    """A thread that ends this process, which may hang in a collective, soon after `lost` returns True.

    Setting the returned event stops the thread.
    """
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.5):
            if lost() and not stop.wait(GRACE):
                print(f"famkd: {_lost(run)}", file=sys.stderr, flush=True)
                _end(others)
                os._exit(1)

    threading.Thread(target=watch, daemon=True, name="famkd-watch").start()
    return stop


def _end(others: list[subprocess.Popen]) -> None:
    """Give processes some seconds to exit, then kill them."""
    deadline = time.monotonic() + GRACE
    for other in others:
        with contextlib.suppress(subprocess.TimeoutExpired):
            other.wait(max(0.0, deadline - time.monotonic()))
        if other.poll() is None:
            other.kill()
            other.wait()


def _orphan() -> bool:
    """Whether the process that started this one has exited."""
    return PARENT in os.environ and os.getppid() != int(os.environ[PARENT])


def _lost(run: Run) -> str:
    return (
        "Another process of this training has ended, so it cannot continue. "
        f"{run.path} holds epoch {len(run.metrics())}; the same command with --resume continues from there, "
        "on any number of devices."
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
