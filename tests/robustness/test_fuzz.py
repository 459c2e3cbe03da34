"""Files that nobody meant to write: whatever they hold, it works or ends in one sentence, soon, and runs nothing.

Every file of `tests/corpus` once ended otherwise; the first part of its name says what reads it.
"""

import io
import json
import os
import shutil
import time
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
from famkd.data.coco_annotations import read_instances
from famkd.data.small import npz
from famkd.errors import UserError, inert
from famkd.models import build_model, load_weights
from famkd.run.directory import Run

CORPUS = Path(__file__).parent / "corpus"
SOON = 10  # seconds; what is right takes a hundredth of it
VALID = b"""# a comment
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
PIECES = [*WORDS, ": ", ": ", "\n", "\n  ", "- ", "[", "]", "{", "}", ", ", "? ", "&a ", "*a", "|", ">", '"', "'", "#",
          "!!python/object/apply:os.mkdir [sprung]", "%YAML 1.1\n", "---\n", "...\n", "\\U", "\\x1b", "\t"]  # fmt: skip
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


def bounded(examples: int):
    """The same examples every time, and no more than these."""
    return settings(
        max_examples=examples, derandomize=True, deadline=None, database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )  # fmt: skip


def mutated(data: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    """Bits turned, the end cut off, bytes put in and taken out, at some places."""
    for kind, place, fresh in changes:
        at = place % (len(data) + 1)
        head, tail = data[:at], data[at:]
        turned = bytes(byte ^ (1 << place % 8) for byte in tail[:1]) + tail[1:]
        data = {"flip": head + turned, "cut": head, "insert": head + fresh + tail, "drop": head + tail[len(fresh) :]}[
            kind
        ]
    return data


def endures(read, *arguments) -> None:
    """Reading works, or ends in one sentence that no terminal obeys, or as the command line's parser ends; soon."""
    start, told = time.monotonic(), "it works"
    try:
        read(*arguments)
    except UserError as error:
        told = str(error)
    except SystemExit as ended:
        told = "the parser's own words" if ended.code == 2 else ""
    assert told.strip()
    assert inert(told) == told
    assert time.monotonic() - start < SOON


def read_run(run: Run) -> None:
    """All that a run can be asked, each question by itself."""
    questions = [lambda: run.recipe, lambda: run.machine, run.metrics, run.timing, lambda: run.finished]
    questions += [run.student_state, run.method_state, run.filter_epochs, run.read_resume]
    questions += [lambda: [run.filter_summary(epoch) for epoch in run.filter_epochs()]]
    for question in [*questions, lambda: famviz.open(run)]:
        endures(question)


def read_annotations(folder: Path, data: bytes) -> None:
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "val2017").mkdir(exist_ok=True)
    (folder / "annotations/instances_val2017.json").write_bytes(data)
    endures(read_instances, folder, "val2017")


def read_recipe(data: bytes) -> None:
    Path("a.yaml").write_bytes(data)
    endures(load_recipe, "a.yaml")
    assert os.listdir() == ["a.yaml"]  # nothing was written, nothing was run


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """An empty directory to stand in."""
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


@bounded(80)
@given(changes=edits)
def test_recipes_with_bytes_changed(alone, changes):
    read_recipe(mutated(VALID, changes))


@bounded(60)
@given(tree=st.dictionaries(words, trees, max_size=5))
def test_recipes_of_odd_words_in_odd_places(alone, tree):
    read_recipe(yaml.safe_dump(tree, sort_keys=False).encode())


@bounded(150)
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=25))
def test_recipes_of_pieces_of_yaml(alone, pieces):
    read_recipe("".join(pieces).encode())


@bounded(30)
@given(pick=st.integers(0, 99), changes=edits)
def test_runs_with_bytes_changed(run, whole_run, pick, changes):
    files = sorted(path.relative_to(whole_run) for path in whole_run.rglob("*") if path.is_file())
    name = files[pick % len(files)]
    (run.path / name).write_bytes(mutated((whole_run / name).read_bytes(), changes))
    read_run(run)
    shutil.copy(whole_run / name, run.path / name)


@bounded(40)
@given(notes=values, rows=st.lists(values, max_size=3), machine=values)
@example(notes={"modules": {"fam_review.levels.0.filter": {"filter": "dense"}}, "taps": {}}, rows=[{}], machine=[])
@example(notes={"modules": {"a": []}, "taps": []}, rows=[{"epoch": "1"}], machine=3)
def test_runs_that_tell_odd_things_of_themselves(run, notes, rows, machine):
    from famkd.files import write_rows

    methods = nn.ModuleDict({"a": nn.Linear(1, 1)})
    run.write_epoch([{"epoch": 1, "top1": 1.0}], [{"epoch": 1}], nn.Linear(1, 1), methods, notes, best=False)
    (run.path / "machine.json").write_text(json.dumps(machine))
    write_rows(run.path / "metrics.jsonl", [row if isinstance(row, dict) else {"epoch": row} for row in rows])
    read_run(run)


@bounded(40)
@given(note=st.fixed_dictionaries({}, optional={
    "filter": st.sampled_from(["dense", "separable", "lowrank", "x", 3]), "size": values,
    "channels": st.lists(st.sampled_from([2, 0, -1, 1 << 40, "2"]), max_size=3),
    "highpass": st.sampled_from(["ideal", "official", "x", 3]), "cutoff": values, "order": values, "init": values,
}))  # fmt: skip
def test_filters_with_odd_notes(run, note):
    state, notes = run.method_state()
    path, usual = next(iter(notes["modules"].items()))
    notes["modules"][path] = {**usual, **note}
    methods = nn.Module()
    methods.state_dict = lambda: state
    methods.children = lambda: iter([methods])
    row = run.metrics()[-1]
    run.write_epoch([row], run.timing(), nn.Linear(1, 1), methods, notes, best=False, epochs=1000)
    endures(famviz.open, run)


@bounded(150)
@given(changes=edits, squeezed=st.booleans())
def test_archives_with_bytes_changed(alone, changes, squeezed):
    read_archive(mutated(archive(squeezed), changes))


@bounded(150)
@given(
    names=st.lists(st.sampled_from(["x_train", "y_train", "x_test", "y_test", "class_names"]), min_size=3, max_size=5),
    shapes=st.lists(st.lists(st.integers(0, 3), max_size=4), min_size=5, max_size=5),
    kinds=st.lists(st.sampled_from(["u1", "i8", "u8", "f4", "U2", "S1", "?", "O", "c8", "M8[s]", "V3"]), min_size=5),
    fill=st.sampled_from([0, 1, 2]),
)
def test_archives_of_odd_arrays(alone, names, shapes, kinds, fill):
    buffer = io.BytesIO()
    arrays = {name: np.full(shape, fill, "u1").astype(kind) for name, shape, kind in zip(names, shapes, kinds)
              if kind != "V3"}  # fmt: skip
    np.savez(buffer, **{**usual_arrays(), **arrays})
    read_archive(buffer.getvalue())


@bounded(150)
@given(changes=edits)
def test_annotations_with_bytes_changed(tmp_path, changes):
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2], "area": 4, "iscrowd": 0}
    image = {"id": 1, "file_name": "a.jpg", "height": 8, "width": 8}
    content = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "cat"}]}
    read_annotations(tmp_path, mutated(json.dumps(content).encode(), changes))


def usual_arrays() -> dict[str, np.ndarray]:
    x, y = np.zeros((3, 4, 4, 3), np.uint8), np.arange(3)
    return {"x_train": x, "y_train": y, "x_test": x, "y_test": y, "class_names": np.array(["a", "b", "c"])}


def archive(squeezed: bool) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if squeezed else np.savez)(buffer, **usual_arrays())
    return buffer.getvalue()


def read_archive(data: bytes) -> None:
    Path("a.npz").write_bytes(data)
    endures(npz, "a.npz")


@pytest.mark.parametrize("file", sorted(CORPUS.iterdir()), ids=lambda file: file.name)
def test_what_once_went_wrong(file, alone, whole_run, capsys):
    kind = file.name.partition("_")[0]
    if kind == "recipe":
        read_recipe(file.read_bytes())
    elif kind == "npz":
        read_archive(file.read_bytes())
    elif kind == "coco":
        read_annotations(alone, file.read_bytes())
    elif kind == "run":  # run_FILE_what.ENDING takes the place of FILE.ENDING in a run that is whole
        shutil.copytree(whole_run, "run")
        shutil.copy(file, Path("run") / f"{file.name.split('_')[1]}{file.suffix}")
        read_run(Run("run"))
    else:
        assert kind == "weights", f"nobody reads {file.name}"
        endures(load_weights, build_model("resnet8", 3), file)
        endures(famviz.open, file)
