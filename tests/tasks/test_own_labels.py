"""Trainings on several labels, on numbers and without labels, from each kind of data, and what follows a training."""

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from famkd import Datasets
from famkd.cli import main
from famkd.config.load import load_recipe
from famkd.data import DATA, build_data
from famkd.errors import UserError
from famkd.evaluate import evaluate_checkpoint, evaluate_run
from famkd.export import export
from famkd.models import build_model
from famkd.run.scores import result
from famkd.tasks import TASKS
from famkd.training.judged import judged, with_classes
from famkd.training.loop import train

COUNT = {"train": 24, "test": 12}
LABELS = ["bright", "red", "wide"]


def pixels(part: str) -> np.ndarray:
    seed = {"train": 0, "test": 1}[part]
    return np.random.default_rng(seed).integers(0, 256, (COUNT[part], 8, 8, 3), np.uint8)


def truth(part: str, task: str) -> np.ndarray:
    """Targets that the pixels determine."""
    means = pixels(part).mean((1, 2))
    several = np.stack([means.mean(1) > 127, means[:, 0] > 127, means[:, 1] > 127], 1)
    return several.astype(np.uint8) if task == "multilabel" else (means / 255)


def write_images(folder: Path, part: str) -> None:
    folder.mkdir(parents=True)
    for n, image in enumerate(pixels(part)):
        Image.fromarray(image).save(folder / f"{n:02}.png")


def write_folder(root: Path, task: str, names: bool = False) -> None:
    """Images in root/train and root/test, with a table beside them where the task has labels."""
    for part in COUNT:
        write_images(root / part, part)
        if task == "unlabelled":
            continue
        with open(root / part / "labels.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file_name", "labels"] if names else ["file_name", *LABELS])
            for n, row in enumerate(truth(part, task)):
                cells = [";".join(name for name, has in zip(LABELS, row) if has)] if names else row.tolist()
                writer.writerow([f"{n:02}.png", *cells])


def write_npz(root: Path, task: str) -> Path:
    arrays = {f"x_{part}": pixels(part) for part in COUNT}
    if task != "unlabelled":
        arrays |= {f"y_{part}": truth(part, task) for part in COUNT} | {"class_names": np.asarray(LABELS)}
    np.savez(root / "own.npz", **arrays)
    return root / "own.npz"


def write_shards(root: Path) -> None:
    for part in COUNT:
        (root / part).mkdir(parents=True)
        with tarfile.open(root / part / "0.tar", "w") as tar:
            for n, image in enumerate(pixels(part)):
                data = io.BytesIO()
                Image.fromarray(image).save(data, "png")
                info = tarfile.TarInfo(f"{n:02}.png")
                info.size = len(data.getvalue())
                tar.addfile(info, io.BytesIO(data.getvalue()))


class Own(torch.utils.data.Dataset):
    """Images, with their labels where the task has any."""

    def __init__(self, part: str, task: str):
        self.images, self.task = pixels(part), task
        self.hidden = [] if task == "unlabelled" else truth(part, task)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int):
        image = torch.from_numpy(self.images[index]).permute(2, 0, 1)
        return image if self.task == "unlabelled" else (image, torch.from_numpy(self.hidden[index]))


def opened(kind: str, task: str, root: Path, monkeypatch, **options):
    """The data set of a kind for a task."""
    options = {"task": task, "classes": 3, **options}
    if kind == "npz":
        return build_data("npz", str(write_npz(root, task)), 6, **options)
    if kind == "torch":
        made = Datasets(Own("train", task), Own("test", task), workers=0)
        monkeypatch.setitem(DATA, "own", lambda root: made)
        return build_data("own", "", 6, **options)
    if kind == "shards":
        write_shards(root)
    else:
        write_folder(root, task, names=kind == "names")
    name = "folder" if kind in ("folder", "names") else "imagenet"
    streamed = {"size": 8, "workers": 0, "splits": ("train", "test")} if name == "imagenet" else {}
    return build_data(name, str(root), 6, augment=False, **streamed, **options)


CASES = [
    *[(kind, task) for task in ("multilabel", "regression") for kind in ("folder", "imagenet", "npz", "torch")],
    ("names", "multilabel"),
    *[(kind, "unlabelled") for kind in ("folder", "imagenet", "npz", "torch", "shards")],
]


@pytest.mark.filterwarnings("ignore:.*does not list its labels")
@pytest.mark.parametrize(("kind", "task"), CASES)
def test_targets_of_every_kind_of_data_reach_the_batches(kind, task, tmp_path, monkeypatch):
    data = opened(kind, task, tmp_path / "own" if kind != "npz" else tmp_path, monkeypatch, val="0.25")
    assert data.labels is None
    assert (data.n_train, data.n_val, data.n_test) == (18, 6, 12)
    tests = list(data.test(5))
    assert torch.cat([batch.index for batch in tests]).tolist() == list(range(12))
    targets = torch.cat([batch.targets for batch in tests])
    if task == "unlabelled":
        assert targets.shape == (12, 0)
        assert data.classes == ["0", "1", "2"]
    else:
        expected = torch.from_numpy(truth("test", task).astype(np.float32))
        torch.testing.assert_close(targets, expected)
        named = LABELS if kind not in ("torch",) else ["0", "1", "2"]
        assert data.classes == named
    pieces = list(data.epoch(1))
    batch = data.take(pieces[0])
    assert len(pieces) == data.steps == 3
    assert batch.targets.shape == (6, targets.shape[1])
    with pytest.raises(UserError, match=r"--data\.balance needs one class for each image"):
        data.balance("sample")


def test_one_table_may_hold_all_splits(tmp_path):
    write_folder(tmp_path, "multilabel")
    lines = ["file_name,bright,red,wide"]
    for part in COUNT:
        rows = (tmp_path / part / "labels.csv").read_text().splitlines()[1:]
        lines += [f"{part}/{row}" for row in rows]
        (tmp_path / part / "labels.csv").unlink()
    (tmp_path / "all.csv").write_text("\n".join(lines))
    data = build_data("folder", str(tmp_path), 6, augment=False, task="multilabel", table="all.csv")
    targets = torch.cat([batch.targets for batch in data.test()])
    assert torch.equal(targets, torch.from_numpy(truth("test", "multilabel")).float())


def test_images_that_a_table_does_not_name_are_counted(tmp_path):
    write_folder(tmp_path, "multilabel")
    table = tmp_path / "train" / "labels.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:1] + lines[3:]))
    with pytest.warns(UserWarning, match=r"labels\.csv does not name 2 images of .*train: 00\.png, 01\.png\."):
        data = build_data("folder", str(tmp_path), 6, task="multilabel")
    assert data.n_train == COUNT["train"] - 2


TABLES = {
    "a word": ("file_name,a,b\n00.png,1,x\n", "holds 'x' in a column of labels"),
    "two": ("file_name,a\n00.png,2\n", "labels.csv holds 2 to 2: each label of an image is 0 or 1"),
    "missing": ("file_name,a\n00.png,1\n99.png,1\n", "names images that are not in .*train: 99.png"),
    "uneven": ("file_name,a\n00.png,1,0\n", "line 2, has 3 columns, the headings 2"),
    "empty": ("file_name,a\n", "needs a line of headings, such as file_name,cat,dog"),
    "twice": ("file_name,a\n00.png,1\n00.png,0\n", "names an image of .* twice"),
    "nothing": ("file_name,a\nx.png,1\n", "names images that are not in|names no image in"),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_table_that_says_something_else_is_refused(case, tmp_path):
    write_folder(tmp_path, "multilabel")
    text, words = TABLES[case]
    (tmp_path / "train" / "labels.csv").write_text(text)
    with pytest.raises(UserError, match=words) as raised:
        build_data("folder", str(tmp_path), 6, task="multilabel")
    assert "\n" not in str(raised.value)


def test_a_checkpoint_alone_is_measured_on_its_task(tmp_path):
    write_folder(tmp_path / "own", "multilabel")
    torch.save(build_model("resnet8x0.5", 3).state_dict(), tmp_path / "w.pt")
    place = (str(tmp_path / "w.pt"), "folder", str(tmp_path / "own"))
    found = evaluate_checkpoint("resnet8x0.5", *place, task="multilabel")
    assert (list(found.figures), list(found.by_class)) == (["mAP", "F1"], LABELS)
    for task in ("unlabelled", "nothing"):
        with pytest.raises(UserError, match=rf"--task {task} has no figures .* classification, .*multilabel"):
            evaluate_checkpoint("resnet8x0.5", "w.pt", task=task)


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_predictions_are_written_beside_what_is_true(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folder(Path("own"), task)
    network = build_model("resnet8x0.5", 3)
    torch.save(network.state_dict(), "w.pt")
    command = f"eval --model resnet8x0.5 --weights w.pt --data folder --root own --task {task}".split()
    main([*command, "--predictions", "p.csv"])
    main([*command, "--predictions", "p.npz"])
    rows, arrays = list(csv.DictReader(Path("p.csv").read_text().splitlines())), np.load("p.npz")
    assert [row["file"] for row in rows] == [f"own/test/{n:02}.png" for n in range(COUNT["test"])]
    data = build_data("folder", "own", 6, augment=False, task=task)
    with torch.no_grad():
        expected = torch.cat([network.eval()(batch.images) for batch in data.test()])
    expected = expected.sigmoid() if task == "multilabel" else expected
    np.testing.assert_allclose(arrays["predicted"], expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(arrays["targets"], truth("test", task), rtol=1e-6)
    for name, shown, true in zip(LABELS, arrays["predicted"].T, truth("test", task).T):
        np.testing.assert_allclose([float(row[f"{name} predicted"]) for row in rows], shown, rtol=1e-3)
        np.testing.assert_allclose([float(row[name]) for row in rows], true, rtol=1e-4)
    with pytest.raises(SystemExit):
        main([*command, "--confusion", "c.csv"])


def test_missing_labels_are_named_with_the_cure(tmp_path):
    write_folder(tmp_path / "own", "unlabelled")
    with pytest.raises(UserError, match="Without labels pass --task unlabelled"):
        build_data("folder", str(tmp_path / "own"), 6)
    with pytest.raises(UserError, match=r"has no CSV file of labels: add labels\.csv"):
        build_data("folder", str(tmp_path / "own"), 6, task="multilabel")
    with pytest.raises(UserError, match=r"lacks y_train, y_test.*, or pass --task unlabelled"):
        build_data("npz", str(write_npz(tmp_path, "unlabelled")), 6)
    write_shards(tmp_path / "shards")
    with pytest.raises(UserError, match="Without labels pass --task unlabelled"):
        build_data("imagenet", str(tmp_path / "shards"), 6, splits=("train", "test"))


@pytest.fixture
def flags(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def make(task: str, *more: str) -> list[str]:
        root = write_npz(tmp_path, task)
        return ["--task", task, "--data", "npz", "--root", str(root), "--student.model", "resnet8", "--epochs", "1",
                "--optim.steps", "9", "--data.batch_size", "6", *more]  # fmt: skip

    return make


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("task", "method", "figure"), [("multilabel", "fam_review+kd", "mAP"), ("regression", "fam", "R2")]
)
def test_a_student_learns_from_a_teacher_of_its_task(flags, task, method, figure):
    teacher = train(load_recipe("", *flags(task)), out="teacher")
    taught = ("--teacher.model", "resnet8", "--teacher.weights", "teacher", "--method", method)
    run = train(load_recipe("", *flags(task, *taught)), out="student")
    assert result(run).figure == result(teacher).figure == figure
    assert run.teacher[figure] == pytest.approx(teacher.metrics()[-1][figure], abs=1e-3)
    measured = evaluate_run("student")
    assert measured.figures[figure] == pytest.approx(run.metrics()[-1][figure], abs=1e-3)
    assert [*measured.by_class] == (LABELS if task == "multilabel" else [])
    export("student", "safetensors")
    assert run.facts["classes"] == LABELS


@pytest.mark.slow
@pytest.mark.parametrize("extra", [(), ("--data.val", "0.25", "--augment.mixup", "0.5")])
def test_a_teacher_alone_teaches_without_labels(flags, tmp_path, extra):
    """The teacher's file does not say for how many classes it is."""
    torch.manual_seed(0)
    torch.save(build_model("resnet8", 7).state_dict(), tmp_path / "teacher.pt")
    taught = ("--teacher.model", "resnet8", "--teacher.weights", "teacher.pt", "--method", "kd", *extra)
    run = train(load_recipe("", *flags("unlabelled", *taught)), out="student")
    assert run.recipe.data.classes == 7
    assert run.recipe.section("kd").task_weight == 0
    row = run.metrics()[-1]
    assert not [name for name in row if name.startswith("task.")]
    assert result(run).figure == "agree1"
    again = evaluate_run("student")[0]
    measured = run.test["last"] if extra else row
    assert again["agree1"] == pytest.approx(measured["agree1"])
    export("student", "safetensors")
    assert json.loads((tmp_path / "student/facts.json").read_text())["labels"] is None


def test_a_network_agrees_with_itself_and_the_teacher_looks_once(tmp_path):
    torch.manual_seed(0)
    teacher = build_model("resnet8", 7).eval()
    calls = []
    teacher.register_forward_hook(lambda *_: calls.append(1))
    task = TASKS["unlabelled"]
    data = judged(task, build_data("npz", str(write_npz(tmp_path, "unlabelled")), 6, task="unlabelled"), teacher)
    assert task.evaluate(teacher, data.test(5)).figures["agree1"] == 100
    assert len(calls) == 2 * 3
    assert task.evaluate(build_model("resnet8", 7).eval(), data.test(5)).figures["agree1"] < 100
    assert len(calls) == 2 * 3


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_number_of_classes_is_read_from_the_weights(flags, tmp_path, classes):
    state = build_model("resnet8", classes).state_dict()
    torch.save(state, tmp_path / "teacher.pt")
    torch.save({name: value for name, value in state.items() if value.shape[:1] != (classes,)}, tmp_path / "bare.pt")
    taught = ("--teacher.model", "resnet8", "--method", "kd", "--teacher.weights")
    recipe = load_recipe("", *flags("unlabelled", *taught, "teacher.pt"))
    assert with_classes(recipe).data.classes == classes
    with pytest.raises(UserError, match=r"pass the number as --data\.classes"):
        with_classes(load_recipe("", *flags("unlabelled", *taught, "bare.pt")))
    with pytest.raises(UserError, match=r"missing\.pt"):
        with_classes(load_recipe("", *flags("unlabelled", *taught, "missing.pt")))
