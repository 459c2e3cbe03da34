"""Damaged and odd files: reading one either works or ends in one sentence, and never runs or writes anything.

Every file of `corpus` once did something else. The first word of its name says what reads it.
"""

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.famviz_runs import make_run
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import nn

import famviz
from famkd.config.load import load_recipe
from famkd.data.archives import npz
from famkd.data.coco_annotations import read_instances
from famkd.data.coco_files import find_annotations
from famkd.errors import UserError, inert
from famkd.files import write_rows
from famkd.models import build_model, load_weights
from famkd.run.directory import Run

CORPUS = Path(__file__).parent / "corpus"
RECIPE = b"""# a comment
student: {model: resnet8x0.5, taps: [layer1, layer2.-1]}
teacher: {model: resnet14, weights: "recipe:quickstart"}
method: fam_review+kd
fam_review: {highpass: butterworth, cutoff: 0.2}
kd: {temperature: 4.0}
data: {name: npz, root: data.npz, batch_size: 16, augment: false}
optim:
  epochs: 3
  steps: [2, 3]
baseline: true
"""
WORDS = ["seed", "name", "help", "method", "task", "kd", "fam", "none", "detection", "optim", "optim.lr", "data",
         "student", "taps", "baseline", "true", "false", "1", "-1", "nan", "--help", "-h", "../../x", "/x", "<<", "",
         "tyro-write-completion", "bash", "\x1b]0;x\x07", "\u202e", "=1+1", "[bold]", "\0", "9" * 5000]  # fmt: skip

words = st.sampled_from(WORDS)
trees = st.recursive(words, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4))
edits = st.lists(
    st.tuples(st.sampled_from(["flip", "cut", "insert", "drop"]), st.integers(0, 1 << 20), st.binary(max_size=6)),
    min_size=1, max_size=4,
)  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([1 << 70, 1e300, float("nan"), "", "dense", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["modules", "taps", "a"]), inner),
)


def examples(count: int):
    """So many examples, the same ones every time."""
    return settings(
        max_examples=count, derandomize=True, deadline=None, database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )  # fmt: skip


def edited(data: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    """Flip a bit, cut off the end, insert bytes or drop bytes, at some places."""
    for kind, place, fresh in changes:
        at = place % (len(data) + 1)
        head, tail = data[:at], data[at:]
        if kind == "flip" and tail:
            tail = bytes([tail[0] ^ (1 << place % 8)]) + tail[1:]
        elif kind == "cut":
            tail = b""
        elif kind == "insert":
            tail = fresh + tail
        elif kind == "drop":
            tail = tail[len(fresh) :]
        data = head + tail
    return data


def check(read, *arguments) -> None:
    """Reading works, or raises a UserError of printable text."""
    said = "it worked"
    try:
        read(*arguments)
    except UserError as error:
        said = str(error)
    assert said.strip()
    assert inert(said) == said


def check_recipe(data: bytes) -> None:
    Path("a.yaml").write_bytes(data)
    check(load_recipe, "a.yaml")
    assert os.listdir() == ["a.yaml"]  # nothing was written


def check_archive(data: bytes) -> None:
    Path("a.npz").write_bytes(data)
    check(npz, "a.npz")


def check_annotations(data: bytes) -> None:
    Path("annotations").mkdir(exist_ok=True)
    Path("val2017").mkdir(exist_ok=True)
    Path("annotations/instances_val2017.json").write_bytes(data)
    check(lambda: read_instances(find_annotations(".", "val")))


def check_run(run: Run) -> None:
    """Everything that can be read from a run, one by one."""
    for name in ("recipe", "machine", "finished"):
        check(getattr, run, name)
    for read in (run.metrics, run.timing, run.student_state, run.method_state, run.filter_epochs, run.read_resume):
        check(read)
    for epoch in run.filter_epochs():
        check(run.filter_summary, epoch)
    check(famviz.open, run)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory) -> Path:
    run = make_run(tmp_path_factory.mktemp("whole") / "run", shapes=((2, 5), (2, 4)), epochs=2)
    run.write_resume({"metrics": run.metrics(), "student": {}})
    return run.path


@pytest.fixture
def run(whole_run, tmp_path) -> Run:
    shutil.copytree(whole_run, tmp_path / "run")
    return Run(tmp_path / "run")


@examples(60)
@given(changes=edits)
def test_a_damaged_recipe(folder, changes):
    check_recipe(edited(RECIPE, changes))


@examples(60)
@given(tree=st.dictionaries(words, trees, max_size=5))
def test_a_recipe_of_odd_words_in_odd_places(folder, tree):
    check_recipe(yaml.safe_dump(tree, sort_keys=False).encode())


@pytest.mark.slow
@examples(30)
@given(pick=st.integers(0, 99), changes=edits)
def test_a_damaged_run(run, whole_run, pick, changes):
    files = sorted(path.relative_to(whole_run) for path in whole_run.rglob("*") if path.is_file())
    name = files[pick % len(files)]
    (run.path / name).write_bytes(edited((whole_run / name).read_bytes(), changes))
    check_run(run)
    shutil.copy(whole_run / name, run.path / name)


@pytest.mark.slow
@examples(40)
@given(notes=values, rows=st.lists(values, max_size=3), machine=values)
@example(notes={"modules": {"fam_review.levels.0.filter": {"filter": "dense"}}, "taps": {}}, rows=[{}], machine=[])
@example(notes={"modules": {"a": []}, "taps": []}, rows=[{"epoch": "1"}], machine=3)
def test_a_run_with_odd_notes(run, notes, rows, machine):
    methods = nn.ModuleDict({"a": nn.Linear(1, 1)})
    run.write_epoch([{"epoch": 1, "top1": 1.0}], [{"epoch": 1}], nn.Linear(1, 1), methods, notes, best=False)
    (run.path / "machine.json").write_text(json.dumps(machine))
    write_rows(run.path / "metrics.jsonl", [row if isinstance(row, dict) else {"epoch": row} for row in rows])
    check_run(run)


@examples(60)
@given(changes=edits)
def test_a_damaged_archive(folder, changes):
    x, y = np.zeros((3, 4, 4, 3), np.uint8), np.arange(3)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x_train=x, y_train=y, x_test=x, y_test=y, class_names=np.array(["a", "b", "c"]))
    check_archive(edited(buffer.getvalue(), changes))


@examples(100)
@given(changes=edits)
def test_damaged_annotations(folder, changes):
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2], "area": 4, "iscrowd": 0}
    image = {"id": 1, "file_name": "a.jpg", "height": 8, "width": 8}
    content = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "cat"}]}
    check_annotations(edited(json.dumps(content).encode(), changes))


@pytest.mark.parametrize("file", sorted(CORPUS.iterdir()), ids=lambda file: file.name)
def test_a_file_that_once_went_wrong(file, folder, whole_run):
    kind = file.name.partition("_")[0]
    if kind == "recipe":
        check_recipe(file.read_bytes())
    elif kind == "npz":
        check_archive(file.read_bytes())
    elif kind == "coco":
        check_annotations(file.read_bytes())
    elif kind == "run":  # run_FILE_what.ENDING replaces FILE.ENDING of a good run
        shutil.copytree(whole_run, "run")
        shutil.copy(file, Path("run") / f"{file.name.split('_')[1]}{file.suffix}")
        check_run(Run("run"))
    else:
        assert kind == "weights", f"no reader for {file.name}"
        check(load_weights, build_model("resnet8", 3), file)
        check(famviz.open, file)
