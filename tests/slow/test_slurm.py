"""examples/slurm.sh on a real SLURM cluster of two nodes on this machine. Needs root and SLURM: make cluster-test."""

import json
from pathlib import Path

import pytest
from helpers.processes import ROOT, finish, wait_for_epochs, wait_until
from helpers.run_files import files
from helpers.slurm_cluster import must_have_slurm, processes_of, slurm

from famkd.run.directory import Run

SCRIPT = ROOT / "examples/slurm.sh"
TRAIN = ("small.yaml", "--accelerator", "cpu", "--engine", "eager", "--epochs", "120")
ONE_CORE = "--cpus-per-task=1"


@pytest.fixture
def cluster(tmp_path):
    must_have_slurm()
    with slurm(tmp_path / "slurm") as running:
        yield running
    wait_until(lambda: not processes_of(tmp_path / "slurm/slurm.conf"))


@pytest.mark.slow
def test_seeds_are_preempted_requeued_and_resumed(small, cluster, background):
    whole = [background("-m", "famkd", "train", *TRAIN, "--seed", seed, "--out", f"whole{seed}") for seed in "01"]
    assert [finish(process)[0] for process in whole] == [0, 0]

    job = cluster.run("sbatch", "--parsable", "--array=0-1", ONE_CORE, str(SCRIPT), *TRAIN).strip()
    runs = [Path(f"runs/small/none-seed{seed}") for seed in range(2)]
    for run in runs:
        wait_for_epochs(run, 3)
    said = cluster.run("srun", "--partition=high", "--nodes=2", "python", "-c", "print('urgent')")
    assert said.split() == ["urgent", "urgent"]
    interrupted = [len(Run(run).metrics()) for run in runs]
    assert max(interrupted) < 120
    wait_until(lambda: not cluster.jobs())

    records = cluster.records(job)
    assert [(record["Restarts"], record["JobState"], record["ExitCode"]) for record in records] == [
        ("1", "COMPLETED", "0:0")
    ] * 2
    for seed, run in enumerate(runs):
        log = Path(f"famkd-{job}_{seed}.log").read_text()
        assert log.count("stopped by SIGUSR1") == 1
        assert files(Run(run)) == files(Run(f"whole{seed}"))


@pytest.mark.slow
def test_one_training_on_two_nodes_is_requeued_and_resumed(small, cluster, background):
    whole = background("-m", "famkd", "train", *TRAIN, "--devices", "2", "--out", "whole")
    assert finish(whole)[0] == 0

    options = ("--parsable", "--array=0", "--nodes=2", "--ntasks-per-node=1", ONE_CORE)
    job = cluster.run("sbatch", *options, str(SCRIPT), *TRAIN).strip()
    run = Path("runs/small/none-seed0")
    wait_for_epochs(run, 3)
    cluster.run("scancel", "--signal=USR1", job)  # as SLURM sends it before the time limit
    wait_until(lambda: not cluster.jobs())

    (record,) = cluster.records(job)
    assert (record["Restarts"], record["JobState"], record["NumNodes"]) == ("1", "COMPLETED", "2")
    assert Path(f"famkd-{job}_0.log").read_text().count("stopped by SIGUSR1") == 1
    assert json.loads((run / "machine.json").read_text())["processes"] == 2
    assert Run(run).metrics() == Run("whole").metrics()
