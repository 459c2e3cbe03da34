"""--keep K: the students of the best epochs are kept, whatever interrupts the training."""

import pytest
import torch
from helpers.run_files import Killed, kill_after_each_epoch

from famkd.errors import UserError
from famkd.evaluate import evaluate_run
from famkd.export import export
from famkd.run.directory import Run
from famkd.run.kept import best_epochs, keep_best, kept_epochs
from famkd.training.loop import train


def test_the_best_epochs_by_figure_and_then_by_time(tmp_path):
    figures = [10.0, 30.0, 20.0, 30.0, 5.0, 40.0]
    rows = [{"epoch": number, "task.ce": 1.0, "top1": value} for number, value in enumerate(figures, 1)]
    assert best_epochs(rows, 3) == [6, 2, 4]
    for count in range(1, 7):
        keep_best(tmp_path, rows[:count], {"weight": torch.tensor(float(count))}, 2)
        assert kept_epochs(tmp_path) == sorted(best_epochs(rows[:count], 2))


@pytest.mark.slow
def test_kept_students_are_those_of_their_epochs(small, monkeypatch):
    flags = ("--epochs", "5", "--optim.steps", "4", "--keep", "2")
    run = train(small(*flags), out="run")
    kept = kept_epochs(run.path)
    assert kept == sorted(best_epochs(run.metrics(), 2))
    for epoch in kept:
        assert evaluate_run("run", epoch=epoch).figures["top1"] == pytest.approx(run.metrics()[epoch - 1]["top1"])
    report = export("run", "safetensors", epoch=kept[0], out="kept.safetensors")
    assert report.path.is_file()
    with monkeypatch.context() as killing:
        kill_after_each_epoch(killing)
        for _ in range(4):
            with pytest.raises(Killed):
                train(small(*flags), out="cut", resume=True)
    train(small(*flags), out="cut", resume=True)
    assert kept_epochs(Run("cut").path) == kept
    for epoch in kept:
        name = f"epoch{epoch:04d}.safetensors"
        assert (run.path / name).read_bytes() == (Run("cut").path / name).read_bytes()
    teacher = ("--method", "kd", "--teacher.model", "resnet8x0.5", "--teacher.weights", f"run:epoch{kept[0]:04d}")
    taught = train(small(*teacher, "--epochs", "1"), out="taught")
    assert taught.teacher["top1"] == pytest.approx(run.metrics()[kept[0] - 1]["top1"])


def test_an_epoch_that_was_not_kept_is_told(small):
    train(small("--epochs", "2"), out="run")
    with pytest.raises(UserError, match="does not hold the student of epoch 1: train with --keep"):
        evaluate_run("run", epoch=1)
    with pytest.raises(UserError, match="leave --best and --ema out"):
        evaluate_run("run", epoch=1, best=True)
