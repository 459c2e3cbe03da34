"""The run directory, the contract between training and looking.

recipe.yaml            every value, resolved
machine.json           versions, device, command, git commit
teacher.json           test-set figures of the teacher, where its weights are of no run
metrics.jsonl          a line per epoch: losses by name, held-out figures, learning rate; the same for the same seed
timing.jsonl           a line per epoch: seconds, images/s, peak memory
student.safetensors    plain state dict of the raw student after the last epoch; best.safetensors after the best
method.safetensors     plain state dict of the methods; header: format version, taps, notes per filter
filters/0060.safetensors  small summaries of each filter after an epoch
resume.pt              all that --resume needs, for famkd only; resume.previous.pt the one before; one found
                       damaged is put aside as resume.damaged.pt

resume.pt is written first, so it is never behind the others, and whatever else is damaged can be written anew from it.
Tensors carry checksums, so that damaged weights are reported and never taken for trained ones. Rows are plain JSON
lines; one that is truncated is reported.
"""

import contextlib
import io
import json
import os
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import torch
from torch import Tensor, nn

from famkd.config.load import Recipe, load_recipe
from famkd.errors import UserError
from famkd.files import read_rows, read_tensors, reading, write_atomically, write_rows, write_tensors
from famkd.run.environment import environment_info

FORMAT = "1"
LOG = "train.log"  # what a training that a sweep started has said
MOST_SUMMARIES = 80  # of each filter in a run: enough to replay its life, small enough to hand on


class Run:
    """A run directory, for writing while it trains and for reading ever after."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """An existing run; UserError where the path holds none."""
        run = cls(path)
        if not (run.path / "recipe.yaml").is_file():
            raise UserError(f"{path} is no run directory: it holds no recipe.yaml.")
        return run

    # reading ---------------------------------------------------------------------------------------------------------
    @property
    def recipe(self) -> Recipe:
        return load_recipe(self.path / "recipe.yaml")

    @property
    def machine(self) -> dict[str, Any]:
        path = self.path / "machine.json"
        with reading(path):
            return dict(json.loads(path.read_text()))

    @property
    def teacher(self) -> dict[str, float]:
        """Test-set figures of a teacher whose weights are of no run, {} where none were taken."""
        path = self.path / "teacher.json"
        with reading(path):
            return dict(json.loads(path.read_text())) if path.is_file() else {}

    def metrics(self) -> list[dict[str, Any]]:
        """One dict per epoch."""
        return read_rows(self.path / "metrics.jsonl")

    def timing(self) -> list[dict[str, Any]]:
        return read_rows(self.path / "timing.jsonl")

    @property
    def begun(self) -> bool:
        """Whether a first epoch is done, so that there is something to lose."""
        left = ("metrics.jsonl", *(path.name for path in self._resumes))
        return (self.path / "recipe.yaml").is_file() and any((self.path / name).is_file() for name in left)

    @property
    def finished(self) -> bool:
        rows = self.metrics()
        with reading(self.path / "metrics.jsonl"):
            whole = (self.path / "recipe.yaml").is_file() and bool(rows)
            return whole and rows[-1]["epoch"] >= self.recipe.optim.epochs

    @property
    def intact(self) -> bool:
        """Whether everything that the last epoch wrote can be read."""
        try:
            _ = self.finished  # reads the epoch of the last row
            parts = (self.machine, self.metrics(), self.timing(), self.student_state(), self.method_state())
        except UserError:
            return False
        return all(parts)

    def student_state(self, best: bool = False) -> dict[str, Tensor]:
        return read_tensors(self.path / ("best.safetensors" if best else "student.safetensors"))[0]

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
        return sorted(int(path.stem) for path in (self.path / "filters").glob("*.safetensors") if path.stem.isdecimal())

    def filter_summary(self, epoch: int) -> dict[str, Tensor]:
        """Summaries after an epoch, "module path/figure" to tensor."""
        return read_tensors(self.path / "filters" / f"{epoch:04d}.safetensors")[0]

    # writing ---------------------------------------------------------------------------------------------------------
    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else writes here meanwhile; the lock goes when its owner ends, however it ends."""
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
        write_atomically(self.path / "recipe.yaml", recipe.to_yaml().encode())
        write_atomically(self.path / "machine.json", json.dumps(environment_info(device), indent=1).encode())

    def write_teacher(self, figures: dict[str, float]) -> None:
        write_atomically(self.path / "teacher.json", json.dumps(figures).encode())

    def write_epoch(
        self, metrics: list[dict], timing: list[dict], student: nn.Module, methods: nn.Module, notes: dict, best: bool,
        epochs: int = 1,
    ) -> None:  # fmt: skip
        """Everything that readers may look at, after one epoch of `epochs`."""
        epoch = metrics[-1]["epoch"]
        for name in ("student", "best")[: 1 + best]:
            write_tensors(self.path / f"{name}.safetensors", student.state_dict())
        if len(list(methods.children())):
            header = {"format": FORMAT, "notes": json.dumps(notes)}
            write_tensors(self.path / "method.safetensors", methods.state_dict(), header)
            due = epoch % max(1, -(-epochs // MOST_SUMMARIES)) == 0
            if due and (summaries := summarise(methods)):
                write_tensors(self.path / "filters" / f"{epoch:04d}.safetensors", summaries)
        write_rows(self.path / "timing.jsonl", timing)
        write_rows(self.path / "metrics.jsonl", metrics)

    def write_resume(self, state: dict[str, Any]) -> None:
        """What `read_resume` answers from now on; the state before stays beside it."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        now, before = self._resumes
        write_atomically(now, buffer.getbuffer(), previous=before)

    def read_resume(self) -> dict[str, Any] | None:
        """The newest state that is sound, None where none was ever written; UserError where none is sound."""
        broken = ""
        for path in filter(Path.is_file, self._resumes):
            try:
                with zipfile.ZipFile(path) as archive:
                    if any(part.compress_type for part in archive.infolist()):  # torch compresses nothing
                        raise ValueError("it is compressed")
                    if torn := archive.testzip():  # torch.load looks at no checksum
                        raise ValueError(f"{torn} has another checksum")
                state = torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:  # a zip, pickle or storage reader's own
                broken = broken or f"{path} is damaged ({' '.join(str(error).split())[:100]})"
                continue
            if broken:  # aside, for the next state to be written would else push it over the sound one
                os.replace(self._resumes[0], self.path / "resume.damaged.pt")
                warnings.warn(f"{broken}: going on from the state before, {path.name}.", stacklevel=2)
            return state
        if broken:
            raise UserError(f"{broken}: restore a copy, or move {self.path} away to start over.")
        return None

    @property
    def _resumes(self) -> tuple[Path, Path]:
        return self.path / "resume.pt", self.path / "resume.previous.pt"


def leading(row: dict[str, Any]) -> str:
    """Name of the figure that ranks epochs, the first that the task measured: no loss, which has a dot in its name."""
    return next(key for key in row if "." not in key and key not in ("epoch", "lr"))


def summarise(methods: nn.Module) -> dict[str, Tensor]:
    """What modules with a `summary()` say of themselves, in bfloat16, which keeps small energies above 0."""
    return {
        f"{path}/{key}": value.detach().bfloat16().cpu().contiguous()
        for path, module in methods.named_modules()
        if hasattr(module, "summary")
        for key, value in module.summary().items()
    }


def notes_of(methods: nn.Module) -> dict[str, Any]:
    """What modules with a `describe()` say of themselves, by module path."""
    return {path: note for path, m in methods.named_modules() if hasattr(m, "describe") and (note := m.describe())}
