"""Interrupted trainings: resumed equals undisturbed to the last bit, and nothing good is lost."""

import os
import re
import signal
from types import SimpleNamespace

import pytest
import torch
from helpers.processes import finish, spoken, wait_for_epochs
from helpers.run_files import Killed, files, kill_after_each_epoch, kill_at_write, same, stop_in_epoch
from helpers.runs import FAM

from famkd.errors import TrainingStopped, UserError
from famkd.run.directory import Run
from famkd.training import loop as training
from famkd.training.build import load_trained
from famkd.training.checkpoint import TrainingState
from famkd.training.loop import train

# resuming --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_killed_at_any_write_goes_on_as_if_undisturbed(pair, monkeypatch):
    recipe = pair(*FAM, "--fam_review.warmup", "3")
    whole = train(recipe, out="whole")
    assert len(whole.metrics()) == 3
    for fatal in range(10, 18):  # 2 at the start, 7 after the first epoch: all of the second, with the old resume.pt's
        with monkeypatch.context() as patched:
            kill_at_write(patched, fatal)
            with pytest.raises(Killed):
                train(recipe, out=f"cut-{fatal}")
        run = Run(f"cut-{fatal}")
        assert not run.finished
        same(whole, train(recipe, out=run.path, resume=True))


@pytest.mark.sample(1)
@pytest.mark.parametrize("options", [FAM, (), (*FAM[:1], "crd+kd", *FAM[2:])], ids=["fam_review", "none", "crd+kd"])
def test_stopping_after_every_epoch_changes_nothing(pair, monkeypatch, options):
    recipe = pair(*options)
    whole = train(recipe, out="whole")
    kill_after_each_epoch(monkeypatch)
    for done in (1, 2, 3):
        torch.manual_seed(done)  # a new process would not go on where the old one's generator stood
        with pytest.raises(Killed):
            train(recipe, out="steps", resume=True)
        assert len(Run("steps").metrics()) == done
    same(whole, Run("steps"))


@pytest.mark.slow
def test_a_killed_process_goes_on_as_if_undisturbed(pair, background):
    options = (*FAM, "--epochs", "20")
    process = background("-m", "famkd", "train", "small.yaml", "--out", "killed", *options)
    wait_for_epochs("killed", 2, process)
    process.send_signal(signal.SIGSTOP)  # it must not finish meanwhile
    with pytest.raises(UserError, match="Another process is writing killed"):
        train(pair(*options), out="killed", resume=True)
    process.kill()
    process.wait()
    done = len(Run("killed").metrics())
    assert 2 <= done < 20
    resumed = train(pair(*options), out="killed", resume=True)
    same(train(pair(*options), out="whole"), resumed)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(pair):
    runs = [train(pair("--seed", seed, "--epochs", "1"), out=f"{n}") for n, seed in enumerate("001")]
    same(*runs[:2])
    assert files(runs[0])["student.safetensors"] != files(runs[2])["student.safetensors"]


def test_with_and_without_a_teacher_a_seed_starts_the_same_student_on_the_same_batches(pair, monkeypatch):
    starts = []
    real = training.train_epoch

    def note(moment, *rest):
        state = {key: value.clone() for key, value in moment.student.state_dict().items()}
        starts.append((state, torch.cat([piece.index for piece in moment.data.epoch(1)])))
        return real(moment, *rest)

    monkeypatch.setattr(training, "train_epoch", note)
    for out, options in (("alone", ()), ("taught", FAM)):
        train(pair("--epochs", "1", *options), out=out)
    (alone, order), (taught, other) = starts
    assert alone.keys() == taught.keys()
    assert all(torch.equal(alone[key], taught[key]) for key in alone)
    assert torch.equal(order, other)


# asked to stop ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("options", [FAM, (), ("--method", "crd+kd", *FAM[2:])], ids=["fam_review", "none", "crd+kd"])
def test_stopped_between_any_two_steps_goes_on_as_if_undisturbed(pair, monkeypatch, options):
    """48 images in steps of 16: a signal before each step of three epochs, each training resumed from the last."""
    recipe = pair(*options)
    whole = train(recipe, out="whole")
    calls, real = [], training.Step.__call__

    def signalled(self, piece):
        real(self, piece)
        calls.append(piece)
        os.kill(os.getpid(), signal.SIGTERM if len(calls) % 2 else signal.SIGUSR1)

    with monkeypatch.context() as patched:
        patched.setattr(training.Step, "__call__", signalled)
        for step in range(1, 9):
            torch.manual_seed(step)
            with pytest.raises(
                TrainingStopped, match=r"SIG(TERM|USR1) in epoch \d after step \d of 3; steps .*--resume"
            ):
                train(recipe, out="steps", resume=True)
            assert len(calls) == step
            assert len(Run("steps").metrics()) == step // 3
        assert train(recipe, out="steps", resume=True).finished  # nothing is left to do when the last signal comes
    same(whole, Run("steps"))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_stopped_before_the_first_step_there_is_nothing_to_keep(pair, monkeypatch):
    monkeypatch.setattr(training.Reporter, "resume", lambda *a: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(TrainingStopped, match="SIGTERM in epoch 1 after step 0 of 3"):
        train(pair(), out="run")
    assert not Run("run").begun


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_process_told_to_go_saves_and_says_so(pair, background, name):
    process = background("-m", "famkd", "train", "small.yaml", "--out", "told", *FAM, "--epochs", "500",
                         "--engine", "eager")  # fmt: skip
    wait_for_epochs("told", 1, process)
    process.send_signal(getattr(signal, name))
    code, _, err = finish(process)
    assert code == 75
    assert re.fullmatch(
        rf"famkd: stopped by {name} in epoch \d+ after step \d of 3; told holds the state, .*--resume.*\n", spoken(err)
    )
    assert Run("told").read_resume() is not None


def test_a_finished_run_that_was_damaged_is_mended_from_what_resume_holds(pair):
    whole = train(pair(*FAM), out="whole")
    run = train(pair(*FAM), out="run")
    for name in ("student.safetensors", "method.safetensors", "metrics.jsonl", "timing.jsonl"):
        path = run.path / name
        content = bytearray(path.read_bytes())
        if path.suffix == ".jsonl":
            del content[-20:]  # a row without its end; a changed digit in a row would not be noticed
        else:
            content[len(content) - 20] ^= 1
        path.write_bytes(content)
    for look in (run.student_state, run.method_state, run.metrics):
        with pytest.raises(UserError, match="is damaged"):
            look()
    same(whole, train(pair(*FAM), out="run", resume=True))


def test_a_learning_rate_in_a_tensor_is_that_tensor_after_resuming(pair):
    """A captured step reads the tensor that it was captured with, so another one would never be heard of."""
    recipe = pair(*FAM)
    run = train(recipe, out="run")
    distiller, _ = load_trained(run)
    rate = torch.tensor(0.25)
    optimizer = torch.optim.SGD(distiller.parameters(), lr=rate, momentum=0.9)
    ledger = TrainingState(run, recipe, distiller, SimpleNamespace(optimizer=optimizer, averaged=None, scaler=None))
    assert ledger.restore() is None
    assert optimizer.param_groups[0]["lr"] is rate
    assert optimizer.state_dict()["state"]
    assert len(ledger.metrics) == 3


@pytest.mark.sample(1)
@pytest.mark.parametrize("key", ["student", "optimizer", "metrics"])
def test_a_state_of_another_making_is_told(pair, monkeypatch, key):
    monkeypatch.setattr(training, "reporting", stop_in_epoch(2))
    with pytest.raises(Killed):
        train(pair(), out="run")
    run = Run("run")
    run.write_resume({name: value for name, value in run.read_resume().items() if name != key})
    with pytest.raises(UserError, match=r"resume\.pt is damaged"):
        train(pair(), out="run", resume=True)


def test_epochs_without_a_state_to_go_on_from_are_not_written_over(pair, monkeypatch):
    monkeypatch.setattr(training, "reporting", stop_in_epoch(2))
    with pytest.raises(Killed):
        train(pair(), out="run")
    run = Run("run")
    for path in run.path.glob("resume*"):
        path.unlink()
    before = files(run)
    with pytest.raises(UserError, match=r"run holds 1 epoch but no resume\.pt .*move it away to start over"):
        train(pair(), out="run", resume=True)
    assert files(run) == before
