"""Run trainings as separate processes on this machine."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from famkd.config.load import differences
from famkd.config.recipe import Recipe
from famkd.data.loader import usable_cores
from famkd.errors import TrainingStopped, UserError
from famkd.run.directory import LOG, Run
from famkd.training.stop import stop_requests

POLL = 1.0  # seconds between two looks at a training


class Job(NamedTuple):
    """One training: its recipe, its run directory and its command."""

    title: str
    recipe: Recipe
    out: Path
    command: list[str]

    @property
    def done(self) -> bool:
        """Whether its run directory holds a finished run of its recipe."""
        run = Run(self.out)
        try:
            return run.finished and not differences(run.recipe, self.recipe)
        except UserError:  # the training itself reports a damaged run, or repairs it
            return False


class Outcome(NamedTuple):
    """How a job ended."""

    job: Job
    why: str  # the reason of a failure; empty after success


class Ended(NamedTuple):
    """How the process of a training ended."""

    code: int  # its exit code
    why: str  # the reason of a failure; empty after success

    @property
    def stopped(self) -> bool:
        """Whether a signal stopped the training, which the same command continues."""
        return self.code == TrainingStopped.exit_code


def run_here(jobs: list[Job], at_once: int = 0) -> Iterator[Outcome]:
    """Run jobs on this machine and yield outcomes as jobs end.

    SIGTERM or SIGUSR1 is passed on to every training. TrainingStopped is raised once all of them have saved their
    state.

    Args:
        at_once: jobs at the same time; by default one per GPU, or one on a machine without a GPU.
    """
    at_once = at_once or one_per_gpu()
    live: list[subprocess.Popen] = []
    free: SimpleQueue[dict[str, str]] = SimpleQueue()
    for variables in places(at_once):
        free.put(variables)

    def run(job: Job) -> str:
        variables = free.get()
        try:
            return run_job(job.command, str(job.out), variables, live=live).why
        finally:
            free.put(variables)

    pool = ThreadPoolExecutor(at_once)
    try:
        with stop_requests() as requested:
            running = {pool.submit(run, job): job for job in jobs}
            while running:
                for ended in wait(running, timeout=0.2, return_when=FIRST_COMPLETED).done:
                    yield Outcome(running.pop(ended), ended.result())
                if reason := requested():
                    for process in list(live):
                        process.terminate()
                    raise TrainingStopped(
                        f"stopped by {reason}; every training has saved its state, the same command continues"
                    )
    finally:
        pool.shutdown(cancel_futures=True)


def places(count: int) -> list[dict[str, str]]:
    """Environment variables of each of several jobs at once: its GPU, or its share of the cores."""
    gpus = visible_gpus()
    if gpus:
        return [{"CUDA_VISIBLE_DEVICES": gpus[place % len(gpus)]} for place in range(count)]
    if "OMP_NUM_THREADS" in os.environ:
        return [{}] * count
    threads = max(1, usable_cores() // count)
    return [{"OMP_NUM_THREADS": str(threads)}] * count


def run_job(
    command: list[str],
    out: str,
    variables: dict[str, str],
    folder: str = ".",
    live: list[subprocess.Popen] | None = None,
    enough: Callable[[], bool] | None = None,
) -> Ended:
    """Run one training as a process whose output goes to a log in its run directory.

    Args:
        variables: environment variables in addition to this process's.
        live: a list that holds the process while it runs.
        enough: called about every second; once it returns True, the training is told to save its state and end.
    """
    live = [] if live is None else live
    log = Path(folder, out, LOG)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {shlex.join(command)}\n")
        file.flush()
        environment = {**os.environ, **variables}
        with subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=folder) as process:
            live.append(process)
            code = _end(process, enough)
            live.remove(process)
    if code == 0:
        return Ended(0, "")
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return Ended(code, f"{lines[-1].strip()} (exit code {code}, {Path(out) / LOG})")


def _end(process: subprocess.Popen, enough: Callable[[], bool] | None) -> int:
    """Wait for the end of a process; returns its exit code. It gets SIGTERM once `enough` returns True."""
    while enough:
        try:
            return process.wait(POLL)
        except subprocess.TimeoutExpired:
            if enough():
                process.terminate()
                break
    return process.wait()


def train_command(recipe: str, runs: Path) -> list[str]:
    """The command that trains a recipe, or continues its training."""
    return [sys.executable, "-m", "famkd", "train", recipe, "--runs", str(runs), "--resume"]


def plugin_flags(plugins: Sequence[str]) -> list[str]:
    """The flags by which a training imports plug-ins."""
    return ["--plugins", *plugins] if plugins else []


def one_per_gpu() -> int:
    """Trainings at once, unless the user says otherwise: one per GPU, or one on a machine without a GPU."""
    return max(1, len(visible_gpus()))


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process sees, as values of CUDA_VISIBLE_DEVICES for its children."""
    import torch

    count = torch.cuda.device_count()
    names = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    if len(names) >= count:
        return names[:count]
    return [str(number) for number in range(count)]
