"""A SLURM cluster of two nodes on this machine, with its own key, ports and folders."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.processes import HANG, environment, free_port, wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "sinfo", "scontrol")

# Preempted jobs of the partition `low` get SIGUSR1, and return to the queue. A requeued job waits for as long as a
# credential is valid.
CONFIG = """
ClusterName=famkd
SlurmctldHost=localhost
SlurmctldPort={control}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SlurmctldParameters=preempt_send_user_signal
SchedulerParameters=sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={host} NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=1
NodeName={host}-2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=1
PartitionName=low Nodes={host},{host}-2 Default=YES PriorityTier=1 GraceTime=300
PartitionName=high Nodes={host},{host}-2 PriorityTier=10 PreemptMode=OFF
"""


class Cluster(NamedTuple):
    """A running cluster."""

    variables: dict[str, str]  # environment of its commands

    def run(self, *command: str) -> str:
        """Run one of SLURM's commands; returns what it prints."""
        done = subprocess.run(command, env=self.variables, capture_output=True, text=True, timeout=HANG)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def jobs(self) -> list[str]:
        """Ids of all jobs that have not ended."""
        return self.run("squeue", "--noheader", "--array", "--format=%A").split()

    def records(self, job: str) -> list[dict[str, str]]:
        """What the controller knows of a job, also after its end: a table for each task of an array."""
        lines = self.run("scontrol", "show", "job", job, "--oneliner").splitlines()
        return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines if line]


def must_have_slurm() -> None:
    """Skip the test where a cluster cannot be started."""
    if not hasattr(os, "geteuid") or os.geteuid():
        pytest.skip("needs root")
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing:
        pytest.skip(f"SLURM is not installed, {missing[0]} is missing: make cluster-test installs it")
    try:
        socket.gethostbyname(socket.gethostname())
    except OSError:
        pytest.skip("the name of this machine has no address")


@contextlib.contextmanager
def slurm(folder: Path) -> Iterator[Cluster]:
    """Start a controller and two nodes; at the end cancel all jobs and end every process."""
    folder.mkdir()
    (folder / "state").mkdir()
    key, config = folder / "munge.key", folder / "slurm.conf"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    host = socket.gethostname()
    ports = {name: free_port() for name in ("control", "first", "second")}
    config.write_text(CONFIG.format(folder=folder, host=host, **ports))
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    cluster = Cluster({**environment(), "PATH": path, "SLURM_CONF": str(config)})
    munge = [f"--{name}={folder}/munge.{name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
    daemons: list[subprocess.Popen] = []

    def start(name: str, *command: str) -> None:
        with (folder / f"{name}.log").open("w") as log:
            options = {"stdout": log, "stderr": log, "env": cluster.variables, "start_new_session": True}
            daemons.append(subprocess.Popen(command, **options))

    try:
        start("munged", "munged", "--foreground", "--force", f"--key-file={key}", *munge)
        wait_until((folder / "munge.socket").exists, daemons[0])
        start("control", "slurmctld", "-D", "-f", str(config))
        for node in (host, f"{host}-2"):
            start(node, "slurmd", "-D", "-N", node, "-f", str(config))
        wait_until(lambda: _idle_nodes(cluster) == 2)
        yield cluster
    finally:
        _end(cluster, daemons, config)


def _idle_nodes(cluster: Cluster) -> int:
    command = ("sinfo", "--noheader", "--partition=low", "--Node", "--format=%t")
    done = subprocess.run(command, env=cluster.variables, capture_output=True, text=True)
    return done.stdout.split().count("idle")


def _end(cluster: Cluster, daemons: list[subprocess.Popen], config: Path) -> None:
    """Cancel all jobs and end the daemons, and every process that they have left behind."""
    try:
        if _idle_nodes(cluster) < 2:
            subprocess.run(["scancel", "--user=root"], env=cluster.variables, timeout=HANG)
            wait_until(lambda: not cluster.jobs())
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(HANG)
        for pid in processes_of(config):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def processes_of(config: Path) -> list[int]:
    """Processes that were started with this configuration."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"SLURM_CONF={config}\0".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found
