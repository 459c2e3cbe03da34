"""Teachers of other classes, of other images and of other orders: refused, fitted or measured, and said in words."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from famkd.errors import UserError
from famkd.evaluate import closing_table, evaluate_checkpoint, evaluate_run
from famkd.export import export
from famkd.features.prepare import preparation
from famkd.models import build_model
from famkd.models.heads import classifiers, select_classes
from famkd.run.directory import Run
from famkd.training.build import build_recipe_data, build_step, build_training, load_trained
from famkd.training.loop import train
from famkd.training.teacher import chance_level, most_by_chance

KD = ("--method", "kd", "--teacher.model", "resnet8", "--teacher.weights")
FAM = ("--method", "fam", "--teacher.model", "resnet8", "--teacher.weights")


@pytest.fixture
def school(small) -> Run:
    """A working directory with a trained teacher in `teacher`, and its student's recipe `small.yaml`."""
    return train(small("--student.model", "resnet8", "--epochs", "4"), out="teacher")


def arrays(path) -> dict[str, np.ndarray]:
    with np.load(path) as held:
        return dict(held)


def other_data(small, name: str, **changed: np.ndarray) -> tuple[str, str]:
    """Flags for the same images with some arrays changed."""
    np.savez(name, **arrays(small().data.root), **changed)
    return "--data.root", name


def test_a_run_of_another_network_is_named(small, school):
    words = r"^teacher has weights of resnet8, not of resnet14: pass --teacher\.model resnet8\.$"
    with pytest.raises(UserError, match=words):
        train(small("--method", "kd", "--teacher.model", "resnet14", "--teacher.weights", "teacher"), out="run")
    with pytest.raises(UserError, match=r"pass --model resnet8\.$"):
        evaluate_checkpoint("resnet14", "teacher", "npz", small().data.root)


# another number of classes ----------------------------------------------------------------------------------------


@pytest.fixture
def five(small) -> str:
    torch.manual_seed(5)
    torch.save(build_model("resnet8", 5).state_dict(), "five.pt")
    return "five.pt"


@pytest.mark.parametrize("method", ["kd", "dkd", "dist", "nkd", "wttm", "figkd", "simkd", "catkd", "fam+kd"])
def test_a_random_classifier_teaches_nobody_by_its_logits(small, five, method):
    with pytest.raises(UserError, match=r"learns from the teacher's classifier.*5 classes, the model 3.*finetune_head"):
        train(small("--method", method, *KD[2:], five), out="run")
    assert not Run("run").metrics()


@pytest.mark.sample(2)
@pytest.mark.parametrize("method", ["fam", "fam_review", "at", "pkt", "crd"])
def test_features_teach_without_a_classifier(small, five, method, capsys):
    run = train(small("--method", method, *KD[2:], five, "--epochs", "1"), out="run")
    assert run.finished
    assert run.teacher == {}
    closing_table(run)
    out, err = capsys.readouterr()
    assert "teacher: its classifier is new: the checkpoint has 5 classes, the model 3" in err
    assert re.search(r"│ teacher resnet8 +│ +– │ +– │ +– │", out)


def test_pretrained_weights_with_other_classes(small, monkeypatch, capsys):
    """timm draws a new classifier without a word."""
    timm = pytest.importorskip("timm")
    real = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained, **options: real(name, **options))
    monkeypatch.setattr(timm, "is_model_pretrained", lambda name: True)
    flags = ("--teacher.model", "timm:test_resnet", "--teacher.weights", "pretrained", "--teacher.size", "32")
    with pytest.raises(UserError, match=r"kd learns.*its pretrained weights are for 1000 classes, the data has 3"):
        train(small("--method", "kd", *flags), out="run")
    run = train(small("--method", "fam", *flags, "--epochs", "1"), out="run")
    err = capsys.readouterr().err
    assert "teacher: images are resized from 8x8 to 32x32 (bilinear); pixels are normalised by mean 0.5 0.5 0.5" in err
    assert run.facts["teacher"]["size"] == [32, 32]
    with pytest.raises(UserError, match="would have random weights, because its pretrained weights are for 1000"):
        evaluate_checkpoint("timm:test_resnet", "pretrained", "npz", small().data.root)


def test_a_classifier_is_trained_first(small, school, capsys):
    """The teacher's trunk knows the digits; a classifier for them is found in a few epochs."""
    state = school.student_state()
    state["fc.weight"], state["fc.bias"] = torch.randn(5, 64), torch.randn(5)
    torch.save(state, "trunk.pt")
    flags = (*KD, "trunk.pt", "--teacher.finetune_head", "20")
    run = train(small(*flags, "--epochs", "2"), out="run")
    err = capsys.readouterr().err
    assert "teacher: its classifier was trained for 20 epochs, with a loss of" in err
    assert run.teacher["top1"] > 80
    head = run.teacher_head()
    assert {key: value.shape for key, value in head.items()} == {"fc.weight": (3, 64), "fc.bias": (3,)}
    again = train(small(*flags, "--epochs", "2"), out="again")
    assert all(torch.equal(value, again.teacher_head()[key]) for key, value in head.items())
    assert again.metrics() == run.metrics()
    distiller, data = load_trained(run)
    assert torch.equal(distiller.teacher.model.fc.weight, head["fc.weight"])
    assert torch.equal(distiller.teacher.model.conv1.weight, state["conv1.weight"])
    assert distiller.task.evaluate(distiller.teacher.model, data.test()).figures == pytest.approx(run.teacher)


@pytest.mark.slow
def test_a_resumed_run_keeps_its_trained_classifier(small, five, monkeypatch):
    flags = (*KD, five, "--teacher.finetune_head", "1")
    whole = train(small(*flags), out="whole")
    part = train(small(*flags, "--epochs", "1"), out="part")
    Path("part/recipe.yaml").write_text(Path("whole/recipe.yaml").read_text())
    monkeypatch.setattr("famkd.training.head.train_head", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(whole.recipe.task and "famkd.training.teacher.chance_level", lambda *_: pytest.fail("measured"))
    train(small(*flags), out="part", resume=True)
    assert part.metrics() == whole.metrics()


def test_no_classifier_for_the_teacher_of_a_detector(small):
    with pytest.raises(UserError, match=r"--teacher\.finetune_head is -1"):
        train(small(*KD, "teacher", "--teacher.finetune_head", "-1"))


# classes by name --------------------------------------------------------------------------------------------------


def renamed(small, name: str, names: list[str], order: list[int]) -> tuple[str, str]:
    """The same images with classes of other names; class i of the old data becomes order[i]."""
    held = arrays(small().data.root)
    labels = {key: np.array(order)[held[key]] for key in ("y_train", "y_test")}
    np.savez(name, **(held | labels), class_names=np.array(names))
    return "--data.root", name


def test_a_teacher_of_another_order_is_reordered_by_name(small, capsys):
    one, two = (
        renamed(small, "one.npz", ["a", "b", "c"], [0, 1, 2]),
        renamed(small, "two.npz", ["c", "a", "b"], [1, 2, 0]),
    )
    teacher = train(small("--student.model", "resnet8", *one), out="teacher")
    run = train(small(*KD, "teacher", *two, "--epochs", "1"), out="run")
    assert run.teacher["top1"] == pytest.approx(teacher.metrics()[-1]["top1"])
    assert run.facts["classes"] == ["c", "a", "b"]
    assert (
        "teacher: its classes are in another order than the data's: its classifier is reordered"
        in capsys.readouterr().err
    )
    assert evaluate_checkpoint("resnet8", "teacher", "npz", "two.npz")[0] == pytest.approx(run.teacher)


def test_a_teacher_of_more_classes_is_reduced_to_the_datas(small, capsys):
    held = arrays(small().data.root)
    names = np.array(["zero", "one", "two", "seven"])
    np.savez("more.npz", **held, class_names=names)
    teacher = train(small("--student.model", "resnet8", "--data.root", "more.npz"), out="teacher")
    run = train(small(*KD, "teacher", *renamed(small, "few.npz", ["one", "two", "zero"], [2, 0, 1])), out="run")
    assert "the data has 3 of its 4 classes: its classifier is reduced to these by name" in capsys.readouterr().err
    assert run.teacher["top1"] >= teacher.metrics()[-1]["top1"]


def test_a_teacher_with_other_names_is_measured_and_told(small, school, capsys):
    flags = renamed(small, "strange.npz", ["x", "y", "z"], [1, 2, 0])
    run = train(small(*KD, "teacher", *flags, "--epochs", "1"), out="run")
    closing_table(run)
    out = "".join(capsys.readouterr())
    assert (
        "its classes are called 0, 1, 2, …, those of the data x, y, z, …: they are taken to be in the same order" in out
    )
    wrong = run.teacher["top1"]
    assert wrong < 20 < 60 < school.metrics()[-1]["top1"]
    assert f"│ teacher resnet8           │ {wrong:12.2f} │            – │" in out
    assert "warning: the teacher is no better than chance" in out


def test_numbers_are_no_names(small, school):
    held = arrays(small().data.root)
    keep = {split: held[f"y_{split}"] < 2 for split in ("train", "test")}
    two = {f"{kind}_{split}": held[f"{kind}_{split}"][keep[split]] for kind in "xy" for split in keep}
    np.savez("two.npz", **two)
    with pytest.raises(UserError, match=r"kd learns from the teacher's classifier.*3 classes, the model 2"):
        train(small(*KD, "teacher", "--data.root", "two.npz"), out="run")


def test_an_exported_file_knows_its_classes(small):
    teacher = train(
        small("--student.model", "resnet8", *renamed(small, "one.npz", ["a", "b", "c"], [0, 1, 2])), out="t"
    )
    export("t", "safetensors", out="exported.safetensors")
    two = renamed(small, "two.npz", ["c", "a", "b"], [1, 2, 0])
    run = train(small(*KD, "exported.safetensors", *two, "--epochs", "1"), out="run")
    assert run.teacher["top1"] == pytest.approx(teacher.metrics()[-1]["top1"])


def test_rows_of_every_classifier_are_selected():
    torch.manual_seed(0)
    images = torch.randn(3, 3, 32, 32)
    for name in ("resnet8", "MobileNetV2", "vgg8"):
        model = build_model(name, 6).eval()
        with torch.no_grad():
            before = model(images)
            select_classes(model, [4, 0, 5], images)
            torch.testing.assert_close(model(images), before[:, [4, 0, 5]])
        assert not model.training
    timm = pytest.importorskip("timm")
    model = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=6, img_size=32).eval()
    assert list(classifiers(model, 6)) == ["head", "head_dist"]
    with torch.no_grad():
        before = model(images)
        select_classes(model, [1, 0], images)
        torch.testing.assert_close(model(images), before[:, [1, 0]])


def test_logits_from_no_layer_cannot_be_reordered():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    model = torch.nn.Sequential(model, torch.nn.Softmax(1))
    with pytest.raises(UserError, match="its classifier cannot be reordered"):
        select_classes(model, [1, 0], torch.randn(2, 3, 4, 4))


# measured ---------------------------------------------------------------------------------------------------------


def test_a_teacher_from_a_run_is_measured_on_the_students_own_test_set(small, school, capsys):
    held = arrays(small().data.root)
    held["x_test"], held["y_test"] = held["x_test"][::2], held["y_test"][::2]
    held["y_test"][:4] = (held["y_test"][:4] + 1) % 3
    np.savez("other.npz", **held)
    run = train(small(*KD, "teacher", "--data.root", "other.npz", "--epochs", "1"), out="run")
    closing_table(run)
    wanted = evaluate_checkpoint("resnet8", "teacher", "npz", "other.npz")[0]
    assert run.teacher == pytest.approx(wanted)
    assert wanted["top1"] != pytest.approx(school.metrics()[-1]["top1"])
    out, err = capsys.readouterr()
    assert f"small kd  teacher top1 {wanted['top1']:.2f}" in err
    assert f"│ teacher resnet8           │ {wanted['top1']:12.2f} │            – │" in out


def test_a_teacher_is_measured_once(small, school, monkeypatch):
    flags = (*KD, "teacher")
    train(small(*flags, "--epochs", "1"), out="run")
    monkeypatch.setattr("famkd.training.teacher.chance_level", lambda *_: pytest.fail("measured again"))
    Path("run/recipe.yaml").write_text(Path("run/recipe.yaml").read_text().replace("epochs: 1", "epochs: 2"))
    assert train(small(*flags, "--epochs", "2"), out="run", resume=True).finished


@pytest.mark.parametrize(
    ("top1", "images", "warned"), [(33.4, 300, True), (38, 300, True), (45, 300, False), (50, 12, True)]
)
def test_what_counts_as_chance(small, top1, images, warned):
    data = build_recipe_data(small())
    assert chance_level(data) == pytest.approx(100 * np.bincount(data.labels).max() / 48)
    assert (top1 <= most_by_chance(100 / 3, images)) == warned


# images -----------------------------------------------------------------------------------------------------------


def brighter(small, name: str) -> tuple[str, str]:
    """The same test images beside training images that have other statistics."""
    held = arrays(small().data.root)
    held["x_train"] = (128 + held["x_train"] // 2).astype(np.uint8)
    np.savez(name, **held)
    return "--data.root", name


def test_a_teacher_of_another_mean_and_deviation(small, school, capsys):
    """The network that is told how it was trained sees what it saw then."""
    right = school.metrics()[-1]["top1"]
    flags = brighter(small, "bright.npz")
    shutil.copy("teacher/student.safetensors", "bare.safetensors")
    mean, std = school.facts["mean"], school.facts["std"]
    told = ("--teacher.mean", *map(str, mean), "--teacher.std", *map(str, std))
    untold = train(small(*KD, "bare.safetensors", *flags, "--epochs", "1"), out="untold")
    assert untold.teacher["top1"] < right
    run = train(small(*KD, "bare.safetensors", *flags, *told, "--epochs", "1"), out="told")
    assert run.teacher["top1"] == pytest.approx(right)
    assert "teacher: pixels are normalised by mean" in capsys.readouterr().err
    own = train(small(*KD, "teacher", *flags, "--epochs", "1"), out="own")
    assert own.teacher["top1"] == pytest.approx(right)  # the teacher's run knows it
    assert own.metrics() == run.metrics()
    bare = evaluate_checkpoint("resnet8", "bare.safetensors", "npz", "bright.npz", mean=tuple(mean), std=tuple(std))
    assert bare[0]["top1"] == pytest.approx(right)
    assert evaluate_run("teacher", "npz", "bright.npz")[0]["top1"] == pytest.approx(right)


def test_networks_that_agree_with_the_data_cost_nothing(small, school):
    training = build_training(small(*KD, "teacher"), torch.device("cpu"), "runs")
    nets = (training.distiller.student.model, training.distiller.teacher.model)
    assert [preparation(net) for net in nets] == [None, None]


def test_a_size_of_its_own(small, school, capsys):
    flags = ("--teacher.size", "16", "--teacher.interpolation", "nearest", "--student.size", "8", "6")
    run = train(small(*FAM, "teacher", *flags, "--epochs", "1"), out="run")
    err = capsys.readouterr().err
    assert "teacher: images are resized from 8x8 to 16x16 (nearest)" in err
    assert "student: images are resized from 8x8 to 8x6 (bilinear)" in err
    distiller, data = load_trained(run)
    images = next(data.test(4)).images
    assert [feat.shape[-2:] for feat in distiller.teacher(images)[1]] == [(16, 16), (8, 8), (4, 4)]
    assert [feat.shape[-2:] for feat in distiller.student(images)[1]] == [(8, 6), (4, 3), (2, 2)]
    assert evaluate_run(run.path)[0]["top1"] == pytest.approx(run.metrics()[-1]["top1"])


def test_a_step_with_other_images_is_one_graph(small, school):
    from lightning_fabric import Fabric

    flags = ("--teacher.size", "12", "--teacher.mean", "0.5", "0.4", "0.3", "--student.std", "0.5", "0.5", "0.5")
    recipe = small(*FAM, "teacher", *flags)
    training = build_training(recipe, torch.device("cpu"), "runs")
    step = build_step(recipe, training.data, training.distiller, training.optimizer, Fabric(accelerator="cpu"))
    assert all(preparation(net) for net in (training.distiller.student.model, training.distiller.teacher.model))
    torch._dynamo.reset()
    graphs = []
    whole = torch.compile(step._forward, fullgraph=True, backend=lambda graph, _: graphs.append(graph) or graph)
    batch = training.data.probe()
    total = whole(batch)[0]
    assert len(graphs) == 1
    torch.testing.assert_close(total, step._forward(batch)[0])


def test_an_export_keeps_the_students_normalisation(small, few_digits):
    flags = ("--student.mean", "0.5", "0.5", "0.5", "--student.std", "0.25", "0.2", "0.3", "--student.size", "12")
    run = train(small("--epochs", "1", *flags), out="run")
    report = export("run", "pt2", input="bytes")
    assert report.input == "images (B, 3, 12, 12) uint8"
    header: dict = {"mean": "", "std": "", "size": ""}
    program = torch.export.load(report.path, extra_files=header).module()
    assert {key: json.loads(header[key]) for key in ("mean", "std", "size")} == {
        "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.2, 0.3], "size": [12, 12],
    }  # fmt: skip
    scans = torch.from_numpy(np.repeat(arrays(few_digits)["x_test"][:, None], 3, 1))
    larger = torch.nn.functional.interpolate(scans.float(), (12, 12), mode="bilinear", antialias=True)
    top1 = (program(larger.round().to(torch.uint8)).argmax(1).numpy() == arrays(few_digits)["y_test"]).mean()
    assert abs(100 * top1 - run.metrics()[-1]["top1"]) < 5
    plain = export("run", "safetensors")
    save_file(load_file(plain.path), "bare.safetensors")
    bare = evaluate_checkpoint(
        "resnet8x0.5", "bare.safetensors", "npz", str(few_digits), mean=(0.5,) * 3, std=(0.25, 0.2, 0.3), size=(12,)
    )  # fmt: skip
    assert bare[0]["top1"] == pytest.approx(run.metrics()[-1]["top1"])
    assert evaluate_checkpoint("resnet8x0.5", str(plain.path), "npz", str(few_digits))[0] == pytest.approx(bare[0])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--teacher.mean", "0.5", "0.5"), r"--teacher\.mean has 2 values, the images have 3 channels"),
        (("--teacher.std", "0", "1", "1"), r"--teacher\.std is 0\.0 1\.0 1\.0"),
        (("--teacher.size", "0"), r"--teacher\.size is 0"),
        (("--teacher.size", "8", "8", "8"), r"--teacher\.size has 3 numbers: pass height and width, or one for both"),
    ],
)
def test_images_that_cannot_be(small, school, flags, words):
    with pytest.raises(UserError, match=words):
        train(small(*KD, "teacher", *flags), out="run")


def test_a_named_copy_of_a_file_teaches(small, school):
    good, bad = school.student_state(), build_model("resnet8", 3).state_dict()
    torch.save({"state_dict": bad, "state_dict_ema": good}, "both.pt")
    run = train(small(*KD, "both.pt:ema", "--epochs", "1"), out="run")
    assert run.teacher["top1"] == pytest.approx(school.metrics()[-1]["top1"])
    with pytest.raises(UserError, match=r"both\.pt holds no weights under 'swa', but under state_dict, state_dict_ema"):
        train(small(*KD, "both.pt:swa"), out="other")
    with pytest.raises(UserError, match=r"no file of weights at nothing\.pt:ema"):
        train(small(*KD, "nothing.pt:ema"), out="other")
