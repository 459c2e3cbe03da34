"""The run directory: everything that a training writes and that other commands and famviz read.

recipe.yaml            the recipe, every value resolved
machine.json           versions, device, command, git commit
facts.json             what was found before the first epoch: classes, images, how the networks take them
teacher.json           figures of the teacher on the student's test set
teacher_head.safetensors  classifier of the teacher, if it was trained for this run
metrics.jsonl          a line per epoch: losses by name, test-set figures, learning rate; equal for equal seeds. With a
                        held-out split (--data.val) its figures, named val_top1 and so on, stand in for the test set's
test.json              with a held-out split: test-set figures, measured once at the end, as {"last": {"epoch": 9,
                        "top1": ...}, "best": ...}; "best" is left out where its network was not kept
timing.jsonl           a line per epoch: seconds, images/s, peak memory
loggers.json           the runs of Weights & Biases and MLflow that this training writes to, for --resume
student.safetensors    state dict of the student after the last epoch; best.safetensors after the best epoch, which is
                       chosen on the held-out images, without these on the test set; with --keep K the K best are
                       epoch0007.safetensors and so on too
ema.safetensors        with --ema: state dict of the averaged student after the last epoch; its figures in metrics.jsonl
                       are named ema_top1 and so on. For simkd it includes the projector and the head
method.safetensors     state dict of the methods; its header holds the format version, the taps, and notes per filter
filters/0060.safetensors  summaries of each level after an epoch, and its strongest filters, 8 MiB in all
resume.pt              the state that --resume continues from, for famkd only; resume.previous.pt is the one before;
                       a damaged one is renamed to resume.damaged.pt

resume.pt is written first, so it is never behind the other files, and any of them can be rewritten from it. Tensors
carry checksums, so that damage is reported. Rows are plain JSON lines; a truncated one is reported.
"""

import contextlib
import io
import json
import os
import warnings
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Any

import filelock
import torch
from torch import Tensor, nn

from famkd.config.load import load_recipe
from famkd.config.recipe import Recipe
from famkd.errors import UserError, nearest, one_line
from famkd.files import read_json, read_rows, read_tensors, reading, write_atomically, write_rows, write_tensors
from famkd.run.alike import with_own_seed
from famkd.run.environment import environment_info
from famkd.run.resume_file import load_resume
from famkd.run.scores import training_over
from famkd.run.summaries import summarise

FORMAT = "1"
LOG = "train.log"  # output of a training that a sweep started
MOST_SUMMARIES = 80  # of each filter in a run: enough for an animation of the training, and still a small folder


class Run:
    """A run directory, for the training that writes it and for everything that reads it.

    Args:
        like: a run whose recipe was read; it is used again if only the seed differs, since parsing takes 0.1 s.
    """

    def __init__(self, path: str | Path, like: "Run | None" = None):
        self.path = Path(path)
        self._like = like._parsed if like else None
        self._parsed: tuple[bytes | None, Recipe] | None = None  # recipe.yaml, and what is in it

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """An existing run; UserError if the path is not a run directory."""
        run = cls(path)
        if not run.exists:
            near = (*run.path.glob("*-seed*"), *run.path.parent.glob("*-seed*"))
            raise UserError(f"{path} is no run directory: it holds no recipe.yaml.{nearest(str(path), map(str, near))}")
        return run

    # reading ---------------------------------------------------------------------------------------------------------
    @property
    def recipe(self) -> Recipe:
        """The recipe of the run. The file is parsed again only if it has changed, since that takes 0.1 s."""
        text = (self.path / "recipe.yaml").read_bytes() if self.exists else None
        if text is None or self._parsed is None or self._parsed[0] != text:
            self._parsed = (text, with_own_seed(text, self._like) or load_recipe(self.path / "recipe.yaml"))
        return self._parsed[1]

    @property
    def machine(self) -> dict[str, Any]:
        return read_json(self.path / "machine.json")

    @property
    def teacher(self) -> dict[str, float]:
        """Figures of the teacher on the student's test set; {} if it was not evaluated."""
        path = self.path / "teacher.json"
        return read_json(path) if path.is_file() else {}

    @property
    def facts(self) -> dict[str, Any]:
        """Classes, images and how the networks take them, as `write_facts` was given them; {} in older runs."""
        path = self.path / "facts.json"
        return read_json(path) if path.is_file() else {}

    @property
    def test(self) -> dict[str, dict[str, float]]:
        """Test-set figures of the last and the best epoch of a run with a held-out split; {} where there are none."""
        path = self.path / "test.json"
        return read_json(path) if path.is_file() else {}

    def metrics(self) -> list[dict[str, Any]]:
        """Losses, test-set figures (or held-out ones, `val_...`) and learning rate, one dict per epoch."""
        return read_rows(self.path / "metrics.jsonl")

    def timing(self) -> list[dict[str, Any]]:
        """Seconds, images/s and peak memory, one dict per epoch."""
        return read_rows(self.path / "timing.jsonl")

    @property
    def exists(self) -> bool:
        """Whether the directory holds a run, though perhaps no epoch of it."""
        return (self.path / "recipe.yaml").is_file()

    @property
    def begun(self) -> bool:
        """Whether the first epoch is finished, so that there is something to lose."""
        if not self.exists:
            return False
        written = (self.path / "metrics.jsonl", *self._resume_paths)
        return any(path.is_file() for path in written)

    @property
    def finished(self) -> bool:
        """Whether training is over and, with a held-out split, the test set is measured."""
        rows = self.metrics()
        if not rows or not self.exists:
            return False
        recipe = self.recipe
        with reading(self.path / "metrics.jsonl"):
            return training_over(recipe, rows) and (not recipe.data.val or (self.path / "test.json").is_file())

    @property
    def intact(self) -> bool:
        """Whether everything that the last epoch wrote can be read."""
        try:
            _ = self.finished  # reads the epoch of the last row
            _ = self.test
            parts = [self.machine, self.metrics(), self.timing(), self.student_state(), self.method_state()]
            if self.recipe.ema:
                parts.append(self.ema_state())
        except UserError:
            return False
        return all(parts)

    def student_state(self, best: bool = False) -> dict[str, Tensor]:
        """State dict of the student after the last epoch, or after the best one."""
        name = "best" if best else "student"
        return read_tensors(self.path / f"{name}.safetensors")[0]

    def ema_state(self) -> dict[str, Tensor]:
        """State dict of the averaged student after the last epoch. UserError for a run without --ema."""
        if not self.recipe.ema:
            raise UserError(f"{self.path} was trained without an average of the weights: leave --ema out.")
        return read_tensors(self.path / "ema.safetensors")[0]

    def method_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """State dict of the methods, and the notes of its header: {"taps": ..., "modules": {path: notes}}."""
        path = self.path / "method.safetensors"
        if not path.is_file():
            return {}, {"taps": {}, "modules": {}}
        state, header = read_tensors(path)
        with reading(path):
            notes = json.loads(header["notes"])
            return state, {"taps": dict(notes["taps"]), "modules": dict(notes["modules"])}

    def filter_epochs(self) -> list[int]:
        """Epochs after which summaries of the filters were saved."""
        names = [path.stem for path in (self.path / "filters").glob("*.safetensors")]
        return sorted(int(name) for name in names if name.isdecimal())

    def filter_summary(self, epoch: int) -> dict[str, Tensor]:
        """Summaries of the filters after an epoch, "module path/figure" to tensor."""
        return read_tensors(self._summary_path(epoch))[0]

    def read_resume(self) -> dict[str, Any] | None:
        """The newest state that can be read; None if none was ever written.

        A damaged resume.pt is renamed, since the next state that is written would push it over the intact one.

        Errors: UserError if no state can be read.
        """
        newest, _ = self._resume_paths
        damage = ""
        for path in self._resume_paths:
            if not path.is_file():
                continue
            try:
                state = load_resume(path)
            except Exception as error:  # of the zip, the pickle or the tensor reader
                damage = damage or f"{path} is damaged ({one_line(error)})"
                continue
            if damage:
                os.replace(newest, self.path / "resume.damaged.pt")
                warnings.warn(f"{damage}: continuing from the state before, {path.name}.", stacklevel=2)
            return state
        if damage:
            raise UserError(f"{damage}: restore a copy, or move {self.path} away to start over.")
        return None

    # writing ---------------------------------------------------------------------------------------------------------
    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing here. The lock ends with the process, even if that is killed."""
        lock = filelock.FileLock(self.path / ".lock")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise UserError(f"Another process is writing {self.path}: wait for it, or pass another --out.") from None
        except OSError as error:
            raise UserError(f"Cannot write into {self.path}: {error.strerror}. Pass another --out.") from error
        try:
            yield
        finally:
            lock.release()

    def begin(self, recipe: Recipe, device: str) -> None:
        """Write what is known before the first epoch."""
        write_atomically(self.path / "recipe.yaml", recipe.to_yaml().encode())
        write_atomically(self.path / "machine.json", json.dumps(environment_info(device), indent=1).encode())

    def write_facts(self, facts: dict[str, Any]) -> None:
        write_atomically(self.path / "facts.json", json.dumps(facts, indent=1).encode())

    def teacher_head(self) -> dict[str, Tensor]:
        """State dict of the classifier that was trained for the teacher; {} if none was."""
        path = self.path / "teacher_head.safetensors"
        return read_tensors(path)[0] if path.is_file() else {}

    def write_teacher_head(self, state: dict[str, Tensor]) -> None:
        write_tensors(self.path / "teacher_head.safetensors", state)

    def write_teacher(self, figures: dict[str, float]) -> None:
        write_atomically(self.path / "teacher.json", json.dumps(figures).encode())

    def write_test(self, figures: dict[str, dict[str, float]]) -> None:
        write_atomically(self.path / "test.json", json.dumps(figures).encode())

    def write_epoch(
        self,
        metrics: list[dict[str, Any]],
        timing: list[dict[str, Any]],
        student: nn.Module,
        methods: nn.Module,
        notes: dict[str, Any],
        best: bool,
        epochs: int = 1,
        average: nn.Module | None = None,
    ) -> None:
        """Write every file that others read, after one epoch of `epochs`; metrics.jsonl last.

        Args:
            metrics, timing: rows of all epochs so far.
            notes: for the header of method.safetensors.
            best: whether this epoch is the best so far.
            average: the averaged student.
        """
        state = student.state_dict()
        write_tensors(self.path / "student.safetensors", state)
        if best:
            write_tensors(self.path / "best.safetensors", state)
        if average is not None:
            write_tensors(self.path / "ema.safetensors", average.state_dict())
        if any(True for _ in methods.children()):
            header = {"format": FORMAT, "notes": json.dumps(notes)}
            write_tensors(self.path / "method.safetensors", methods.state_dict(), header)
            self._write_summary(metrics[-1]["epoch"], epochs, methods)
        write_rows(self.path / "timing.jsonl", timing)
        write_rows(self.path / "metrics.jsonl", metrics)

    def _write_summary(self, epoch: int, epochs: int, methods: nn.Module) -> None:
        interval = max(1, ceil(epochs / MOST_SUMMARIES))
        summaries = summarise(methods, epochs // interval) if epoch % interval == 0 else {}
        if summaries:
            write_tensors(self._summary_path(epoch), summaries)

    def write_resume(self, state: dict[str, Any]) -> None:
        """Write the state that `read_resume` returns; the state before is kept in resume.previous.pt."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        newest, previous = self._resume_paths
        write_atomically(newest, buffer.getbuffer(), previous=previous)

    # paths -----------------------------------------------------------------------------------------------------------
    @property
    def _resume_paths(self) -> tuple[Path, Path]:
        return self.path / "resume.pt", self.path / "resume.previous.pt"

    def _summary_path(self, epoch: int) -> Path:
        return self.path / "filters" / f"{epoch:04d}.safetensors"
