"""Inject faults into real trainings: kills, signals, full and read-only disks, damaged files.

make faults                       all faults: one line each, then how many were injected and survived
python tools/faults.py --short    the faults that the slow tests inject

A training survives a fault if no finished epoch is lost, if an error is one sentence, and if --resume then gives the
same bits as a training without faults.
"""

import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import numpy as np

from famkd.command_line.main import run_script

ROOT = Path(__file__).parents[1]
HANG = 300  # seconds; only a process that hangs takes this long
EPOCHS = 4
TEACHER = f"""student: {{model: resnet8}}
data: {{name: npz, root: few.npz, batch_size: 16}}
optim: {{epochs: {EPOCHS}, lr: 0.05, steps: [2]}}
"""
STUDENT = (
    TEACHER.replace("resnet8", "resnet8x0.5")
    + """method: fam_review
teacher: {model: resnet8, weights: "recipe:teacher.yaml"}
"""
)
GRID = "recipe: student.yaml\nmethod: [kd, fam]\nseed: [0, 1]\n"
PARTS = {"step": "famkd.training.step.Step.__call__", "evaluation": "famkd.tasks.Classification.evaluate",
         "write": "os.fsync", "rename": "os.replace"}  # fmt: skip


class Fault(NamedTuple):
    """A name, and a function that injects the fault in a folder of its own; AssertionError if it is not survived."""

    name: str
    strike: Callable[[Path], None]


class Unavailable(Exception):
    """This machine does not permit the fault."""


# trainings as processes ---------------------------------------------------------------------------------------------


def prepare(folder: Path) -> None:
    """Recipes of a student and its teacher, and 80 real digits for them."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    kept = labels < 3
    x, y = (pixels[kept].reshape(-1, 8, 8) * (255 / 16)).round().astype(np.uint8), labels[kept]
    np.savez(folder / "few.npz", x_train=x[:48], y_train=y[:48], x_test=x[48:80], y_test=y[48:80])
    for name, text in (("teacher.yaml", TEACHER), ("student.yaml", STUDENT), ("grid.yaml", GRID)):
        (folder / name).write_text(text)


def start(folder: Path, *flags: str, tamper: Callable[[], None] | None = None) -> BaseProcess:
    """Start `famkd train student.yaml --out run FLAGS`, output to the file `said`; the process calls `tamper` first."""
    context = multiprocessing.get_context("forkserver")  # forks of a process that has only imported torch
    context.set_forkserver_preload(["famkd.training.loop", "famkd.cli", "famkd.evaluate"])
    process = context.Process(target=_train, args=(folder, flags, tamper), daemon=True)
    process.start()
    return process


def _train(folder: Path, flags: tuple[str, ...], tamper: Callable[[], None] | None) -> None:
    import torch

    from famkd.cli import main

    os.chdir(folder)
    with open("said", "a") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    torch.set_num_threads(1)
    if tamper:
        tamper()
    main(["train", "student.yaml", "--out", "run", *flags])


def finish(folder: Path, code: int = 0, **options) -> str:
    """Train until the process ends with the expected exit code; returns the last line of its output."""
    process = start(folder, "--resume", **options)
    process.join(HANG)
    said = (folder / "said").read_text().splitlines()
    assert process.exitcode == code, f"exit code {process.exitcode}: {said[-1:]}"
    return said[-1]


def bits(folder: Path) -> dict[str, object]:
    """What no fault may change: the rows of metrics, and every tensor of every file."""
    from safetensors import safe_open

    found: dict[str, object] = {}
    for path in sorted(folder.rglob("run*/**/*.safetensors")):
        with safe_open(path, "np" if path.parent.name != "filters" else "pt") as file:
            found[str(path.relative_to(folder))] = {key: str(file.get_tensor(key).tolist()) for key in file.keys()}  # noqa: SIM118
    return found | {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("metrics.jsonl"))}


def same(folder: Path, whole: dict[str, object]) -> None:
    mine = bits(folder)
    assert mine.keys() == whole.keys(), mine.keys() ^ whole.keys()
    assert not (other := [name for name in whole if mine[name] != whole[name]]), f"{other} differ"


# kills and signals --------------------------------------------------------------------------------------------------


def strike_in(part: str, call: int, what: str, folder: Path) -> None:
    """Make this process send itself a signal just before the nth call of a function."""
    import pkgutil

    owner, _, name = PARTS[part].rpartition(".")
    owner, count = pkgutil.resolve_name(owner), iter(range(1, 10**9))
    real = getattr(owner, name)

    def struck(*arguments, **options):
        if next(count) == call:
            (folder / "struck").touch()
            os.kill(os.getpid(), getattr(signal, what))
        return real(*arguments, **options)

    setattr(owner, name, struck)


def killed_in(part: str, call: int, whole: dict, folder: Path) -> None:
    process = start(folder, tamper=partial(strike_in, part, call, "SIGKILL", folder))
    process.join(HANG)
    assert process.exitcode == -signal.SIGKILL, process.exitcode
    assert (folder / "struck").is_file()
    finish(folder)
    same(folder, whole)


def killed_after(share: float, seconds: float, whole: dict, folder: Path) -> None:
    """Kill after a share of the time that a training without faults takes, then kill the resumed one likewise."""
    for flags in ((), ("--resume",)):
        process = start(folder, *flags)
        process.join(share * seconds)
        process.kill()
        process.join()
    finish(folder)
    same(folder, whole)


def told_to_stop(part: str, call: int, what: str, whole: dict, folder: Path) -> None:
    said = finish(folder, code=75, tamper=partial(strike_in, part, call, what, folder))
    assert said.startswith(f"famkd: stopped by {what} in epoch"), said
    finish(folder)
    same(folder, whole)


def sweep(folder: Path) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "famkd", "sweep", "grid.yaml"]
    with open(folder / "said", "a") as said:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=said, start_new_session=True)


def swept(folder: Path) -> dict[str, object]:
    assert sweep(folder).wait(HANG) == 0, (folder / "said").read_text()[-300:]
    return bits(folder)


def killed_sweep(begun: int, what: str, whole: dict, folder: Path) -> None:
    """Kill or stop a sweep with its trainings once `begun` runs have an epoch, then run the sweep again."""
    process = sweep(folder)
    while len(list(folder.rglob("metrics.jsonl"))) < begun:
        assert process.poll() is None, (folder / "said").read_text()[-300:]
        time.sleep(0.01)
    if what == "SIGKILL":
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    else:
        process.send_signal(getattr(signal, what))
        assert process.wait(HANG) == 75, process.returncode
    swept(folder)
    same(folder, whole)


# disks --------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[Path]:
    """Copy the folder to a small disk mounted at folder/disk; Unavailable where mounting is not permitted."""
    place = folder / "disk"
    place.mkdir()
    if not _mount("-t", "tmpfs", "-o", "size=16m", "tmpfs", place):
        raise Unavailable("needs the right to mount a disk")
    try:
        for path in folder.glob("*.*"):
            shutil.copy(path, place)
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def _after_epoch(epoch: int, do: Callable[[], None]) -> None:
    """Make this process call a function after it has saved an epoch."""
    from famkd.training.checkpoint import TrainingState

    real = TrainingState.save_epoch

    def add(self, row, timing):
        real(self, row, timing)
        if len(self.metrics) == epoch and self.run.path.name == "run":
            do()

    TrainingState.save_epoch = add


def _fill(room: int) -> None:
    """Fill the disk until `room` bytes are free."""
    left = os.statvfs(".")
    with open("filler", "wb") as file:
        file.write(b"\0" * max(0, left.f_bavail * left.f_frsize - room))


def full_disk(room: int, whole: dict, folder: Path) -> None:
    with disk(folder) as place:
        said = finish(place, code=2, tamper=partial(_after_epoch, 2, partial(_fill, room)))
        assert "No space left on device. What was there before is untouched" in said, said
        from famkd.run.directory import Run

        assert len(Run(place / "run").metrics()) >= 2
        (place / "filler").unlink()
        finish(place)
        same(place, whole)


def file_limit(whole: dict, folder: Path) -> None:
    """Limit the size of files, as a quota does."""
    said = finish(folder, code=2, tamper=partial(_after_epoch, 2, _limit))
    assert "File too large. What was there before is untouched" in said, said
    finish(folder)
    same(folder, whole)


def _limit() -> None:
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def read_only(whole: dict, folder: Path) -> None:
    """Make the run directory read-only for a training that runs and for one that starts."""
    run = folder / "run"
    run.mkdir()
    if not _mount("--bind", run, run):
        raise Unavailable("needs the right to mount a disk")
    subprocess.run(["umount", run], check=True)
    try:
        said = finish(folder, code=2, tamper=partial(_after_epoch, 2, partial(_lock_up, run)))
        assert "Read-only file system. What was there before is untouched" in said, said
        said = finish(folder, code=2)
        assert "Cannot write into run: Read-only file system. Pass another --out" in said, said
    finally:
        subprocess.run(["umount", run], check=True)
    finish(folder)
    same(folder, whole)


def _lock_up(run: Path) -> None:
    assert _mount("--bind", run, run)
    assert _mount("-o", "remount,bind,ro", run)


def _mount(*arguments: str | Path) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True).returncode == 0


# damage -------------------------------------------------------------------------------------------------------------


def damaged(name: str, how: str, whole: dict, folder: Path) -> None:
    """A file of a half-finished run is damaged; readers report it, and the run resumes from the last intact state.

    A flipped bit in a row may be another digit, which no reader notices; resuming rewrites the rows all the same.
    """
    from famkd.run.directory import Run

    run, path = Run(folder / "run"), folder / "run" / name
    process = start(folder, tamper=partial(_after_epoch, 3, partial(os._exit, 9)))
    process.join(HANG)
    content = bytearray(path.read_bytes())
    if how == "cut":
        content = content[: len(content) // 2]
    else:
        content[len(content) * 2 // 3] ^= 1
    path.write_bytes(content)
    looks = {"method.safetensors": run.method_state, "student.safetensors": run.student_state}
    if how == "cut":
        looks |= {"metrics.jsonl": run.metrics, "timing.jsonl": run.timing}
    if name in looks:
        assert name in complaint(looks[name]), f"{name} was read as if it were intact"
    finish(folder)
    same(folder, whole)


def complaint(look: Callable[[], object]) -> str:
    from famkd.errors import UserError

    try:
        look()
    except UserError as error:
        return str(error)
    return ""


# the set ------------------------------------------------------------------------------------------------------------


def undisturbed(place: Path) -> tuple[dict[str, object], float]:
    """Results of a training without faults, and its seconds."""
    prepare(place)
    start(place).join()  # the first one starts the server that all are forked from
    shutil.rmtree(place / "runs", ignore_errors=True)
    shutil.rmtree(place / "run")
    began = time.monotonic()
    finish(place)
    return bits(place), time.monotonic() - began


def few(whole: dict) -> list[Fault]:
    """The faults that the slow tests inject."""
    kills = [("step", 3), ("step", 19), ("evaluation", 6), ("write", 9), ("rename", 40)]
    faults = [Fault(f"kill in {part} {n}", partial(killed_in, part, n, whole)) for part, n in kills]
    faults += [Fault("SIGTERM in step 20", partial(told_to_stop, "step", 20, "SIGTERM", whole)),
               Fault("disk full", partial(full_disk, 30_000, whole)),
               Fault("disk read-only", partial(read_only, whole)),
               Fault("no file above a limit", partial(file_limit, whole))]  # fmt: skip
    files = ("resume.pt", "student.safetensors", "metrics.jsonl")
    return [*faults, *(Fault(f"bit flipped in {name}", partial(damaged, name, "flip", whole)) for name in files)]


def everything(whole: dict, seconds: float, place: Path) -> Iterator[Fault]:
    """All faults: 30 kills, 6 signals, 5 of disks, 10 of damage."""
    draw = random.Random(0)
    for n in range(12):
        share = draw.uniform(0.05, 0.95)
        yield Fault(f"kill {n + 1} after {share:.0%}, twice", partial(killed_after, share, seconds, whole))
    for part, calls in {"step": (1, 7, 14, 23), "evaluation": (2, 5, 8), "write": (1, 12, 25, 38),
                        "rename": (5, 19, 33, 47)}.items():  # fmt: skip
        for n in calls:  # the teacher's training is the first half of the calls
            yield Fault(f"kill in {part} {n}", partial(killed_in, part, n, whole))
    (place / "grid").mkdir()
    prepare(place / "grid")
    grid = swept(place / "grid")  # of a teacher and four students
    for begun, what in ((1, "SIGKILL"), (3, "SIGKILL"), (5, "SIGKILL"), (2, "SIGTERM"), (4, "SIGTERM")):
        yield Fault(f"{what} to a sweep in run {begun}", partial(killed_sweep, begun, what, grid))
    for part, n, what in (("step", 2, "SIGTERM"), ("step", 17, "SIGUSR1"), ("evaluation", 6, "SIGTERM"),
                          ("write", 40, "SIGUSR1")):  # fmt: skip
        yield Fault(f"{what} in {part} {n}", partial(told_to_stop, part, n, what, whole))
    for room in (0, 30_000, 120_000):
        yield Fault(f"disk full but for {room} bytes", partial(full_disk, room, whole))
    yield Fault("disk read-only", partial(read_only, whole))
    yield Fault("no file above a limit", partial(file_limit, whole))
    for name in ("resume.pt", "student.safetensors", "method.safetensors", "metrics.jsonl", "timing.jsonl"):
        for how in ("cut", "flip"):
            yield Fault(f"{how} {name}", partial(damaged, name, how, whole))


def faults(short: bool = False) -> None:
    """Inject faults into trainings, and print what each one survived.

    Args:
        short: only the faults that the slow tests inject.
    """
    injected, survived = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "whole").mkdir()
        whole, seconds = undisturbed(place / "whole")
        for n, fault in enumerate(few(whole) if short else everything(whole, seconds, place)):
            own = place / str(n)
            own.mkdir()
            prepare(own)
            try:
                fault.strike(own)
                answer = "survived"
            except Unavailable as why:
                answer = f"not injected: {why}"
            except AssertionError as why:
                answer = f"NOT SURVIVED: {why}"
            injected += not answer.startswith("not")
            survived += answer == "survived"
            print(f"{fault.name:40}{answer}", flush=True)
    print(f"injected {injected}, survived {survived}")
    sys.exit(injected != survived)


if __name__ == "__main__":
    run_script(faults)
