"""The students of the best epochs of a run (`--keep K`): epoch0007.safetensors and so on."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from famkd.files import write_tensors
from famkd.run.scores import leading


def best_epochs(rows: Iterable[Mapping[str, Any]], count: int) -> list[int]:
    """The epochs with the largest leading figures, the best first; of equal ones the earlier."""
    ranked = sorted(rows, key=lambda row: (-row[leading(dict(row))], row["epoch"]))
    return [row["epoch"] for row in ranked[:count]]


def keep_best(folder: Path, rows: list[dict[str, Any]], student: dict[str, Tensor], count: int) -> None:
    """Write the student of the last epoch if it is among the best, then remove those that no longer are."""
    best = best_epochs(rows, count)
    if rows[-1]["epoch"] in best:
        write_tensors(folder / file_name(rows[-1]["epoch"]), student)
    for epoch in kept_epochs(folder):
        if epoch not in best:
            (folder / file_name(epoch)).unlink(missing_ok=True)


def kept_epochs(folder: Path) -> list[int]:
    """Epochs whose students a run holds."""
    names = (re.fullmatch(r"epoch(\d+)\.safetensors", path.name) for path in folder.glob("epoch*.safetensors"))
    return sorted(int(name[1]) for name in names if name)


def file_name(epoch: int) -> str:
    return f"epoch{epoch:04d}.safetensors"
