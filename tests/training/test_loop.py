"""The training loop: what it leaves untouched, what it refuses, what it writes, and losses that are not finite."""

import pytest
import torch
from helpers.run_files import Killed, files, stop_in_epoch
from helpers.runs import FAM

from famkd.distill.types import Scores
from famkd.errors import UserError
from famkd.models import build_model
from famkd.run.directory import Run
from famkd.tasks import Classification
from famkd.training import loop as training
from famkd.training.build import build_distiller, build_recipe_data, load_trained
from famkd.training.loop import train

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
        patched.setattr(training, "reporting", stop_in_epoch(2))
        with pytest.raises(Killed):
            train(pair(), out="run")
    before = files(Run("run"))
    with pytest.raises(UserError, match="run holds an unfinished run: pass --resume to continue, or another --out"):
        train(pair(), out="run")
    assert files(Run("run")) == before


def test_another_recipe_in_the_directory_is_refused_by_the_fields_that_differ(pair):
    train(pair("--epochs", "1"), out="run")
    before = files(Run("run"))
    for resume in (False, True):
        with pytest.raises(UserError, match=r"run of another recipe \(optim\.lr, seed differ\).*another --out"):
            train(pair("--epochs", "1", "--lr", "0.01", "--seed", "1"), out="run", resume=resume)
    assert files(Run("run")) == before


def test_a_directory_without_a_finished_epoch_is_free(pair, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(training, "reporting", stop_in_epoch(1))
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


def test_a_long_run_keeps_few_summaries(pair, monkeypatch):
    monkeypatch.setattr("famkd.run.directory.MOST_SUMMARIES", 3)
    run = train(pair(*FAM, "--epochs", "8", "--optim.steps"), out="run")
    assert run.filter_epochs() == [3, 6]
