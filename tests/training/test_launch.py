"""Several processes train as one would: same losses, each test image counted once, one writer, none left behind."""

import os
import re
import signal
import sys
from pathlib import Path

import pytest
import torch
from helpers import ddp_worker
from helpers.processes import finish, wait_for_epochs, wait_until
from torch import nn

from famkd import distributed
from famkd.config.load import differences, load_recipe
from famkd.data.in_memory import Draws
from famkd.errors import UserError
from famkd.models import MODELS, build_model
from famkd.run.directory import Run
from famkd.training.launch import processes
from famkd.training.loop import train
from famkd.training.step import split

TAUGHT = ("--student.model", "plain4", "--teacher.model", "plain8", "--teacher.weights", "plain8.pt")
WORKER = str(Path(ddp_worker.__file__))


@pytest.fixture
def plain(small, monkeypatch):
    """`small` on networks without batch norm, with a teacher in a file."""
    monkeypatch.setattr("famkd.models.MODELS", MODELS)
    for name, width in (("plain4", 4), ("plain8", 8)):
        monkeypatch.setitem(MODELS, name, lambda classes, width=width: ddp_worker.plain(classes, width))
    torch.manual_seed(5)
    torch.save(build_model("plain8", 3).state_dict(), "plain8.pt")
    return small


def close(one: Run, two: Run) -> None:
    """The same training up to the order in which sums are taken."""
    assert len(one.metrics()) == len(two.metrics()) > 0
    for a, b in zip(one.metrics(), two.metrics()):
        assert a.keys() == b.keys()
        assert all(a[key] == pytest.approx(b[key], rel=1e-4) for key in a)
    for key, value in one.student_state().items():
        torch.testing.assert_close(two.student_state()[key], value, rtol=1e-3, atol=1e-5)


def alike() -> None:
    """Both processes ended with the same student and methods, to the last bit."""
    one, two = (torch.load(f"rank{n}.pt", weights_only=True) for n in (0, 1))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


# as one ------------------------------------------------------------------------------------------------------------


def test_two_processes_of_torchrun_train_as_one(plain, python):
    flags = (*TAUGHT, "--method", "kd+at", "--epochs", "2")
    one = train(plain(*flags), out="one")
    command = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", WORKER, "small.yaml")
    code, out, err = python(*command, "--out", "two", *flags, "--optim.accumulate", "2", "--accelerator", "cpu")
    assert code == 0, err
    alike()
    assert out.count("epoch 1/2") == 1  # one speaks
    close(one, Run("two"))


def test_accumulation_alone_is_the_same_step(plain):
    flags = (*TAUGHT, "--method", "kd+at", "--epochs", "2")
    close(train(plain(*flags), out="one"), train(plain(*flags, "--optim.accumulate", "4"), out="parts"))


def test_slurms_tasks_share_what_crd_remembers(plain, background, monkeypatch):
    """CRD's memory of the whole training set is the same everywhere, though each process saw half of each step."""
    tasks = []
    shared = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1", "SLURM_NODEID": "0",
              "SLURM_JOB_ID": "1", "SLURM_NODELIST": "127.0.0.1", "MASTER_PORT": str(_free_port())}  # fmt: skip
    for n in "01":
        for key, value in {**shared, "SLURM_PROCID": n, "SLURM_LOCALID": n}.items():
            monkeypatch.setenv(key, value)
        flags = (*TAUGHT, "--method", "crd", "--crd.negatives", "8", "--epochs", "1", "--accelerator", "cpu")
        tasks.append(background(WORKER, "small.yaml", "--out", "run", *flags))
    for task in tasks:
        code, _, err = finish(task)
        assert code == 0, err
    alike()
    memory = Run("run").method_state()[0]["crd.memory_student"]
    assert memory.shape[0] == 48
    torch.testing.assert_close(memory.norm(dim=1), torch.ones(48))  # an image that no process saw keeps its first norm


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# started by famkd itself -------------------------------------------------------------------------------------------

PAIR = ("--student.model", "resnet8x0.5", "--teacher.model", "resnet8", "--teacher.weights", "teacher.pt",
        "--method", "fam", "--accelerator", "cpu", "--devices", "2")  # fmt: skip


@pytest.fixture
def pair(small):
    torch.manual_seed(5)
    torch.save(build_model("resnet8", 3).state_dict(), "teacher.pt")
    return small


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _trains(child: int) -> bool:
    return b"famkd" in Path(f"/proc/{child}/cmdline").read_bytes()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes under /proc")
@pytest.mark.parametrize("lost", [1, pytest.param(0, marks=pytest.mark.slow)], ids=["a rank", "the first rank"])
def test_a_killed_rank_ends_the_rest_and_one_device_goes_on(pair, background, lost):
    flags = (*PAIR, "--epochs", "40")
    process = background("-m", "famkd", "train", "small.yaml", "--out", "run", *flags)
    wait_for_epochs("run", 3, process)
    (other,) = filter(_trains, _children(process.pid))
    os.kill(other if lost else process.pid, signal.SIGKILL)
    code, _, err = finish(process)
    assert code != 0
    assert err.count("Another process of this training has ended") == 1, err
    assert "--resume" in err
    wait_until(lambda: not Path(f"/proc/{other}").exists())  # nobody is left behind
    before = Run("run").metrics()
    assert 3 <= len(before) < 40
    run = train(pair(*flags, "--devices", "1"), out="run", resume=True)
    assert run.finished
    assert run.metrics()[: len(before)] == before


def test_processes_told_to_stop_leave_together_at_the_same_step(pair, background):
    flags = (*PAIR, "--epochs", "400", "--engine", "eager")
    process = background("-m", "famkd", "train", "small.yaml", "--out", "run", *flags)
    wait_for_epochs("run", 1, process)
    process.send_signal(signal.SIGTERM)  # to the first alone, as a scheduler does
    code, _, err = finish(process)
    assert code == 75, err
    assert re.fullmatch(r"famkd: stopped by SIGTERM in epoch \d+ after step 0 of 3; run holds the state.*\n", err), err
    done = len(Run("run").metrics())
    assert 1 <= done < 400
    assert len(Run("run").read_resume()["metrics"]) == done


def test_one_of_them_closes_with_the_table(pair, python):
    code, out, err = python(
        "-m", "famkd", "train", "small.yaml", "--out", "run", *PAIR, "--epochs", "1", "--optim.steps"
    )
    assert code == 0, err
    assert out.count("student resnet8x0.5 by fam: run") == 1


def test_what_cannot_be_shared_out_is_told_once(pair, python):
    code, out, err = python("-m", "famkd", "train", "small.yaml", "--out", "run", *PAIR, "--data.batch_size", "15")
    assert code == 2
    assert "epoch 1" not in out
    assert err.count("famkd:") == 1
    assert "15 images cannot be cut into 2 equal parts" in err
    assert "multiple of 2" in err


# who is there ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "flags", "expected"),
    [
        ({}, (), (1, 1)),
        ({}, ("--devices", "4", "--nodes", "2"), (4, 2)),
        ({"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}, (), (4, 2)),
        ({"SLURM_NTASKS": "8", "SLURM_NNODES": "2"}, ("--devices", "4", "--nodes", "2"), (4, 2)),
        ({"SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "interactive"}, (), (1, 1)),
        ({"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}, ("--devices", "2"), "torchrun"),
    ],
)
def test_how_many_processes(monkeypatch, environment, flags, expected):
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "SLURM_JOB_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    recipe = load_recipe("quickstart", *flags)
    if isinstance(expected, tuple):
        assert processes(recipe) == expected
    else:
        with pytest.raises(UserError, match=f"{expected} started 4 processes on each of 2 machines"):
            processes(recipe)


def test_many_machines_need_an_address(small):
    with pytest.raises(UserError, match="--nodes needs torchrun or SLURM, or MASTER_ADDR"):
        train(small("--nodes", "2", "--accelerator", "cpu"), out="run")


def test_too_many_gpus_are_refused(small):
    if torch.cuda.is_available():
        pytest.skip("there are GPUs")
    with pytest.raises(UserError, match="Cannot use 2 devices of accelerator 'cuda'"):
        train(small("--devices", "2", "--accelerator", "cuda"), out="run")
    assert "LOCAL_RANK" not in os.environ


def test_where_to_run_makes_no_other_recipe():
    flags = ("--devices", "2", "--nodes", "3", "--accelerator", "cpu")
    one, two = load_recipe("quickstart"), load_recipe("quickstart", *flags)
    assert differences(one, two) == []
    assert differences(one, load_recipe("quickstart", "--optim.accumulate", "2")) == ["optim.accumulate"]


# what they tell each other -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_shares_hold_every_position_once(monkeypatch, n, world):
    monkeypatch.setattr(distributed, "world", lambda: world)
    seen = []
    for rank in range(world):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        share = distributed.shard(10, 10 + n)
        seen += range(share.start, share.stop)
    assert seen == list(range(10, 10 + n))


def test_running_statistics_are_averaged(monkeypatch):
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.BatchNorm2d(2, track_running_stats=False))
    net[1].running_mean.copy_(torch.tensor([1.0, 2.0]))
    monkeypatch.setattr(distributed, "world", lambda: 2)
    monkeypatch.setattr(distributed, "all_reduce_sum", lambda x: x + torch.tensor([3.0, 2.0, 1.0, 1.0]))
    distributed.average_batchnorm(net)
    assert net[1].running_mean.tolist() == [2.0, 2.0]
    assert net[1].running_var.tolist() == [1.0, 1.0]


def test_synchronised_batch_norm(monkeypatch):
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    assert distributed.to_sync_batchnorm(net, torch.device("cpu"))[1] is net[1]  # alone there is nothing to share
    monkeypatch.setattr(distributed, "world", lambda: 2)
    with pytest.raises(UserError, match="--sync_bn needs GPUs"):
        distributed.to_sync_batchnorm(net, torch.device("cpu"))
    shared = distributed.to_sync_batchnorm(net, torch.device("cuda"))
    assert isinstance(shared[1], nn.SyncBatchNorm)
    assert shared.state_dict().keys() == net.state_dict().keys()


def test_a_piece_in_parts():
    plan = Draws(*(torch.arange(6) for _ in range(4)))
    assert [part.index.tolist() for part in split(plan, 3)] == [[0, 1], [2, 3], [4, 5]]
