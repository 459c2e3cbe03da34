"""famkd sweep --on ray on a real Ray cluster of two nodes on this machine. Needs the package ray."""

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.processes import HANG, environment, finish, wait_for_epochs, wait_until
from helpers.run_files import files
from helpers.shell_jobs import shell

from famkd.errors import UserError
from famkd.run.directory import Run
from famkd.sweep.on_ray import run_on_ray

EPOCHS = 150
GRID = f"{{recipe: small.yaml, accelerator: cpu, engine: eager, optim.epochs: {EPOCHS}, seed: [0, 1, 2]}}"
RUNS = [Path(f"runs/grid/small/none-seed{seed}") for seed in range(3)]
SMALL_STORE = {"object_store_memory": 80 << 20}  # bytes; the least that Ray takes


def patiently(start: Callable[[], Any]) -> Any:
    """Start a node, again where Ray's own limit of 15 or 30 seconds was too short for a busy machine."""
    deadline = time.monotonic() + HANG
    while True:
        try:
            return start()
        except Exception as error:
            if "timed out during startup" not in str(error) or time.monotonic() > deadline:
                raise


@pytest.fixture
def cluster(monkeypatch):
    """A cluster with one node of one core, whose address is in RAY_ADDRESS."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    head = {"num_cpus": 1, "include_dashboard": False, **SMALL_STORE}
    made = patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
    monkeypatch.setenv("RAY_ADDRESS", made.address)
    yield made
    made.shutdown()


def raylet(node) -> int:
    """Process id of the daemon of a node."""
    return node.all_processes["raylet"][0].process.pid


def trainings(daemon: int) -> list[Path]:
    """Run directories that the trainings of a node write: processes of which the daemon is an ancestor."""
    parents, commands = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            commands[int(folder.name)] = (folder / "cmdline").read_text().split("\0")
        except OSError:
            continue

    def below(pid: int) -> bool:
        return pid == daemon or (pid in parents and below(parents[pid]))

    return [Path(words[words.index("--out") + 1]) for pid, words in commands.items() if "--out" in words and below(pid)]


@pytest.mark.slow
def test_a_lost_node_and_a_killed_driver_cost_no_finished_epoch(small, cluster, background):
    small()
    Path("grid.yaml").write_text(GRID)
    lost = patiently(lambda: cluster.add_node(num_cpus=1, **SMALL_STORE))
    daemon = raylet(lost)
    driver = background("-m", "famkd", "sweep", "grid.yaml", "--on", "ray")
    wait_until(lambda: len(trainings(daemon)) == 1, driver)
    (moved,) = trainings(daemon)
    wait_for_epochs(moved, 3, driver)
    cluster.remove_node(lost, allow_graceful=False)
    before = len(Run(moved).metrics())
    assert before < EPOCHS
    log = moved / "train.log"
    wait_until(lambda: log.read_text().count("\n$ ") == 1, driver)  # the command is started again, on the other node
    assert moved in trainings(raylet(cluster.head_node))
    wait_until(lambda: len(Run(moved).metrics()) > before, driver)

    driver.send_signal(signal.SIGKILL)
    driver.wait()
    code, _, err = finish(background("-m", "famkd", "sweep", "grid.yaml", "--on", "ray"))
    assert code == 0, err
    assert re.search(r"3 runs, \d finished before", err), err
    assert all(Run(run).finished for run in RUNS)
    whole = background("-m", "famkd", "train", "small.yaml", "--accelerator", "cpu", "--engine", "eager", "--epochs",
                       str(EPOCHS), "--seed", moved.name[-1], "--out", "whole")  # fmt: skip
    assert finish(whole)[0] == 0
    assert files(Run(moved)) == files(Run("whole"))


@pytest.mark.slow
def test_parts_of_a_gpu_and_jobs_that_are_told_to_stop(tmp_path, cluster, monkeypatch):
    import ray

    monkeypatch.chdir(tmp_path)
    patiently(lambda: cluster.add_node(num_cpus=2, num_gpus=1, **SMALL_STORE))
    ended = tmp_path / "ended"
    meet = f"""
import os, pathlib, time
here = pathlib.Path({str(tmp_path)!r})
(here / f"started-{{os.getpid()}}").touch()
while len(list(here.glob("started-*"))) < 2: time.sleep(0.05)
raise SystemExit(os.environ["CUDA_VISIBLE_DEVICES"])
"""
    try:
        outcomes = list(run_on_ray([shell(tmp_path, meet, name) for name in ("one", "two")], gpus=0.5))
        assert [outcome.why[:2] for outcome in outcomes] == ["0 ", "0 "]  # both at once, on the same GPU

        again = f"import pathlib\nfile = pathlib.Path({str(ended)!r})\nif file.exists(): raise SystemExit\nfile.touch()"
        (outcome,) = run_on_ray([shell(tmp_path, f"{again}\nraise SystemExit(75)", "again")], gpus=0.25)
        assert outcome.why == ""
        for gpus, sentence in ((2, "No machine of the cluster has 2 GPUs"), (1.5, "pass a part of one GPU")):
            with pytest.raises(UserError, match=sentence):
                list(run_on_ray([shell(tmp_path, "", "none")], gpus=gpus))
    finally:
        ray.shutdown()
    assert os.environ["RAY_ADDRESS"] == cluster.address
