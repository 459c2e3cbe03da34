"""The run on the real CIFAR-100 that comes with the notebooks: whole, small, and open to everyone without the data."""

import re
import shutil
from pathlib import Path

import pytest
import torch

import famviz
from famkd.evaluate import evaluate_run
from famkd.files import write_rows
from famkd.models import build_model
from famkd.run.directory import Run
from famviz.report import write_report

ROOT = Path(__file__).parents[2]
PATH = ROOT / "notebooks/runs/cifar100/resnet56-resnet20/fam_review-seed0"


def test_it_is_whole_small_and_names_no_place():
    run = Run.open(PATH)
    assert run.finished
    assert run.intact
    assert run.filter_epochs() == list(range(1, 21))
    build_model("resnet20", 100).load_state_dict(run.student_state())
    assert sum(path.stat().st_size for path in PATH.rglob("*")) < 10e6
    assert not run.recipe.data.root.startswith("/")
    assert not run.recipe.teacher.weights.startswith("/")


def test_its_rows_with_checksums_are_read_without_them(tmp_path):
    old = (PATH / "metrics.jsonl").read_text()
    assert old.count('"crc32"') == 20
    rows = Run.open(PATH).metrics()
    write_rows(tmp_path / "metrics.jsonl", rows)
    assert (tmp_path / "metrics.jsonl").read_text() == re.sub(r', "crc32": "[0-9a-f]{8}"', "", old)


@pytest.mark.slow
def test_its_filters_have_learned_and_its_report_needs_no_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opened = famviz.open(PATH)
    assert [each.size for each in opened.filters] == [(32, 32), (16, 16), (8, 8)]
    for each in opened.filters:
        epochs, life = opened.history(each)
        assert len(epochs) == 20
        assert torch.as_tensor(life[-1]["amplitude"]).max() > 0  # they started from nothing
    alone = Path(shutil.copytree(PATH, "run"))  # with data that lies nowhere, not even beside some folder above it
    recipe = (alone / "recipe.yaml").read_text().replace("data/", "nowhere-at-all/")
    (alone / "recipe.yaml").write_text(recipe)
    text = write_report([alone], "report.html").read_text()
    assert "epoch" in text
    needing = "How amplitudes differ, What filters do to features, Where networks look"  # images and networks
    assert f"Left out: {needing} (There is no file" in text
    assert "After the last epoch the student by fam_review has top-1 65.49 %" in text


@pytest.mark.slow
def test_its_student_is_what_its_last_line_says(real_data):
    figures = evaluate_run(PATH, root=str(real_data("cifar100.npz")), accelerator="cpu")[0]
    row = Run.open(PATH).metrics()[-1]
    assert figures == pytest.approx({key: row[key] for key in ("top1", "top5")}, abs=0.05)  # a tie may round otherwise
