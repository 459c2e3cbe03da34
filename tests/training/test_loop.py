"""Training: resumed equals undisturbed to the last bit, schedules as written down, nothing good is ever lost."""

import os
import re
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.processes import finish, spoken, wait_for_epochs
from helpers.run_files import Killed, files, kill_after_each_epoch, kill_at_write, same

from famkd.config.load import load_recipe
from famkd.config.recipe import Optim
from famkd.config.validate import validated
from famkd.distill.types import Scores
from famkd.errors import TrainingStopped, UserError
from famkd.evaluate import evaluate_run
from famkd.models import build_model
from famkd.run.directory import Run
from famkd.tasks import Classification
from famkd.training import loop as training
from famkd.training.build import build_distiller, build_recipe_data, load_trained
from famkd.training.checkpoint import TrainingState
from famkd.training.loop import train
from famkd.training.schedule import learning_rate, loss_weights

FAM = ("--method", "fam_review", "--teacher.model", "resnet8", "--teacher.weights", "teacher.pt")


@pytest.fixture
def pair(small):
    """`small`, with an untrained teacher of another width in a file."""
    torch.manual_seed(5)
    torch.save(build_model("resnet8", 3).state_dict(), "teacher.pt")
    return small


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


# what is left untouched ------------------------------------------------------------------------------------------


def test_training_leaves_the_teacher_as_it_was(pair, monkeypatch):
    seen = []

    def build(*arguments, **options):
        teacher = build_distiller(*arguments, **options).teacher
        seen.append({key: value.clone() for key, value in teacher.model.state_dict().items()})
        seen.append(build_distiller(*arguments, **options))
        return seen[-1]

    monkeypatch.setattr("famkd.training.build.build_distiller", build)
    run = train(pair(*FAM), out="run")
    start, trained = seen[0], seen[1].teacher.model
    assert trained.state_dict().keys() == start.keys()
    assert all(torch.equal(trained.state_dict()[key], start[key]) for key in start)  # running statistics among them
    assert not trained.training
    assert all(p.grad is None and not p.requires_grad for p in trained.parameters())
    from_file = build_model("resnet8", 3)
    from_file.load_state_dict(torch.load("teacher.pt", weights_only=True))
    images = build_recipe_data(pair()).probe().images
    torch.testing.assert_close(trained(images), from_file.eval()(images), rtol=0, atol=1e-4)
    saved = set(run.student_state()) | set(run.method_state()[0])
    assert not any("teacher" in key for key in saved)
    assert set(run.student_state()) == set(build_model("resnet8x0.5", 3).state_dict())


def test_a_finished_run_is_not_trained_again(pair, monkeypatch):
    run = train(pair(*FAM), out="run")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.path.glob("[!.]*.*")}
    monkeypatch.setattr(training, "train_epoch", lambda *a: pytest.fail("trained again"))
    for resume in (False, True):
        train(pair(*FAM), out="run", resume=resume)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before


def test_an_unfinished_run_is_refused_without_resume(pair, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(training, "reporting", _stop_in_epoch(2))
        with pytest.raises(Killed):
            train(pair(), out="run")
    before = files(Run("run"))
    with pytest.raises(UserError, match="run holds an unfinished run: pass --resume to continue, or another --out"):
        train(pair(), out="run")
    assert files(Run("run")) == before


def _stop_in_epoch(number):
    """A reporter that ends training at the first step of an epoch."""

    class Reporter:
        done = 0

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return False

        def resume(self, epoch):
            self.done = epoch

        def step(self):
            if self.done + 1 == number:
                raise Killed

        def epoch(self, row, seconds):
            self.done += 1

    return lambda *a: Reporter()


def test_another_recipe_in_the_directory_is_refused_by_the_fields_that_differ(pair):
    train(pair("--epochs", "1"), out="run")
    before = files(Run("run"))
    for resume in (False, True):
        with pytest.raises(UserError, match=r"run of another recipe \(optim\.lr, seed differ\).*another --out"):
            train(pair("--epochs", "1", "--lr", "0.01", "--seed", "1"), out="run", resume=resume)
    assert files(Run("run")) == before


def test_a_directory_without_a_finished_epoch_is_free(pair, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(training, "reporting", _stop_in_epoch(1))
        with pytest.raises(Killed):
            train(pair("--lr", "0.01"), out="run")
    assert train(pair("--epochs", "1"), out="run").finished


# losses ----------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_is_named_and_the_last_good_epoch_kept(pair, monkeypatch):
    recipe = pair(*FAM)
    good = train(pair(*FAM, "--epochs", "1", "--optim.steps", "2"), out="good")
    forward = training.Distiller.forward

    def poisoned(self, batch):
        losses, sums = forward(self, batch)
        if self.epochs == 2:
            losses["fam_review"]["review"] = losses["fam_review"]["review"] * float("nan")
        return losses, sums

    set_epoch = training.Step.set_epoch

    def counted(self, lr, weights):
        training.Distiller.epochs += 1
        set_epoch(self, lr, weights)

    monkeypatch.setattr(training.Distiller, "epochs", 0, raising=False)
    monkeypatch.setattr(training.Distiller, "forward", poisoned)
    monkeypatch.setattr(training.Step, "set_epoch", counted)
    with pytest.raises(UserError, match=r"Not finite in step 1 of epoch 2: the loss fam_review\.review\.") as told:
        train(recipe, out="run")
    assert "\n" not in str(told.value)
    run = Run("run")
    assert len(run.metrics()) == 1
    assert files(run)["student.safetensors"] == files(good)["student.safetensors"]
    assert torch.equal(run.read_resume()["student"]["fc.weight"], run.student_state()["fc.weight"])


def test_a_wild_learning_rate_ends_in_words(pair):
    with pytest.raises(UserError, match=r"Not finite in step \d of epoch \d: the (student's|loss)"):
        train(pair("--lr", "1e30", "--optim.steps"), out="run")


def test_last_and_best_weights(pair, monkeypatch):
    scores = iter([0.0, 50.0, 80.0, 80.0, 70.0])  # the first is of the rehearsal
    states = []
    real = Run.write_epoch

    def write_epoch(self, *arguments, **options):
        real(self, *arguments, **options)
        states.append(self.student_state())

    monkeypatch.setattr(Run, "write_epoch", write_epoch)
    monkeypatch.setattr(Classification, "evaluate", lambda *a: Scores({"top1": next(scores), "top5": 100.0}))
    run = train(pair("--epochs", "4"), out="run")
    for best, epoch in ((False, 4), (True, 2)):  # of equal scores the first
        state = run.student_state(best)
        assert all(torch.equal(state[key], states[epoch - 1][key]) for key in state), epoch


def test_losses_of_each_epoch_are_named_and_the_rows_are_whole(pair):
    run = train(pair("--method", "fam_review+kd", *FAM[2:]), out="run")
    assert [row["epoch"] for row in run.metrics()] == [1, 2, 3]
    names = {"epoch", "task.ce", "fam_review.review", "kd.kd", "top1", "top5", "lr"}
    assert all(row.keys() == names for row in run.metrics())
    assert all(row["seconds"] > 0 and row["images_per_s"] > 0 for row in run.timing())
    state, notes = run.method_state()
    assert any(key.startswith("fam_review.") for key in state)
    assert notes["taps"].keys() == {"fam_review", "kd"}
    assert notes["taps"]["fam_review"]["teacher"] == ["layer1", "layer2", "layer3", "avgpool"]
    assert run.filter_epochs() == [1, 2, 3]


def test_a_run_opens_as_training_left_it(pair):
    run = train(pair(*FAM), out="run")
    distiller, data = load_trained(run)
    figures = distiller.task.evaluate(distiller.deployed, data.test()).figures
    assert figures == {key: run.metrics()[-1][key] for key in ("top1", "top5")}
    assert not distiller.training
    for key, value in distiller.methods.state_dict().items():
        assert torch.equal(value, run.method_state()[0][key])
    start = torch.load("teacher.pt", weights_only=True)
    assert torch.equal(distiller.teacher.model.state_dict()["fc.weight"], start["fc.weight"])


def test_half_precision_on_the_cpu(pair):
    full, half = (train(pair(*FAM, "--precision", p), out=p) for p in ("32-true", "bf16-mixed"))
    assert {v.dtype for v in half.student_state().values()} == {torch.float32, torch.int64}
    assert half.metrics() != full.metrics()
    for one, other in zip(full.metrics(), half.metrics()):
        assert other["task.ce"] == pytest.approx(one["task.ce"], rel=0.05)


# schedules, by hand ----------------------------------------------------------------------------------------------

STEP = Optim(epochs=240, lr=0.05, steps=(150, 180, 210), gamma=0.1)
RISING = Optim(epochs=20, lr=0.1, steps=(10,), gamma=0.5, lr_warmup=4)
COSINE = Optim(epochs=8, lr=0.2, schedule="cosine")
RATES = [
    (STEP, 1, 0.05), (STEP, 150, 0.05), (STEP, 151, 0.005), (STEP, 180, 0.005), (STEP, 181, 0.0005),
    (STEP, 210, 0.0005), (STEP, 211, 0.00005), (STEP, 240, 0.00005),
    (RISING, 1, 0.025), (RISING, 2, 0.05), (RISING, 4, 0.1), (RISING, 5, 0.1), (RISING, 10, 0.1), (RISING, 11, 0.05),
    (COSINE, 1, 0.2), (COSINE, 3, 0.17071067811865476), (COSINE, 5, 0.1), (COSINE, 7, 0.02928932188134524),
    (Optim(epochs=6, lr=0.2, schedule="cosine", lr_warmup=2), 2, 0.2),
    (Optim(epochs=6, lr=0.2, schedule="cosine", lr_warmup=2), 3, 0.2),
    (Optim(epochs=6, lr=0.2, schedule="cosine", lr_warmup=2), 5, 0.1),
]  # fmt: skip


@pytest.mark.parametrize(("optim", "epoch", "rate"), RATES)
def test_learning_rate(optim, epoch, rate):
    assert learning_rate(optim, epoch) == pytest.approx(rate, rel=1e-12)


RAMP = ("--fam_review.weight", "0.8", "--fam_review.warmup", "20")
WEIGHTS = [
    (("--method", "none"), 1, {"task": 1.0}),
    (("--method", "kd", "--kd.weight", "0.9", "--kd.task_weight", "0.1", "--kd.warmup", "0"), 1,
     {"task": 0.1, "kd": 0.9}),
    (("--method", "fam_review", *RAMP), 1, {"task": 1.0, "fam_review": 0.04}),
    (("--method", "fam_review", *RAMP), 10, {"task": 1.0, "fam_review": 0.4}),
    (("--method", "fam_review", *RAMP), 20, {"task": 1.0, "fam_review": 0.8}),
    (("--method", "fam_review", *RAMP), 240, {"task": 1.0, "fam_review": 0.8}),
    (("--method", "fam_review+kd", "--fam_review.weight", "2", "--fam_review.warmup", "4", "--kd.weight", "0.5",
      "--kd.task_weight", "0.1", "--kd.warmup", "0"), 3, {"task": 1.0, "fam_review": 1.5, "kd": 0.5}),
]  # fmt: skip


@pytest.mark.parametrize(("flags", "epoch", "weights"), WEIGHTS)
def test_loss_weights(flags, epoch, weights):
    assert loss_weights(load_recipe("quickstart", *flags), epoch) == pytest.approx(weights, rel=1e-12)


def test_the_loop_uses_both_tables(pair, monkeypatch):
    used = []
    real = training.Step.set_epoch
    monkeypatch.setattr(training.Step, "set_epoch", lambda s, lr, w: (used.append((lr, w)), real(s, lr, w)))
    run = train(pair(*FAM, "--fam_review.warmup", "2", "--fam_review.weight", "3"), out="run")
    assert [lr for lr, _ in used] == pytest.approx([0.05, 0.05, 0.005])
    assert [row["lr"] for row in run.metrics()] == [lr for lr, _ in used]
    assert [weights["fam_review"] for _, weights in used] == [1.5, 3, 3]


def test_a_rate_of_zero_moves_nothing_and_a_weight_of_zero_teaches_nothing(pair):
    torch.manual_seed(0)
    still = train(pair("--lr", "0", "--epochs", "1"), out="still")
    whole = train(pair("--lr", "0", "--epochs", "2", "--optim.steps"), out="whole")
    for key in ("conv1.weight", "fc.weight"):
        assert torch.equal(still.student_state()[key], whole.student_state()[key])
    alone = train(pair(), out="alone")
    mute = train(pair("--method", "kd", *FAM[2:], "--kd.weight", "0", "--kd.task_weight", "1"), out="mute")
    for key, value in alone.student_state().items():
        torch.testing.assert_close(mute.student_state()[key], value)


# teachers --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_teacher_named_by_recipe_is_trained_once(pair, monkeypatch):
    Path("big.yaml").write_text(Path("small.yaml").read_text().replace("resnet8x0.5", "resnet8"))
    root = pair().data.root
    options = ("--method", "kd", "--teacher.model", "resnet8", "--teacher.weights", "recipe:big.yaml")
    epochs = []
    real = training.train_epoch
    monkeypatch.setattr(training, "train_epoch", lambda m, *a: epochs.append((m.recipe.name, m.epoch)) or real(m, *a))
    train(pair(*options), runs="all")
    assert epochs == [("big", 1), ("big", 2), ("big", 3), ("small", 1), ("small", 2), ("small", 3)]
    teacher = Run("all/big/none-seed0")
    assert teacher.finished
    assert teacher.recipe.data.root == root
    epochs.clear()
    train(pair(*options, "--seed", "1"), runs="all")
    assert {name for name, _ in epochs} == {"small"}
    distiller, _ = load_trained(Run("all/small/kd-seed0"), runs="all")
    state = teacher.student_state()
    assert all(torch.equal(value, state[key]) for key, value in distiller.teacher.model.state_dict().items())


def test_a_teacher_from_a_run_is_the_one_from_its_file(pair):
    teacher = train(pair("--student.model", "resnet8"), out="teacher-run")
    options = ("--method", "kd", "--teacher.model", "resnet8", "--teacher.weights")
    weights = ("teacher-run", "teacher-run/student.safetensors")
    one, two = (train(pair(*options, w), out=f"by-{n}") for n, w in enumerate(weights))
    assert one.metrics() == two.metrics()
    assert teacher.finished
    best = train(pair(*options, "teacher-run/best.safetensors"), out="by-best")
    assert best.finished


@pytest.mark.slow
def test_the_baseline_is_trained_once_and_first(pair, monkeypatch):
    epochs = []
    real = training.train_epoch
    monkeypatch.setattr(training, "train_epoch", lambda m, *a: epochs.append(m.recipe.method) or real(m, *a))
    train(pair(*FAM, "--baseline", "--epochs", "1"))
    assert epochs == ["none", "fam_review"]
    assert Run("runs/small/none-seed0").finished
    assert Run("runs/small/fam_review-seed0").finished
    train(pair("--method", "kd", *FAM[2:], "--baseline", "--epochs", "1"))
    assert epochs == ["none", "fam_review", "kd"]


REFUSED = {  # flags in place of a good teacher's -> words of the error
    "no such file": (("--teacher.weights", "nowhere.pt"), r"no file of weights at nowhere\.pt"),
    "another architecture": (
        ("--teacher.model", "resnet14"),
        r"teacher\.pt does not fit the teacher resnet14: .*another architecture.*keys.*Name the model",
    ),
    "no such recipe": (("--teacher.weights", "recipe:cifar100/resnet65"), r"cifar100/resnet65.*mean cifar100/resnet"),
    "no weights": (("--teacher.weights", ""), r"teacher has no weights: pass --teacher\.weights"),
    "no teacher": (("--teacher.model", ""), r"method fam_review needs a teacher: pass --teacher\.model"),
    "no such model": (("--teacher.model", "resnet9"), r"no model 'resnet9'.*Did you mean resnet"),
    "own model pretrained": (("--teacher.weights", "pretrained"), r"No weights of resnet8 can be downloaded"),
    "no such tap": (("--teacher.taps", "layer1", "layer4"), r"no module 'layer4'.*mean layer"),
    "student tap": (("--student.taps", "layer1", "layer2.2"), r"no module 'layer2\.2'.*mean layer2"),
    "no such student": (("--student.model", "resnet8x05"), r"no model 'resnet8x05'.*mean resnet8x0\.5"),
    "no student": (("--student.model", ""), r"No student is named"),
    "no images a step": (("--data.batch_size", "0"), r"--data\.batch_size is 0: pass 1 or more"),
    "no epochs": (("--epochs", "0"), r"--optim\.epochs is 0"),
    "negative rate": (("--lr", "-1"), r"--optim\.lr is -1"),
    "rate that is no number": (("--lr", "nan"), r"--optim\.lr is nan"),
    "negative seed": (("--seed", "-1"), r"--seed is -1"),
    "nesterov without momentum": (("--optim.nesterov", "--optim.momentum", "0"), r"Nesterov"),
    "no such device": (("--accelerator", "cudda"), r"no accelerator 'cudda' here: pass auto, cpu"),
    "a graph on a cpu": (("--accelerator", "cpu", "--engine", "graph"), r"engine graph needs a CUDA device"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_trained_is_refused_in_a_sentence(pair, case):
    flags, words = REFUSED[case]
    with pytest.raises(UserError, match=words) as told:
        train(pair(*FAM, *flags), out="run")
    assert "\n" not in str(told.value)
    assert not Run("run").metrics()


@pytest.mark.parametrize("flags", [("--student.model", "resnet8x05"), ("--student.taps", "layer9")])
def test_a_misspelt_student_does_not_wait_for_its_teacher(pair, monkeypatch, flags):
    monkeypatch.setattr(training, "train_epoch", lambda *a: pytest.fail("trained before it checked"))
    recipe = load_recipe("quickstart", "--no_baseline", *flags)
    with pytest.raises(UserError, match=r"resnet8x0\.5|layer"):
        train(recipe)


def test_pretrained_weights_out_of_reach(pair, monkeypatch):
    from urllib.error import URLError

    def refuse(*args, **options):
        raise URLError("Name or service not known")

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    monkeypatch.setenv("TORCH_HOME", "nothing-cached")
    flags = ("--teacher.model", "torchvision:resnet18", "--teacher.weights", "pretrained", "--method", "kd")
    with pytest.raises(UserError, match=r"weights of torchvision:resnet18 could not be downloaded: check the network"):
        train(pair(*flags), out="run")


def test_plain_training_forgets_the_teacher(pair):
    assert validated(pair("--teacher.model", "resnet8")).teacher.model == ""
    data = build_recipe_data(pair())
    assert build_distiller(pair(), data).teacher is None


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


@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGUSR1", marks=pytest.mark.slow)])
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


def test_weights_that_break_in_the_last_step_are_not_kept(pair, monkeypatch):
    """The losses of an epoch are those before each step: after the last one, only the weights tell."""
    real = training.Step.__call__

    def breaking(self, piece):
        real(self, piece)
        if self.count == 3:
            self.distiller.student.model.fc.weight.data.fill_(float("inf"))

    monkeypatch.setattr(training.Step, "__call__", breaking)
    with pytest.raises(UserError, match="Not finite in step 3 of epoch 1: the weights after it"):
        train(pair(), out="run")
    assert not Run("run").begun


def test_a_broken_teacher_is_told_before_training(pair):
    state = torch.load("teacher.pt", weights_only=True)
    state["layer2.0.conv1.weight"][0, 0, 0, 0] = float("nan")
    torch.save(state, "teacher.pt")
    with pytest.raises(UserError, match="Not finite for real images: the teacher's output at layer2"):
        train(pair(*FAM), out="run")


@pytest.mark.parametrize(
    ("where", "name"),
    [("layer2", "the student's output at layer2"), ("fc", "the student's logits")],
)
def test_what_breaks_first_is_named_with_its_step(pair, monkeypatch, where, name):
    real = training.Step.__call__

    def poison(self, piece):
        if self.count == 1:
            next(self.distiller.student.model.get_submodule(where).parameters()).data.fill_(float("nan"))
        real(self, piece)

    monkeypatch.setattr(training.Step, "__call__", poison)
    with pytest.raises(UserError, match=f"Not finite in step 2 of epoch 1: {name}"):
        train(pair(*FAM), out="run")


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
    monkeypatch.setattr(training, "reporting", _stop_in_epoch(2))
    with pytest.raises(Killed):
        train(pair(), out="run")
    run = Run("run")
    run.write_resume({name: value for name, value in run.read_resume().items() if name != key})
    with pytest.raises(UserError, match=r"resume\.pt is damaged"):
        train(pair(), out="run", resume=True)


def test_a_damaged_run_teaches_nobody_and_is_not_measured(pair):
    teacher = train(pair("--student.model", "resnet8", "--epochs", "1", "--optim.steps"), out="teacher")
    path = teacher.path / "student.safetensors"
    content = bytearray(path.read_bytes())
    content[-7] ^= 1  # within the last weight
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"student\.safetensors is damaged \(its checksum does not match\)"):
        train(pair("--method", "kd", "--teacher.model", "resnet8", "--teacher.weights", "teacher"), out="taught")
    with pytest.raises(UserError, match="its checksum does not match"):
        evaluate_run("teacher")


def test_a_long_run_keeps_few_summaries(pair, monkeypatch):
    monkeypatch.setattr("famkd.run.directory.MOST_SUMMARIES", 3)
    run = train(pair(*FAM, "--epochs", "8", "--optim.steps"), out="run")
    assert run.filter_epochs() == [3, 6]


def test_epochs_without_a_state_to_go_on_from_are_not_written_over(pair, monkeypatch):
    monkeypatch.setattr(training, "reporting", _stop_in_epoch(2))
    with pytest.raises(Killed):
        train(pair(), out="run")
    run = Run("run")
    for path in run.path.glob("resume*"):
        path.unlink()
    before = files(run)
    with pytest.raises(UserError, match=r"run holds 1 epochs but no resume\.pt .*move it away to start over"):
        train(pair(), out="run", resume=True)
    assert files(run) == before
