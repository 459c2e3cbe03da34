"""famkd eval: accuracy by class, confusion, calibration, agreement with the teacher, and the files that it writes."""

import csv
import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from famkd.cli import main
from famkd.cli.eval import eval_command
from famkd.config.load import load_recipe
from famkd.errors import UserError
from famkd.evaluate import evaluate_run
from famkd.evaluate.answers import Answers
from famkd.models import build_model
from famkd.run.directory import Run
from famkd.training.loop import train

# Seven images of three classes; the last class has none.
LABELS = [0, 0, 0, 1, 1, 1, 1]
PREDICTED = [0, 1, 1, 1, 0, 2, 1]


def answers(teacher: bool = False) -> Answers:
    draw = torch.Generator().manual_seed(3)
    logits = torch.rand(7, 4, generator=draw)
    logits[torch.arange(7), torch.tensor(PREDICTED)] += 1.5
    theirs = torch.eye(4)[torch.tensor([0, 1, 2, 1, 1, 3, 0])] if teacher else None
    return Answers(["a", "b", "c", "d"], logits, torch.tensor(LABELS), torch.arange(7), theirs)


@pytest.fixture
def taught(small):
    torch.manual_seed(5)
    torch.save(build_model("resnet8", 3).state_dict(), "teacher.pt")
    flags = ("--method", "kd", "--teacher.model", "resnet8", "--teacher.weights", "teacher.pt", "--epochs", "1")
    return train(small(*flags), out="run")


# figures -------------------------------------------------------------------------------------------------------------


def test_accuracy_and_confusion_by_counting():
    found = answers()
    naive = np.zeros((4, 4), int)
    for label, predicted in zip(LABELS, PREDICTED):
        naive[label, predicted] += 1
    assert found.confusion().tolist() == naive.tolist()
    assert found.accuracy_by_class() == pytest.approx([100 / 3, 50, -1, -1])
    assert found.confusions() == [(0, 1, 2), (1, 0, 1), (1, 2, 1)]


def test_calibration_error_by_its_definition():
    found = answers()
    sure, right = found.logits.softmax(1).max(1).values.numpy(), np.equal(LABELS, PREDICTED)
    error = 0.0
    for low in np.arange(10) / 10:
        inside = (sure >= low) & (sure < low + 0.1)
        if inside.any():
            error += inside.sum() / len(sure) * abs(right[inside].mean() - sure[inside].mean())
    assert found.calibration_error() == pytest.approx(100 * error, rel=1e-5)
    assert len({int(value * 10) for value in sure}) > 1  # more than one bin has images


@pytest.mark.parametrize(("logit", "error"), [(50.0, 50.0), (0.0, 0.0)])
def test_calibration_error_of_a_certain_and_of_a_modest_network(logit, error):
    logits = torch.tensor([[logit, 0.0], [logit, 0.0]])
    found = Answers(["a", "b"], logits, torch.tensor([0, 1]), torch.arange(2))
    assert found.calibration_error() == pytest.approx(error, abs=1e-4)


def test_agreement_adds_up():
    found = answers(teacher=True).agreement()
    assert found["same_class"] == pytest.approx(100 * 3 / 7)
    assert found["teacher_top1"] == pytest.approx(100 * 3 / 7)
    parts = ("both_right", "only_student_right", "only_teacher_right", "both_wrong")
    assert sum(found[part] for part in parts) == pytest.approx(100)
    assert answers().agreement() == {}


# runs ----------------------------------------------------------------------------------------------------------------


def test_a_run_is_measured_as_in_training_and_its_answers_fit_its_figures(taught):
    found = evaluate_run("run", agreement=True)
    top1 = taught.metrics()[-1]["top1"]
    assert found.figures["top1"] == pytest.approx(top1)
    assert found.answers is not None
    assert 100 * (found.answers.predicted == found.answers.labels).float().mean() == pytest.approx(top1)
    assert found.answers.agreement()["teacher_top1"] == pytest.approx(taught.teacher["top1"])
    assert evaluate_run("run", batch_size=7).by_class == found.by_class
    with pytest.raises(UserError, match="--split is train: pass test or val"):
        evaluate_run("run", split="train")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="--batch_size is -1: pass 0 or more"):
        evaluate_run("run", batch_size=-1)


@pytest.mark.slow
def test_the_tables_and_the_json_of_a_run(taught, capsys):
    main(["eval", "run", "--agreement", "--rows", "2"])
    out = capsys.readouterr().out
    assert "expected calibration error" in out
    assert "same class" in out
    assert "taken for" in out
    assert "1 of 3 classes are left out: their top1 is higher" in out
    main(["eval", "run", "--rows", "0"])
    assert len(capsys.readouterr().out.splitlines()) == 2
    main(["eval", "run", "--format", "json"])
    shown = json.loads(capsys.readouterr().out)
    assert shown["figures"]["top1"] == pytest.approx(taught.metrics()[-1]["top1"])
    assert shown["images"] == 32
    assert list(shown["by_class"]) == ["0", "1", "2"]
    assert sum(each["images"] for each in shown["confusions"]) == round(32 * (1 - shown["figures"]["top1"] / 100))


def test_predictions_and_confusions_in_files_bear_the_class_names_of_the_run(taught, capsys):
    facts = taught.facts
    taught.write_facts({**facts, "classes": ["nought", "one", "two"]})
    main(["eval", "run", "--agreement", "--predictions", "p.csv", "--confusion", "c.csv"])
    rows = list(csv.DictReader(Path("p.csv").read_text().splitlines()))
    assert [row["image"] for row in rows] == [str(place) for place in range(32)]
    assert {row["class"] for row in rows} == {"nought", "one", "two"}
    right = sum(row["class"] == row["predicted"] for row in rows)
    assert 100 * right / 32 == pytest.approx(taught.metrics()[-1]["top1"])
    header, *counts = csv.reader(Path("c.csv").read_text().splitlines())
    assert header == ["class", "nought", "one", "two"]
    assert sum(int(cell) for row in counts for cell in row[1:]) == 32
    assert sum(int(row[place + 1]) for place, row in enumerate(counts)) == right
    main(["eval", "run", "--agreement", "--predictions", "p.npz", "--confusion", "c.npz"])
    arrays = np.load("p.npz")
    assert arrays["logits"].shape == arrays["teacher_logits"].shape == (32, 3)
    assert arrays["logits"].argmax(1).tolist() == arrays["predicted"].tolist()
    assert np.load("c.npz")["counts"].tolist() == [[int(cell) for cell in row[1:]] for row in counts]


@pytest.mark.filterwarnings("ignore:.*broken")
@pytest.mark.parametrize("data", [("folder", "photos"), ("imagenet", "photos", "--data.size", "8")])
def test_predictions_name_the_files_of_the_images(tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    for split, number in product(("train", "test"), range(3)):
        path = Path(f"photos/{split}/{'ab'[number % 2]}/{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (60 * number, 0, 0)).save(path)
    Path("photos/test/a/broken.png").write_bytes(b"no image")  # it is left out of the rows and of the names
    flags = ("--student.model", "resnet8x0.5", "--data.unreadable", "skip", "--epochs", "1")
    train(load_recipe("", *flags, "--data", data[0], "--root", *data[1:]), out="run")
    main(["eval", "run", "--predictions", "p.csv"])
    main(["eval", "run", "--predictions", "p.npz"])
    rows = list(csv.DictReader(Path("p.csv").read_text().splitlines()))
    named = [f"photos/test/{name}.png" for name in ("a/0", "a/2", "b/1")]
    assert [row["file"] for row in rows] == np.load("p.npz")["files"].tolist() == named
    assert [row["class"] for row in rows] == ["a", "a", "b"]


def test_a_teacher_that_has_moved_is_named(taught):
    Path("teacher.pt").rename("elsewhere.pt")
    with pytest.raises(UserError, match=r"teacher\.pt"):
        evaluate_run("run", agreement=True)
    found = evaluate_run("run", agreement=True, teacher_weights="elsewhere.pt")
    assert found.answers is not None
    assert found.answers.agreement()["teacher_top1"] == pytest.approx(taught.teacher["top1"])


def test_what_eval_refuses(small, taught):
    train(small("--epochs", "1"), out="alone")
    for argv, why in (
        (("alone", "--agreement"), "without a teacher"),
        (("alone", "--predictions", "p.txt"), r"ends in \.csv or \.npz"),
        (("alone", "--rows", "-1"), "--rows is -1"),
        (("alone", "--confusion", "/proc/c.csv"), "Cannot write /proc"),
    ):
        with pytest.raises(UserError, match=why):
            eval_command([*argv])
    run = Run("alone")
    run.write_facts({**run.facts, "classes": ["1", "0", "2"]})
    with pytest.raises(UserError, match="in another order"):
        evaluate_run("alone")
