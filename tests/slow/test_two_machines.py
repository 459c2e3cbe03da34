"""A training on two machines: two network namespaces of Linux, joined by a virtual cable. Needs root and `ip`."""

import contextlib
import inspect
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from helpers.ddp_worker import plain
from helpers.processes import finish, wait_for_epochs, wait_until

from famkd.run.directory import Run

# A plug-in that registers networks without batch norm, with which two processes compute what one does, up to rounding.
PLUGIN = f"""
import famkd
from torch import nn

{inspect.getsource(plain)}

famkd.MODELS["plain4"] = lambda classes: plain(classes, 4)
famkd.MODELS["plain8"] = lambda classes: plain(classes, 8)
"""
NETWORKS = ("--student.model", "plain4", "--teacher.model", "plain8", "--teacher.weights", "plain8.pt")
PLACE = ("--accelerator", "cpu", "--engine", "eager", "--out", "run")
TRAIN = ("-m", "famkd", "train", "small.yaml", *NETWORKS, "--method", "kd+at", "--epochs", "30", *PLACE)


class Machine(NamedTuple):
    name: str
    address: str
    number: int

    @property
    def within(self) -> tuple[str, ...]:
        """The command that runs another command on this machine."""
        return ("ip", "netns", "exec", self.name)

    def pids(self) -> list[int]:
        return [int(pid) for pid in ip("netns", "pids", self.name).split()]

    def kill(self) -> None:
        """Kill everything that runs there."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def machines():
    """Two machines with the addresses 10.77.0.1 and 10.77.0.2, whose only network is the cable between them."""
    if not hasattr(os, "geteuid") or os.geteuid() or not shutil.which("ip"):
        pytest.skip("needs root and the command ip")
    pair = [Machine(f"famkd{os.getpid()}-{n}", f"10.77.0.{n + 1}", n) for n in range(2)]
    try:
        try:
            for machine in pair:
                ip("netns", "add", machine.name)
            one, two = (machine.name for machine in pair)
            ip("link", "add", "cable", "netns", one, "type", "veth", "peer", "name", "cable", "netns", two)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"cannot make network namespaces: {error.stderr}")
        for machine in pair:
            ip("-n", machine.name, "address", "add", f"{machine.address}/24", "dev", "cable")
            for device in ("lo", "cable"):
                ip("-n", machine.name, "link", "set", device, "up")
        yield pair
    finally:
        for machine in pair:
            with contextlib.suppress(subprocess.CalledProcessError):
                machine.kill()
                ip("netns", "delete", machine.name)


def by_famkd(machine: Machine, master: Machine) -> tuple[tuple[str, ...], dict[str, str]]:
    """Arguments of Python and environment variables that start one of two machines."""
    variables = {"MASTER_ADDR": master.address, "MASTER_PORT": "29500", "NODE_RANK": str(machine.number)}
    return (*TRAIN, "--nodes", "2"), variables


def by_torchrun(machine: Machine, master: Machine) -> tuple[tuple[str, ...], dict[str, str]]:
    torchrun = ("-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d",
                "--rdzv-endpoint", f"{master.address}:29500", "--local-addr", machine.address,
                "--rdzv-conf", f"is_host={machine == master}")  # fmt: skip
    return (*torchrun, *TRAIN), {}


@pytest.mark.slow
@pytest.mark.parametrize("start", [by_famkd, by_torchrun])
def test_one_of_two_machines_is_lost_and_the_other_goes_on_alone(small, machines, background, monkeypatch, start):
    Path("mine.py").write_text(PLUGIN)
    torch.manual_seed(5)
    torch.save(plain(3, 8).state_dict(), "plain8.pt")
    monkeypatch.setenv("FAMKD_PLUGINS", "mine.py")
    whole = background(*TRAIN[:-1], "whole")
    assert finish(whole)[0] == 0

    started = []
    for machine in machines:
        command, variables = start(machine, machines[0])
        options = {"within": machine.within, "GLOO_SOCKET_IFNAME": "cable", **variables}
        started.append(background(*command, **options))
    wait_for_epochs("run", 3, started[0])
    machines[1].kill()
    code, _, err = finish(started[0])
    assert code not in (0, 75)
    before = len(Run("run").metrics())
    assert 3 <= before < 30
    assert err.count("A process of this training has ended") == 1, err
    assert f"run holds epoch {before}; the same command with --resume continues" in err
    assert Run("run").machine["processes"] == 2
    wait_until(lambda: not machines[0].pids())

    alone = background(*TRAIN, "--resume", within=machines[0].within)
    code, _, err = finish(alone)
    assert code == 0, err
    assert Run("run").machine["processes"] == 1
    rows, expected = Run("run").metrics(), Run("whole").metrics()
    assert len(rows) == len(expected) == 30
    for row, other in zip(rows, expected):
        assert row == pytest.approx(other, rel=1e-3)
