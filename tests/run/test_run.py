"""The run directory: written at once or not at all, by one process, and told apart from a damaged one."""

import contextlib
import json
import os
import re
import signal
from pathlib import Path
from zlib import crc32

import filelock
import pytest
import torch
from helpers.processes import wait_until
from safetensors.torch import load_file, save_file
from torch import nn

from famkd.config.load import load_recipe
from famkd.errors import UserError
from famkd.files import read_tensors, write_atomically, write_rows, write_tensors
from famkd.run.directory import Run
from famkd.run.summaries import notes_of, summarise

HOLD = """
import signal, sys
from famkd.run.directory import Run
with Run(sys.argv[1]).locked():
    print("held", flush=True)
    signal.pause()
"""


class Filter(nn.Module):
    """A module with notes and a summary, as the spectral filters have."""

    def __init__(self, note):
        super().__init__()
        self.weight, self.note = nn.Parameter(torch.arange(6.0).reshape(2, 3)), note

    def describe(self):
        return self.note

    def summary(self, room):
        return {"twice": (2 * self.weight).T, "room": torch.tensor([room])}


def method(note=None) -> nn.ModuleDict:
    return nn.ModuleDict({"fam": nn.Sequential(nn.Linear(2, 2), Filter({"size": [2, 3]} if note is None else note))})


def write(run: Run, epoch: int, *, best=True, methods=None, top1=10.0) -> nn.Linear:
    torch.manual_seed(epoch)
    student = nn.Linear(3, 2)
    rows = [{"epoch": e, "task.ce": 1 / e, "top1": top1} for e in range(1, epoch + 1)]
    notes = {"taps": {"fam": {"student": ["layer1"]}}, "modules": notes_of(method())}
    run.write_epoch(rows, [{"epoch": e, "seconds": 1.0} for e in range(1, epoch + 1)], student,
                    method() if methods is None else methods, notes, best)  # fmt: skip
    return student


@pytest.fixture
def run(tmp_path) -> Run:
    made = Run(tmp_path / "run")
    made.path.mkdir()
    made.begin(load_recipe("quickstart"), "cpu")
    return made


# writing at once or not at all -----------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_while_writing_leaves_the_old_file(tmp_path, monkeypatch, call, error):
    path = tmp_path / "deep" / "file"
    write_atomically(path, b"old")

    def fail(*args):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises((UserError, KeyboardInterrupt)) as told:
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    if isinstance(error, OSError):
        assert str(told.value) == f"Cannot write {path}: No space left on device. What was there before is untouched."
        assert [p.name for p in path.parent.iterdir()] == ["file"]
    write_atomically(path, b"new")  # and what an interrupted writer left behind is in nobody's way
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_bytes_are_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(f"fsync {os.fstat(fd).st_size}"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    write_atomically(tmp_path / "file", b"12345")
    assert calls == ["fsync 5", "replace"]


def test_equal_tensors_and_notes_give_equal_bytes(tmp_path):
    path, notes, seen = tmp_path / "w.safetensors", {"b": '{"x": "\u00e4"}', "a": "1", "format": "1"}, set()
    for _ in range(20):  # the library orders notes at random
        write_tensors(path, {"w": torch.arange(3.0)}, notes)
        seen.add(path.read_bytes())
    assert len(seen) == 1
    assert read_tensors(path)[1] == notes


def test_files_have_the_rights_that_others_get(tmp_path):
    before = os.umask(0o022)
    try:
        write_atomically(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_metrics_are_written_last_of_what_readers_see(run, monkeypatch):
    order, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append(b.name), replace(a, b)))
    write(run, 1)
    assert order[-1] == "metrics.jsonl"
    assert set(order) >= {"student.safetensors", "best.safetensors", "method.safetensors", "0001.safetensors"}


# one writer ------------------------------------------------------------------------------------------------------


def test_a_second_process_is_kept_out_until_the_first_is_killed(tmp_path, background):
    run = Run(tmp_path / "run")
    owner = background("-c", HOLD, str(run.path))
    assert owner.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=r"Another process is writing .*run: wait for it, or pass another --out"), \
            run.locked():  # fmt: skip
        pytest.fail("two writers")
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    wait_until(lambda: _can_be_locked(run))


def _can_be_locked(run: Run) -> bool:
    try:
        with run.locked():
            return True
    except UserError:
        return False


@pytest.mark.parametrize("error", [None, UserError("a loss is not finite")])
def test_the_lock_is_let_go_at_once_although_somebody_keeps_it(tmp_path, monkeypatch, error):
    made, real = [], filelock.FileLock
    monkeypatch.setattr(filelock, "FileLock", lambda path: made.append(real(path)) or made[-1])
    with contextlib.suppress(UserError), Run(tmp_path / "run").locked():
        assert made[0].is_locked
        if error:
            raise error
    assert not made[0].is_locked


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r"Cannot write into .*Pass another --out"), Run(path).locked():
            pytest.fail("locked a file")


# reading ---------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read(run):
    first = write(run, 1)
    state = {key: value.clone() for key, value in first.state_dict().items()}
    last = write(run, 2, best=False)
    assert [row["epoch"] for row in run.metrics()] == [1, 2]
    assert run.metrics()[1]["task.ce"] == 0.5
    assert run.timing()[0] == {"epoch": 1, "seconds": 1.0}
    for best, expected in ((False, last.state_dict()), (True, state)):
        read = run.student_state(best)
        assert read.keys() == expected.keys()
        assert all(torch.equal(read[key], expected[key]) for key in expected)
    read, notes = run.method_state()
    assert read.keys() == method().state_dict().keys()
    assert notes == {"taps": {"fam": {"student": ["layer1"]}}, "modules": {"fam.1": {"size": [2, 3]}}}
    assert run.recipe == load_recipe("quickstart")
    assert run.machine["torch"] == torch.__version__


def test_tools_read_the_files_without_famkd(run):
    write(run, 1)
    assert set(load_file(run.path / "student.safetensors")) == {"weight", "bias"}
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1]
    machine = json.loads((run.path / "machine.json").read_text())
    assert {"command", "device", "processes", "python", "torch", "torchvision", "platform", "commit"} == machine.keys()


def test_a_summary_of_each_filter_and_epoch(run):
    for epoch in (1, 2, 10):
        write(run, epoch)
    assert run.filter_epochs() == [1, 2, 10]
    summary = run.filter_summary(10)
    assert summary.keys() == {"fam.1/twice", "fam.1/room"}
    assert summary["fam.1/twice"].dtype == torch.bfloat16
    assert torch.equal(summary["fam.1/twice"].float(), torch.tensor([[0.0, 6], [2, 8], [4, 10]]))
    assert summary["fam.1/room"].tolist() == [8 << 20]  # a whole number stays one


def test_the_room_for_single_filters_is_shared_by_epochs_and_modules(run):
    run.write_epoch([{"epoch": 8}], [{"epoch": 8}], nn.Linear(3, 2), nn.ModuleDict({"a": method(), "b": method()}),
                    {}, best=True, epochs=640)  # fmt: skip
    summary = run.filter_summary(8)
    assert [int(summary[f"{name}.fam.1/room"]) for name in "ab"] == [(8 << 20) // 80 // 2] * 2


def test_modules_without_notes_are_left_out():
    assert notes_of(method({})) == {}
    assert summarise(nn.ModuleDict({"kd": nn.Identity()})) == {}


def test_plain_training_leaves_no_method(run):
    write(run, 1, methods=nn.ModuleDict())
    assert not (run.path / "method.safetensors").exists()
    assert run.method_state() == ({}, {"taps": {}, "modules": {}})
    assert run.filter_epochs() == []


def test_finished_means_all_epochs(run):
    last = run.recipe.optim.epochs
    assert not run.finished
    for epoch, finished in ((1, False), (last - 1, False), (last, True)):
        write(run, epoch)
        assert run.finished == finished


def test_a_recipe_is_parsed_again_only_if_its_file_has_changed(run, monkeypatch):
    parsed = []
    monkeypatch.setattr("famkd.run.directory.load_recipe", lambda path: parsed.append(path) or load_recipe(path))
    opened = Run(run.path)
    assert opened.recipe is opened.recipe
    _ = opened.finished
    assert len(parsed) == 1
    file = run.path / "recipe.yaml"
    file.write_text(file.read_text().replace("\nseed: 0\n", "\nseed: 3\n"))
    assert opened.recipe.seed == 3
    assert len(parsed) == 2


def test_no_run_directory(tmp_path):
    with pytest.raises(UserError, match=r"nowhere is no run directory: it holds no recipe\.yaml"):
        Run.open(tmp_path / "nowhere")
    (tmp_path / "mine" / "kd-seed0").mkdir(parents=True)
    for near in ("mine", "mine/kd-sed0"):
        with pytest.raises(UserError, match=r"it holds no recipe\.yaml\. Did you mean .*mine/kd-seed0\?"):
            Run.open(tmp_path / near)


DAMAGED = {
    "metrics.jsonl": lambda run: run.metrics(),
    "timing.jsonl": lambda run: run.timing(),
    "machine.json": lambda run: run.machine,
    "student.safetensors": lambda run: run.student_state(),
    "best.safetensors": lambda run: run.student_state(best=True),
    "method.safetensors": lambda run: run.method_state(),
    "filters/0001.safetensors": lambda run: run.filter_summary(1),
    "resume.pt": lambda run: run.read_resume(),
    "recipe.yaml": lambda run: run.recipe,
}


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("how", ["cut", "noise"])
def test_a_damaged_file_is_told_in_one_sentence(run, name, how):
    write(run, 1)
    run.write_resume({"epoch": 1, "student": nn.Linear(3, 3).state_dict()})
    DAMAGED[name](run)  # sound as it is
    path = run.path / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if how == "cut" else bytes(range(128, 256)))
    if (name, how) == ("recipe.yaml", "cut"):
        path.write_text("student: {model: resnet8")
    with pytest.raises(UserError, match=name) as told:
        DAMAGED[name](run)
    assert "\n" not in str(told.value)


def test_missing_weights_are_told(run):
    with pytest.raises(UserError, match=r"student\.safetensors is missing: restore a copy, or train again"):
        run.student_state()
    assert run.read_resume() is None
    assert run.metrics() == []


def test_weights_of_foreign_making_are_read(run):
    save_file({"weight": torch.ones(2)}, run.path / "student.safetensors")
    assert run.student_state()["weight"].tolist() == [1, 1]


# damage that still parses ---------------------------------------------------------------------------------------------


def flip(path: Path, place: int) -> None:
    """Turn one bit of a file over."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", [name for name in DAMAGED if name.endswith((".safetensors", ".pt"))])
def test_one_wrong_bit_anywhere_is_reported_or_harmless(run, name):
    """Damage that the format does not notice, such as one bit of a weight, is noticed by the checksum."""
    write(run, 1)
    run.write_resume({"epoch": 1, "student": {"weight": torch.arange(40.0)}})
    path = run.path / name
    content, sound = path.read_bytes(), str(DAMAGED[name](run))
    told = 0
    for place in range(0, len(content), max(1, len(content) // 100)):
        flip(path, place)
        try:
            assert str(DAMAGED[name](run)) == sound, place
        except UserError as error:
            told += name in str(error)
        path.write_bytes(content)
    assert told > 20


@pytest.mark.parametrize("name", ["metrics.jsonl", "timing.jsonl"])
def test_a_truncated_row_is_reported(run, name):
    write(run, 2)
    path = run.path / name
    content = path.read_bytes()
    rows = DAMAGED[name](run)
    assert len(rows) == 2
    second = content.index(b"\n") + 1
    for end in range(second + 1, len(content) - 1):
        path.write_bytes(content[:end])
        with pytest.raises(UserError, match=f"{name} is damaged"):
            DAMAGED[name](run)
    path.write_bytes(content[:-1])  # only the last line break is missing
    assert DAMAGED[name](run) == rows


@pytest.mark.parametrize("line", ["[1]", "3", "null", '"epoch"', "", '{"epoch": 1} {"epoch": 2}'])
def test_a_line_that_is_no_json_object_is_reported(run, line):
    (run.path / "metrics.jsonl").write_text(f'{{"epoch": 1}}\n{line}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl is damaged"):
        run.metrics()


@pytest.mark.parametrize("name", ["metrics.jsonl", "timing.jsonl"])
def test_rows_of_older_versions_with_a_checksum_read_as_those_without(run, name):
    """The files are equal to the byte but for the key "crc32", which older versions wrote last in each row."""
    write(run, 2)
    path = run.path / name
    new, rows = path.read_text(), DAMAGED[name](run)
    assert "crc32" not in new
    old = "".join(f'{line[:-1]}, "crc32": "{crc32(line.encode()):08x}"}}\n' for line in new.splitlines())
    path.write_text(old)
    assert DAMAGED[name](run) == rows
    write_rows(path, DAMAGED[name](run))
    assert path.read_text() == new == re.sub(r', "crc32": "[0-9a-f]{8}"', "", old)


def test_a_run_whose_last_row_has_no_epoch_is_not_intact(run):
    """--resume then rewrites the rows from resume.pt."""
    write(run, 1)
    assert run.intact
    write_rows(run.path / "metrics.jsonl", [{"apoch": 1, "top1": 10.0}])
    assert not run.intact


def test_a_damaged_state_gives_way_to_the_one_before(run):
    for epoch in (1, 2, 3):
        run.write_resume({"epoch": epoch, "weights": torch.ones(100)})
    weights = (run.path / "resume.pt").read_bytes().index(torch.ones(2).numpy().tobytes())
    assert run.read_resume()["epoch"] == 3
    flip(run.path / "resume.pt", weights)
    with pytest.warns(UserWarning, match=r"resume\.pt is damaged .*continuing from the state before"):
        assert run.read_resume()["epoch"] == 2
    assert not (run.path / "resume.pt").exists()  # as if killed between the two renames
    assert run.read_resume()["epoch"] == 2
    kept = (run.path / "resume.previous.pt").read_bytes()
    run.write_resume({"epoch": 3, "weights": torch.ones(100)})
    assert (run.path / "resume.previous.pt").read_bytes() == kept  # not pushed out by the damaged one
    (run.path / "resume.pt").unlink()
    flip(run.path / "resume.previous.pt", weights)
    with pytest.raises(UserError, match=r"resume\.previous\.pt is damaged .*move .*run away to start over"):
        run.read_resume()


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    def full(fd):
        raise OSError(28, "No space left on device")

    path = tmp_path / "resume.pt"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"resume\.pt: No space left on device\. What was there before is untouched"):
        write_atomically(path, b"new", previous=tmp_path / "before.pt")
    assert [each.name for each in tmp_path.iterdir()] == ["resume.pt"]
    assert path.read_bytes() == b"old"
