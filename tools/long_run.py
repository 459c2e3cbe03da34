"""Train for many epochs and print memory, open files, threads, hooks and tensors: none of them may grow.

python tools/long_run.py --epochs 2000      a few minutes on a CPU; with --accelerator cuda the device's memory too
"""

import gc
import os
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from famkd.command_line.main import run_script

STUDENT = """student: {{model: resnet8x0.5}}
data: {{name: npz, root: {root}, batch_size: 16}}
optim: {{epochs: {epochs}, lr: 0.01, steps: []}}
method: fam_review+kd
teacher: {{model: resnet8, weights: {teacher}}}
"""


class Taken(NamedTuple):
    """Resources of the process after an epoch."""

    epoch: int
    mib: float
    device_mib: float
    files: int
    threads: int
    hooks: int
    tensors: int


def take(epoch: int, modules: torch.nn.Module) -> Taken:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules.modules())
    device = torch.cuda.memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
    tensors = sum(isinstance(thing, Tensor) for thing in gc.get_objects())
    return Taken(epoch, pages * os.sysconf("SC_PAGE_SIZE") / 2**20, device, len(os.listdir("/proc/self/fd")),
                 threading.active_count(), hooks, tensors)  # fmt: skip


def watched(folder: Path, epochs: int, every: int, *flags: str) -> list[Taken]:
    """Train in a folder that holds few.npz, and measure this process every `every` epochs."""
    from famkd.config.load import load_recipe
    from famkd.models import build_model
    from famkd.training.checkpoint import TrainingState
    from famkd.training.loop import train

    torch.manual_seed(5)
    torch.save(build_model("resnet8", 3).state_dict(), folder / "teacher.pt")
    text = STUDENT.format(root=folder / "few.npz", teacher=folder / "teacher.pt", epochs=epochs)
    (folder / "student.yaml").write_text(text)
    seen: list[Taken] = []
    real = TrainingState.save_epoch

    def add(self, row, timing):
        real(self, row, timing)
        if len(self.metrics) % every == 0:
            seen.append(take(len(self.metrics), self.distiller))

    TrainingState.save_epoch = add
    try:
        train(load_recipe(folder / "student.yaml", "--engine", "eager", *flags), out=folder / "run")
    finally:
        TrainingState.save_epoch = real
    return seen


def long_run(epochs: int = 2000, accelerator: str = "cpu") -> None:
    """Train a small student, and print what the process holds ten times."""
    import faults

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        faults.prepare(Path(name))
        seen = watched(Path(name), epochs, epochs // 10, "--accelerator", accelerator)
    print("".join(f"{key:>12}" for key in Taken._fields))
    for row in seen:
        print("".join(f"{value:12.1f}" if isinstance(value, float) else f"{value:12}" for value in row))


if __name__ == "__main__":
    run_script(long_run)
