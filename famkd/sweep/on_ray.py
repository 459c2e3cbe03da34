"""Run trainings as tasks of a Ray cluster whose machines share a folder.

Ray places the tasks, and starts a task again on another machine where its own is lost. The training then continues
from the last epoch in its run directory.
"""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from famkd.console import console
from famkd.errors import TrainingStopped, UserError, one_line
from famkd.run.directory import Run
from famkd.sweep.jobs import Job, Outcome, run_job
from famkd.training.stop import FOLLOW_PARENT, stop_requests

RETRIES = 10  # of a training that loses its machine or is told to stop
LOCK_WAIT = 600  # seconds in which a training whose Ray process has ended notices it, saves its state and ends
POLL = 1.0  # seconds between two looks for a signal


def run_on_ray(jobs: list[Job], gpus: float = 0, cpus: float = 0) -> Iterator[Outcome]:
    """Run jobs on a Ray cluster and yield outcomes as jobs end. Ray decides how many run at once.

    The cluster is the one that RAY_ADDRESS names, else the one that runs on this machine, else a new one on this
    machine alone. All machines must share the working folder, which holds data and run directories.

    Args:
        gpus: GPUs of each job, also a part of one such as 0.25; by default 1 if the cluster has any.
        cpus: CPU cores of each job; by default 1.

    Errors: UserError without Ray, or where no machine of the cluster has as many; TrainingStopped after SIGTERM or
    SIGUSR1, once Ray has ended the jobs.
    """
    if not jobs:
        return
    ray = _connected()
    need = _need(ray, gpus, cpus)
    remote = ray.remote(max_retries=RETRIES, retry_exceptions=[TrainingStopped], **need)(_train)
    running = {remote.remote(job.command, str(job.out), str(Path.cwd())): job for job in jobs}
    with stop_requests() as requested:
        while running:
            ended, _ = ray.wait(list(running), num_returns=1, timeout=POLL)
            for task in ended:
                yield Outcome(running.pop(task), _why(ray, task))
            if reason := requested():
                ray.shutdown()
                raise TrainingStopped(f"stopped by {reason}; the same command continues every training")


def _connected() -> Any:
    """The package ray, connected to a cluster."""
    try:
        import ray
    except ImportError:
        raise UserError("--on ray needs the package ray: pip install 'famkd[ray]', or leave --on out.") from None
    if not ray.is_initialized():
        try:
            ray.init(log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, ValueError) as error:
            raise UserError(f"Ray cannot be reached: {one_line(error)}.") from error
    return ray


def _need(ray: Any, gpus: float, cpus: float) -> dict[str, float]:
    """What each job takes of a machine, as options of `ray.remote`. UserError where no machine has as much."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = gpus or float(any(machine.get("GPU") for machine in machines))
    cpus = cpus or 1.0
    if gpus > 1 and gpus != int(gpus):
        raise UserError(f"--gpus is {gpus:g}: pass a part of one GPU, such as 0.5, or a whole number.")
    if not any(machine.get("GPU", 0) >= gpus and machine.get("CPU", 0) >= cpus for machine in machines):
        raise UserError(
            f"No machine of the cluster has {gpus:g} GPUs and {cpus:g} CPU cores for a training: pass a smaller --gpus "
            "or --cpus."
        )
    console.print(f"Ray: {len(machines)} machines; each training takes {gpus:g} GPUs and {cpus:g} CPU cores")
    return {"num_gpus": gpus, "num_cpus": cpus}


def _why(ray: Any, task: Any) -> str:
    """Why a task failed, or ""."""
    try:
        return ray.get(task)
    except Exception as error:  # the cluster lost a machine too often, or its memory or the connection
        return one_line(getattr(error, "cause", None) or error)


def _train(command: list[str], out: str, folder: str) -> str:
    """Run one training on the machine that Ray chose; returns why it failed, or "".

    Errors: TrainingStopped where a signal stopped it, so that Ray starts it again.
    """
    _wait_until_free(Run(Path(folder, out)))
    ended = run_job(command, out, {FOLLOW_PARENT: "1"}, folder)
    if ended.stopped:
        raise TrainingStopped(ended.why)
    return ended.why


def _wait_until_free(run: Run) -> None:
    """Wait until no process writes a run directory. After LOCK_WAIT the training itself reports what is wrong."""
    deadline = time.monotonic() + LOCK_WAIT
    while time.monotonic() < deadline:
        try:
            with run.locked():
                return
        except UserError:
            time.sleep(POLL)
