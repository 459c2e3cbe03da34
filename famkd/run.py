"""The run directory, the contract between training and looking.

recipe.yaml            every value, resolved
machine.json           versions, device, command, git commit
metrics.jsonl          a line per epoch: losses by name, held-out figures, learning rate; the same for the same seed
timing.jsonl           a line per epoch: seconds, images/s, peak memory
student.safetensors    plain state dict of the raw student after the last epoch; best.safetensors after the best
method.safetensors     plain state dict of the methods; header: format version, taps, notes per filter
filters/0060.safetensors  small summaries of each filter after an epoch
resume.pt              optimiser and epoch, for famkd only; may be deleted
"""

import contextlib
import io
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from famkd import ranks
from famkd.errors import UserError
from famkd.recipe import Recipe, load_recipe

FORMAT = "1"
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
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise _damaged(path, error) from error

    def metrics(self) -> list[dict[str, Any]]:
        """One dict per epoch."""
        return _read_lines(self.path / "metrics.jsonl")

    def timing(self) -> list[dict[str, Any]]:
        return _read_lines(self.path / "timing.jsonl")

    @property
    def finished(self) -> bool:
        rows = self.metrics()
        return (self.path / "recipe.yaml").is_file() and bool(rows) and rows[-1]["epoch"] >= self.recipe.optim.epochs

    def student_state(self, best: bool = False) -> dict[str, Tensor]:
        return _tensors(self.path / ("best.safetensors" if best else "student.safetensors"))[0]

    def method_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """State dict of the methods, and the notes of its header: {"taps": ..., "modules": {path: notes}}."""
        path = self.path / "method.safetensors"
        if not path.is_file():
            return {}, {"taps": {}, "modules": {}}
        state, header = _tensors(path)
        return state, json.loads(header["notes"])

    def filter_epochs(self) -> list[int]:
        return sorted(int(path.stem) for path in (self.path / "filters").glob("*.safetensors"))

    def filter_summary(self, epoch: int) -> dict[str, Tensor]:
        """Summaries after an epoch, "module path/figure" to tensor."""
        return _tensors(self.path / "filters" / f"{epoch:04d}.safetensors")[0]

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
        write_atomically(self.path / "machine.json", json.dumps(describe_machine(device), indent=1).encode())

    def write_epoch(
        self, metrics: list[dict], timing: list[dict], student: nn.Module, methods: nn.Module, notes: dict, best: bool,
        epochs: int = 1,
    ) -> None:  # fmt: skip
        """Everything that readers may look at, after one epoch of `epochs`."""
        epoch = metrics[-1]["epoch"]
        state = _plain(student.state_dict())
        write_atomically(self.path / "student.safetensors", safetensors.torch.save(state))
        if best:
            write_atomically(self.path / "best.safetensors", safetensors.torch.save(state))
        if len(list(methods.children())):
            header = {"format": FORMAT, "notes": json.dumps(notes)}
            data = safetensors.torch.save(_plain(methods.state_dict()), header)
            write_atomically(self.path / "method.safetensors", data)
            summaries = summarise(methods)
            if summaries and epoch % max(1, epochs // MOST_SUMMARIES) == 0:
                (self.path / "filters").mkdir(exist_ok=True)
                data = safetensors.torch.save(summaries)
                write_atomically(self.path / "filters" / f"{epoch:04d}.safetensors", data)
        write_atomically(self.path / "timing.jsonl", _lines(timing))
        write_atomically(self.path / "metrics.jsonl", _lines(metrics))

    def write_resume(self, state: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomically(self.path / "resume.pt", buffer.getbuffer())

    def read_resume(self) -> dict[str, Any] | None:
        path = self.path / "resume.pt"
        if not path.is_file():
            return None
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a zip, pickle or storage reader's own
            reason = " ".join(str(error).split())[:100]
            raise UserError(f"{path} is damaged ({reason}): delete it to start over, or restore a copy.") from error


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


def describe_machine(device: str) -> dict[str, Any]:
    """Where and with what a run was made."""
    import torchvision

    gpu = torch.cuda.get_device_name() if device.startswith("cuda") else None
    return {
        "command": shlex.join(["famkd", *sys.argv[1:]]),
        "device": gpu or f"{platform.machine()} CPU, {torch.get_num_threads()} threads",
        "processes": ranks.world(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "platform": platform.platform(),
        "commit": _commit(),
    }


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Replace a file at once or not at all, and make it last: temporary file, fsync, rename."""
    part = path.with_name(f".{path.name}.part")  # one name: what a killed process leaves is overwritten by the next
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        reason = error.strerror or error
        raise UserError(f"Cannot write {path}: {reason}. What was there before is untouched.") from error


def _plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().cpu().contiguous() for key, value in state.items()}


def _lines(rows: list[dict]) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_text().splitlines() if line]
    except ValueError as error:
        raise _damaged(path, error) from error


def _tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safetensors.safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> UserError:
    reason = "is missing" if isinstance(error, FileNotFoundError) else f"is damaged ({' '.join(str(error).split())})"
    return UserError(f"{path} {reason}: restore a copy, or train again.")


def _commit() -> str | None:
    here = Path(__file__).resolve().parent
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["git", "-C", str(here), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    return None
