"""What would end a training later is told before its first epoch, and before its teacher's."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.tiny_coco import make_coco, tiny_detector
from PIL import Image

from famkd.config.load import load_recipe
from famkd.errors import UserError
from famkd.models import DETECTORS, build_model
from famkd.run.directory import Run
from famkd.tasks import Classification
from famkd.training.build import build_distiller, build_recipe_data
from famkd.training.loop import train
from famkd.training.rehearse import bytes_of_run, must_have_room, rehearse

TAUGHT = ("--method", "kd", "--teacher.model", "resnet8", "--epochs", "1", "--optim.steps")


@pytest.fixture
def school(small):
    """A student whose teacher is the recipe big.yaml, which is not trained yet."""
    Path("big.yaml").write_text(Path("small.yaml").read_text().replace("resnet8x0.5", "resnet8"))
    return lambda *flags: small(*TAUGHT, "--teacher.weights", "recipe:big.yaml", *flags)


def nothing_trained() -> bool:
    return not list(Path().rglob("metrics.jsonl"))


def folders(*places: str) -> None:
    for place in places:
        for label in "ab":
            folder = Path(place, label)
            folder.mkdir(parents=True)
            for n in range(4):
                Image.new("RGB", (8, 8), (40 * n, 9, 99)).save(folder / f"{n}.png")


def test_a_training_that_can_start_is_rehearsed_without_a_trace(school):
    data, needed = rehearse(school("--baseline"))
    assert data.steps == 3
    assert needed > 100_000
    assert not Path("runs").exists()


@pytest.mark.parametrize(("flags", "why"), [
    (("--log", "mlflow"), "pip install mlflow"),
    (("--optim.accumulate", "5"), "5 equal parts"),
    (("--student.weights", "gone.pt"), "no file of weights at gone.pt"),
    (("--data.root", "gone.npz"), "no file gone.npz"),
    (("--data.val", "0.001"), "holds none out"), (("--data.val", "middle"), "middle"),
    (("--method", "fam", "--student.taps", "layer9"), "layer9"),
    (("--engine", "graph"), "engine graph"),
    (("--baseline", "--name", "a_file/x"), "Cannot write into .*a_file"),
])  # fmt: skip
def test_before_the_teacher_is_trained(school, monkeypatch, flags, why):
    monkeypatch.setattr("famkd.training.loggers.find_spec", lambda name: None)
    Path("a_file").touch()
    Path("runs").symlink_to(".") if "a_file/x" in flags else None
    with pytest.raises(UserError, match=why):
        train(school(*flags))
    assert nothing_trained()


@pytest.mark.parametrize(("flags", "why"), [
    (("--devices", "5"), r"5 equal parts \(5 processes"), (("--devices", "2", "--sync_bn"), "--sync_bn needs GPUs"),
])  # fmt: skip
def test_what_several_processes_cannot_do_is_told_by_one(school, flags, why):
    with pytest.raises(UserError, match=why):
        rehearse(school("--accelerator", "cpu", *flags))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_an_absent_device_is_told(school):
    with pytest.raises(UserError, match="There is no accelerator 'cuda' here"):
        rehearse(school("--accelerator", "cuda"))


def test_a_teacher_that_cannot_be_loaded_is_told_before_the_baseline_is_trained(small):
    torch.save(build_model("resnet8", 5).state_dict(), "five.pt")
    for weights, why in (("gone.pt", "no file of weights"), ("five.pt", "has 5 classes, the model 3")):
        with pytest.raises(UserError, match=why):
            train(small(*TAUGHT, "--teacher.weights", weights, "--baseline"))
    assert nothing_trained()


def test_another_run_in_the_place_of_the_baseline_is_told_before_the_teacher_is_trained(school, small):
    train(small("--epochs", "2", "--optim.steps", "--lr", "0.01"), out="runs/small/none-seed0")
    with pytest.raises(UserError, match="none-seed0 holds a run of another recipe"):
        train(school("--baseline"))
    assert not Path("runs/big").exists()


def test_a_missing_test_folder_is_told(small):
    torch.save(build_model("resnet8", 2).state_dict(), "two.pt")
    folders("own/train")
    flags = ("--teacher.weights", "two.pt", "--baseline", "--data", "folder", "--data.root", "own")
    with pytest.raises(UserError, match="test"):
        train(small(*TAUGHT, *flags, "--data.batch_size", "4"))
    assert nothing_trained()


@pytest.mark.parametrize(
    "part", ["annotations/instances_train2017.json", "annotations/instances_val2017.json", "val2017"]
)
def test_a_part_of_coco_that_is_missing_is_told(tmp_path, monkeypatch, part):
    monkeypatch.setitem(DETECTORS, "tiny", tiny_detector)
    root = make_coco(tmp_path / "coco")
    gone = root / part
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    flags = ("--data.root", str(root), "--data.sides", "64", "--data.workers", "0", "--data.batch_size", "2")
    recipe = load_recipe("coco/fasterrcnn_resnet50", "--student.model", "tiny", *flags)
    with pytest.raises(UserError, match=Path(part).name):
        rehearse(recipe, tmp_path / "run")


def test_a_package_that_only_the_evaluation_needs_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(DETECTORS, "tiny", tiny_detector)
    for name in ("pycocotools", "pycocotools.coco", "pycocotools.cocoeval"):
        monkeypatch.setitem(sys.modules, name, None)
    flags = ("--student.model", "tiny", "--data.root", str(make_coco(tmp_path / "coco")), "--data.sides", "64",
             "--data.workers", "0", "--data.batch_size", "2")  # fmt: skip
    with pytest.raises(UserError, match="pip install famkd"):
        train(load_recipe("coco/fasterrcnn_resnet50", *flags), out=tmp_path / "run")
    assert Run(tmp_path / "run").metrics() == []


def test_an_evaluation_that_fails_is_told_before_the_first_epoch(small, monkeypatch):
    class Refusing(Classification):
        def evaluate(self, model, batches):
            for batch in batches:
                assert len(batch.images) == 1  # a rehearsal looks at few images
            raise UserError("no figures today")

    monkeypatch.setattr("famkd.training.build.TASKS", {"classification": Refusing()})
    with pytest.raises(UserError, match="no figures today"):
        train(small("--epochs", "1"), out="run")
    assert Run("run").metrics() == []


def test_a_full_disk_is_told(small, monkeypatch):
    usage = SimpleNamespace(free=10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"The disk of run has 0.0 MiB free; 1 run would take \d\.\d MiB"):
        train(small("--epochs", "1"), out="run")
    assert nothing_trained()
    usage.free = 3 << 30
    must_have_room(Path("x/y/z"), 3 << 30)
    with pytest.raises(UserError, match=r"has 3.0 GiB free; two runs would take 4.0 GiB at least"):
        must_have_room(Path("x/y/z"), 4 << 30, "two runs")


def test_the_bytes_of_a_run_are_those_that_it_writes(small):
    run = train(small("--epochs", "2", "--optim.steps"), out="run")
    kept = sum(path.stat().st_size for path in run.path.rglob("*") if path.is_file())
    data = build_recipe_data(run.recipe)
    least = bytes_of_run(build_distiller(run.recipe, data))
    assert 0.5 * kept < least < 2 * kept


def test_a_rehearsal_changes_nothing_in_the_training(small):
    recipe = small("--epochs", "1", "--optim.steps")
    one = train(recipe, out="one")
    rehearse(replace(recipe, seed=5))
    assert train(recipe, out="two runs").metrics() == one.metrics()
