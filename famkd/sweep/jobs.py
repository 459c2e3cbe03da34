"""Trainings as processes of their own, on this machine or on a Ray cluster."""

import os
import shlex
import subprocess
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from famkd.config.load import Recipe, differences
from famkd.errors import TrainingStopped, UserError
from famkd.run.directory import LOG, Run
from famkd.training.stop import stop_requests


class Job(NamedTuple):
    """One training: its recipe, its run directory and the command that carries it out."""

    title: str
    recipe: Recipe
    out: Path
    command: list[str]

    @property
    def done(self) -> bool:
        run = Run(self.out)
        try:
            return run.finished and not differences(run.recipe, self.recipe)
        except UserError:  # a damaged run is resumed, and then says itself what is wrong
            return False


class Outcome(NamedTuple):
    """How a job ended; `why` is empty where it ended well."""

    job: Job
    why: str


def run_here(jobs: list[Job], at_once: int = 0) -> Iterator[Outcome]:
    """Carry out jobs on this machine, each on a free GPU or a share of the cores; outcomes as they come.

    A signal that asks to stop is passed on to every training; TrainingStopped once all of them have saved their state.
    """
    gpus = visible_gpus()
    at_once = at_once or max(1, len(gpus))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = {} if gpus or "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(max(1, cores // at_once))}
    pool, live, free = ThreadPoolExecutor(at_once), [], SimpleQueue()
    for place in range(at_once):
        free.put({"CUDA_VISIBLE_DEVICES": gpus[place % len(gpus)]} if gpus else share)

    def carry_out(job: Job) -> str:
        extra = free.get()
        try:
            return run_job(job.command, str(job.out), extra, live=live)
        finally:
            free.put(extra)

    try:
        with stop_requests() as asked:
            running = {pool.submit(carry_out, job): job for job in jobs}
            while running:
                for ended in wait(running, timeout=0.2, return_when=FIRST_COMPLETED).done:
                    yield Outcome(running.pop(ended), ended.result())
                if reason := asked():
                    for process in live:
                        process.terminate()
                    raise TrainingStopped(
                        f"stopped by {reason}; each training has saved where it was, the same command goes on"
                    )
    finally:
        pool.shutdown(cancel_futures=True)


def run_on_ray(jobs: list[Job], at_once: int = 0) -> Iterator[Outcome]:
    """Carry out jobs on a Ray cluster, each on a GPU of its own where there are any; Ray decides how many at once.

    All machines must share the working folder, for it holds data and run directories.
    """
    try:
        import ray
    except ImportError:
        raise UserError("--on ray needs the package ray: pip install ray, or leave --on out.") from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    need = {"num_gpus": 1} if ray.cluster_resources().get("GPU") else {"num_cpus": 1}
    remote = ray.remote(max_retries=0, **need)(run_job)
    running = {remote.remote(job.command, str(job.out), {}, str(Path.cwd())): job for job in jobs}
    while running:
        (ended, *_), _ = ray.wait(list(running), num_returns=1)
        try:
            why = ray.get(ended)
        except Exception as error:  # whatever a cluster may lose: a node, its memory, the connection
            why = " ".join(str(error).split())[:200] or type(error).__name__
        yield Outcome(running.pop(ended), why)


def run_job(
    command: list[str], out: str, extra: dict[str, str], folder: str = ".", live: list[subprocess.Popen] | None = None
) -> str:
    """One training as a process, in `live` while it runs; what it says goes to a log in its run directory.

    Answers why it failed, or "".
    """
    live = [] if live is None else live
    log = Path(folder, out, LOG)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {shlex.join(command)}\n")
        file.flush()
        env = {**os.environ, **extra}
        with subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=env, cwd=folder) as process:
            live.append(process)
            code = process.wait()
            live.remove(process)
    if code == 0:
        return ""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return f"{lines[-1].strip()} (exit code {code}, {Path(out) / LOG})"


def visible_gpus() -> list[str]:
    """GPUs by the names under which a process may be given one of them."""
    import torch

    count, named = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = [name for name in named.split(",") if name.strip()]
    return names[:count] if len(names) >= count else [str(number) for number in range(count)]
