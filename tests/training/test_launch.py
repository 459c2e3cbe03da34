"""Several processes train as one would: same losses, each test image counted once, one writer, none left behind."""

import json
import os
import re
import signal
import sys
import warnings
from pathlib import Path

import pytest
import torch
from helpers import ddp_worker
from helpers.processes import HANG, finish, free_port, spoken, wait_for_epochs, wait_until
from torch import nn
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from famkd import distributed
from famkd.config.load import differences, load_recipe
from famkd.data.in_memory import Draws
from famkd.errors import ROLE, UserError
from famkd.models import MODELS, build_model
from famkd.run.directory import Run
from famkd.training import launch
from famkd.training.build import build_fabric, one_device
from famkd.training.loop import train
from famkd.training.processes import processes
from famkd.training.step import split
from famkd.training.stop import stop_requests

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


@pytest.mark.slow
def test_two_processes_of_torchrun_train_as_one(plain, python):
    flags = (*TAUGHT, "--method", "kd+at", "--epochs", "2")
    one = train(plain(*flags), out="one")
    command = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", WORKER, "small.yaml")
    code, _, err = python(*command, "--out", "two", *flags, "--optim.accumulate", "2", "--accelerator", "cpu")
    assert code == 0, err
    alike()
    assert err.count("epoch 1/2") == 1  # one speaks
    close(one, Run("two"))


def test_accumulation_alone_is_the_same_step(plain):
    flags = (*TAUGHT, "--method", "kd+at", "--epochs", "2")
    close(train(plain(*flags), out="one"), train(plain(*flags, "--optim.accumulate", "4"), out="parts"))


@pytest.mark.slow
def test_slurms_tasks_share_what_crd_remembers(plain, background, monkeypatch):
    """CRD's memory of the whole training set is the same everywhere, though each process saw half of each step."""
    tasks = []
    shared = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1", "SLURM_NODEID": "0",
              "SLURM_JOB_ID": "1", "SLURM_NODELIST": "127.0.0.1", "MASTER_PORT": str(free_port())}  # fmt: skip
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


# started by famkd itself -------------------------------------------------------------------------------------------

PAIR = ("--student.model", "resnet8x0.5", "--teacher.model", "resnet8", "--teacher.weights", "teacher.pt",
        "--method", "fam", "--accelerator", "cpu", "--devices", "2")  # fmt: skip


def workers(launcher: int) -> list[int]:
    """The processes that famkd started, in order of rank."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return [int(child) for child in children if b"famkd.training.worker" in Path(f"/proc/{child}/cmdline").read_bytes()]


def all_gone(*processes: int) -> bool:
    return not any(Path(f"/proc/{process}").exists() for process in processes)


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes under /proc")


@linux
@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_the_rest_and_one_device_goes_on(pair, background, rank):
    flags = (*PAIR, "--epochs", "40")
    process = background("-m", "famkd", "train", "small.yaml", "--out", "run", *flags)
    wait_for_epochs("run", 3, process)
    started = workers(process.pid)
    assert len(started) == 2
    os.kill(started[rank], signal.SIGKILL)
    code, _, err = finish(process)
    assert code == 2
    before = Run("run").metrics()
    assert 3 <= len(before) < 40
    err = spoken(err)
    assert err.startswith("famkd: A process of this training has ended, so it cannot continue. ")
    assert f" run holds epoch {len(before)}; the same command with --resume continues" in err
    assert err.count("\n") == 1
    assert all_gone(*started)
    run = train(pair(*flags, "--devices", "1"), out="run", resume=True)
    assert run.finished
    assert run.metrics()[: len(before)] == before


@linux
@pytest.mark.slow
def test_processes_without_their_launcher_save_and_end(pair, background):
    process = background("-m", "famkd", "train", "small.yaml", "--out", "run", *PAIR, "--epochs", "400")
    wait_for_epochs("run", 1, process)
    started = workers(process.pid)
    process.kill()
    wait_until(lambda: all_gone(*started))
    done = len(Run("run").metrics())
    assert 1 <= done < 400
    assert len(Run("run").read_resume()["metrics"]) == done


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "to_all"),
    [("SIGTERM", False), pytest.param("SIGUSR1", True, marks=[linux, pytest.mark.slow])],
    ids=["the launcher", "all of them"],
)
def test_processes_told_to_stop_leave_together_at_the_same_step(pair, background, name, to_all):
    flags = (*PAIR, "--epochs", "400", "--engine", "eager")
    process = background("-m", "famkd", "train", "small.yaml", "--out", "run", *flags)
    wait_for_epochs("run", 1, process)
    for receiver in (process.pid, *(workers(process.pid) if to_all else ())):
        os.kill(receiver, getattr(signal, name))
    code, _, err = finish(process)
    assert code == 75, err
    assert re.fullmatch(
        rf"famkd: stopped by {name} in epoch \d+ after step 0 of 3; run holds the state.*\n", spoken(err)
    ), err
    done = len(Run("run").metrics())
    assert 1 <= done < 400
    assert len(Run("run").read_resume()["metrics"]) == done


@linux
@pytest.mark.slow
def test_ctrl_c_ends_all_processes(pair, background):
    process = background("-m", "famkd", "train", "small.yaml", "--out", "run", *PAIR, "--epochs", "400")
    wait_for_epochs("run", 1, process)
    started = workers(process.pid)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130
    assert re.fullmatch(r"famkd: interrupted; the run directory holds the last finished epoch, .*\n", spoken(err)), err
    assert all_gone(*started)


@pytest.mark.slow
def test_teacher_baseline_and_student_use_the_same_processes(pair, python):
    Path("teacher.yaml").write_text(Path("small.yaml").read_text().replace("epochs: 3", "epochs: 1"))
    flags = (*PAIR, "--teacher.model", "resnet8x0.5", "--teacher.weights", "recipe:teacher.yaml", "--baseline")
    command = ("train", "small.yaml", "--out", "run", *flags, "--epochs", "1", "--optim.steps")
    code, out, err = python("-m", "famkd", *command)
    assert code == 0
    assert err.count("epoch 1/1") == 3
    assert out.count("student resnet8x0.5 by fam: run") == 1  # one closing table
    for path in ("runs/teacher/none-seed0", "runs/small/none-seed0", "run"):
        assert Run(path).machine["processes"] == 2
        assert Run(path).machine["command"] == " ".join(("famkd", *command))


@pytest.mark.slow
def test_what_cannot_be_shared_out_is_told_once(pair, python):
    code, out, err = python("-m", "famkd", "train", "small.yaml", "--out", "run", *PAIR, "--data.batch_size", "15")
    assert code == 2
    assert "epoch 1" not in out + err
    told = spoken(err)
    assert len(told.splitlines()) == 1
    assert told.startswith("famkd: A step of 15 images cannot be cut into 2 equal parts")
    assert "multiple of 2" in told


@pytest.mark.slow
def test_nobody_reading_on_ends_all_processes_without_a_word(pair, background):
    process = background("-m", "famkd", "train", "small.yaml", "--out", "run", *PAIR, "--epochs", "400")
    process.stderr.close()
    assert process.stdout.read() == ""
    assert process.wait(HANG) == 141
    assert len(Run("run").metrics()) < 400


@pytest.mark.slow
def test_python_gets_the_error_and_keeps_its_environment(pair):
    environment, handlers = dict(os.environ), [signal.getsignal(number) for number in signal.valid_signals()]
    with pytest.raises(UserError, match="15 images cannot be cut into 2 equal parts"):
        train(pair(*PAIR, "--data.batch_size", "15"), out="run")
    assert dict(os.environ) == environment
    assert [signal.getsignal(number) for number in signal.valid_signals()] == handlers


LOST = ChildFailedError("worker", {1: ProcessFailure(1, pid=9, exitcode=-9, error_file="")})


@pytest.mark.parametrize(
    ("end", "written", "error"),
    [
        (LOST, "UserError: no space: left", "UserError('no space: left')"),
        (LOST, "TrainingStopped: stopped by SIGTERM", "TrainingStopped('stopped by SIGTERM')"),
        (LOST, "ValueError: a bug", "UserError('A process of this training has ended,"),  # its traceback was printed
        (LOST, "", "UserError('A process of this training has ended,"),
        (SignalException("", signal.SIGTERM), "UserError: no space left", "UserError('no space left')"),
        (SignalException("", signal.SIGTERM), "", "TrainingStopped('stopped by SIGTERM; run holds epoch 0;"),
        (SignalException("", signal.SIGINT), "", "KeyboardInterrupt("),
    ],
)
def test_why_processes_ended(tmp_path, end, written, error):
    for rank, text in enumerate((json.dumps({"message": {"message": written}}), '{"message": {"mess')):
        file = tmp_path / "famkd_1" / "attempt_0" / str(rank) / "error.json"
        file.parent.mkdir(parents=True)
        file.write_text(text)
    assert repr(launch._why(end, str(tmp_path), Run("run"))).startswith(error)


def test_a_signal_that_comes_twice(monkeypatch):
    """From a scheduler and from torchrun's agent: a second one does not end the process."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("ROLE_NAME", ROLE)
    with stop_requests() as requested:
        assert requested() == ""
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
        assert requested() == "SIGTERM"
        monkeypatch.setattr(os, "getppid", lambda: -1)
        assert "the process that started it" in requested()


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


def test_where_slurm_is_installed_a_training_without_it_is_not_warned_of(tmp_path, monkeypatch, recwarn):
    srun = tmp_path / "srun"
    srun.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    build_fabric(load_recipe("quickstart", "--accelerator", "cpu"))
    assert [str(each.message) for each in recwarn if "srun" in str(each.message)] == []


@pytest.mark.parametrize("given", ["", "host 29500", "host port 0", "host 29500 2", "host 29500 -1"])
def test_many_machines_need_an_address(small, monkeypatch, given):
    for name, value in zip(("MASTER_ADDR", "MASTER_PORT", "NODE_RANK"), given.split()):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"--nodes needs torchrun or SLURM, or MASTER_ADDR.* NODE_RANK \(0 to 1\)"):
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


def test_a_training_on_a_machine_with_slurm_needs_no_srun(tmp_path, monkeypatch):
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one_device("cpu")
