"""Open what was trained: a run directory, finished or not, or a released FAM-KD checkpoint.

Nothing here needs the data or the networks: filters are rebuilt from their saved state and notes alone.
"""

import html
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import torch
from torch import Tensor

from famkd.errors import UserError, counted, inert, one_line
from famkd.files import must_fit, reading
from famkd.run.directory import Run
from famviz.filter import Filter
from famviz.released import released_filters
from famviz.stored import NOT_OPTIONS, StoredResponse, TensorFile, empty_module
from famviz.survey import Survey

__all__ = ["Filter", "LoadedRun", "Source", "open_runs"]

Item = TypeVar("Item")
KINDS = ("dense", "separable", "lowrank")
LARGE = 8 << 20  # bytes of a response: a larger one stays in its file
# Of a level after one epoch: amplitude (H, W // 2 + 1), energy (C_out, C_in), and the filters that were kept alone, the
# strongest first: pairs (N, 2) of output and input channels, strongest (N, H, W // 2 + 1) complex.
Summary = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False, repr=False)
class LoadedRun:
    """A run or checkpoint and its filters: none before the first epoch or without frequency attention."""

    name: str
    run: Run | None  # None for a bare checkpoint
    filters: list[Filter]

    def __repr__(self) -> str:
        return f"LoadedRun({self.name!r}, {counted(len(self.filters), 'filter')})"

    def _repr_html_(self) -> str:
        """The name and a line for each filter, in place of the numbers that they hold."""
        items = "".join(f"<li>{each._repr_html_()}</li>" for each in self.filters)
        where = "" if self.run is None else f" in <code>{html.escape(str(self.run.path))}</code>"
        return f"<p><b>{html.escape(self.name)}</b>{where}: {counted(len(self.filters), 'filter')}</p><ul>{items}</ul>"

    def filter(self, where: int | str) -> Filter:
        """A filter by position, or by the name of its student tap; UserError lists the filters that there are."""
        for at, each in enumerate(self.filters):
            if where in (at, each.student, each.path):
                return each
        names = [f"{at} ({each.student})" if each.student else f"{at}" for at, each in enumerate(self.filters)]
        raise UserError(f"{self.name} has no filter {where!r}. Its filters: {', '.join(names) or 'none'}.")

    def same_level(self, each: Filter) -> int | None:
        """Position of the filter at the place of another run's filter: of the same module, else of the same level."""
        by_path = {own.path: at for at, own in enumerate(self.filters)}
        by_level = {own.index: at for at, own in enumerate(self.filters)}
        return by_path.get(each.path, by_level.get(each.index))

    def metrics(self) -> list[dict[str, Any]]:
        """One row per epoch of training; [] for a bare checkpoint."""
        return self.run.metrics() if self.run else []

    def timing(self) -> list[dict[str, Any]]:
        """Seconds and speed of each epoch; [] for a bare checkpoint."""
        return self.run.timing() if self.run else []

    def history(self, each: Filter, most: int = 0) -> tuple[list[int], list[Summary]]:
        """Epochs, and each one's summary of a level: RMS amplitude, energies, and single filters.

        Args:
            most: number of epochs at most, evenly spaced from the first to the last; 0 for all.
        """
        if self.run is None:
            return [], []
        saved = self.run.filter_epochs()
        saved = evenly(saved, most) if most else saved
        epochs, summaries = [], []
        for epoch in saved:
            summary = _saved_summary(self.run, each, epoch)
            if summary:
                epochs.append(epoch)
                summaries.append(summary)
        return epochs, summaries

    def check_epoch(self, epoch: int) -> None:
        """UserError if the run kept no filters of an epoch; 0 stands for the saved weights."""
        kept = self.run.filter_epochs() if self.run else []
        if epoch and epoch not in kept:
            those = f"those of epochs {kept[0]} to {kept[-1]}" if kept else "none"
            raise UserError(f"{self.name} kept no filters of epoch {epoch}: it kept {those}.")

    def summary(self, each: Filter, epoch: int) -> Summary | None:
        """What the run saved of a filter after one epoch; None if nothing."""
        if self.run is None or epoch not in self.run.filter_epochs():
            return None
        return _saved_summary(self.run, each, epoch)


Source = str | Path | Run | LoadedRun


def evenly(items: Sequence[Item], most: int) -> Sequence[Item]:
    """At most so many of the items, evenly spaced from the first to the last."""
    if len(items) <= most:
        return items
    return [items[at] for at in np.linspace(0, len(items) - 1, most).round().astype(int)]


def _saved_summary(run: Run, each: Filter, epoch: int) -> Summary | None:
    found = run.filter_summary(epoch)
    keys = {name: f"{each.path}/{name}" for name in ("amplitude", "energy")}
    if not found.keys() >= set(keys.values()):
        return None
    summary = {name: found[key].float().numpy() for name, key in keys.items()}
    return {**summary, **_single_filters(each, found)}


def _single_filters(each: Filter, found: dict[str, torch.Tensor]) -> Summary:
    """The filters that an epoch kept one by one: none in older runs."""
    pairs, parts = (found.get(f"{each.path}/{name}") for name in ("pairs", "strongest"))
    if pairs is None or parts is None:
        return {"pairs": np.zeros((0, 2), int), "strongest": np.zeros((0, *each.shape[2:]), np.complex64)}
    real, imaginary = parts.float().unbind(1)
    return {"pairs": pairs.numpy().astype(int), "strongest": torch.complex(real, imaginary).numpy()}


# a str is a Sequence as well, but the first signature that fits counts
@overload
def open_runs(source: Source) -> LoadedRun: ...  # pyright: ignore[reportOverlappingOverload]
@overload
def open_runs(source: Sequence[Source]) -> list[LoadedRun]: ...
def open_runs(source: Source | Sequence[Source]) -> LoadedRun | list[LoadedRun]:
    """Open a run directory (also while it trains), a released FAM-KD .pth file, or a list of these.

    Errors: UserError, one sentence, for anything else.
    """
    return _open(source) if isinstance(source, Source) else [_open(each) for each in source]


def open_all(source: Source | Sequence[Source]) -> list[LoadedRun]:
    """The same as a list, also of a single run."""
    return [_open(each) for each in ([source] if isinstance(source, Source) else source)]


def _open(source: Source) -> LoadedRun:
    if isinstance(source, LoadedRun):
        return source
    path = source.path if isinstance(source, Run) else Path(source)
    if not os.path.exists(path):
        raise UserError(f"There is nothing at {path}: pass a run directory or a .pth file.")
    try:
        if path.is_dir():
            return _open_run(Run.open(path))
        return LoadedRun(inert(path.stem), None, released_filters(path))
    except UserError:
        raise
    except Exception as error:  # a file that was damaged or edited can fail in any way
        reason = one_line(error)
        raise UserError(f"{path} cannot be read ({reason}): restore a copy, or train again.") from error


def _open_run(run: Run) -> LoadedRun:
    state, notes = _method_state(run)
    filters = [
        _rebuilt(path, note, state, notes["taps"], run)
        for path, note in notes["modules"].items()
        if note.get("filter") in KINDS and f"{path}.weight" in state
    ]
    where = run.path.resolve()
    name = inert(f"{where.parent.name}/{where.name}")
    return LoadedRun(name, run, sorted(filters, key=lambda each: each.index))


def _method_state(run: Run) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
    """State dict of the methods and their notes; the open file in place of the state dict if a level is large."""
    path = run.path / "method.safetensors"
    if path.is_file():
        with reading(path):
            file = TensorFile(path)
            notes = json.loads(file.notes["notes"])
            if any(_is_large(note) for note in notes["modules"].values()):
                return file, notes
            file.close()
    return run.method_state()


def _is_large(note: dict[str, Any]) -> bool:
    """Whether the response of a filter is so large that it stays in its file."""
    if note.get("filter") not in KINDS:
        return False
    height, width = note["size"]
    return 8 * math.prod(note["channels"]) * height * (width // 2 + 1) > LARGE


def _rebuilt(path: str, note: dict, state: Mapping[str, Tensor], taps: dict[str, dict], run: Run) -> Filter:
    """A filter from its saved state and its note, without drawing a random number."""
    left = {f"{path}.weight"} if _is_large(note) and note["filter"] == "dense" else set()
    own = {key.removeprefix(f"{path}."): state[key] for key in state if key.startswith(f"{path}.") and key not in left}
    fam = path.rpartition(".")[0]
    gamma = state.get(f"{fam}.gamma")
    local = state.get(f"{fam}.local.weight")
    index = _index(path)
    names = taps.get(path.split(".")[0], {})
    return Filter(
        index,
        path,
        _held(path, note, own, state, run),
        (note["size"][0], note["size"][1]),
        own["gain"].float().numpy(),
        student=_at(names.get("student", ()), index),
        teacher=_at(names.get("teacher", ()), index),
        gamma=() if gamma is None else tuple(gamma.float().tolist()),
        local=None if local is None else local[:, :, 0, 0].float().numpy(),
        options={key: value for key, value in note.items() if key not in NOT_OPTIONS},
    )


def _held(path: str, note: dict, own: dict[str, Tensor], state: Mapping[str, Tensor], run: Run) -> np.ndarray | Survey:
    """The response of a filter, or of a large level what reads it in parts."""
    if isinstance(state, TensorFile) and _is_large(note):
        stored = StoredResponse(note, own, state, f"{path}.weight")
        return Survey(stored, note["size"][1], partial(_last_energy, run, path))
    # A short damaged file can claim a large filter, so the memory is checked first.
    must_fit(64 * math.prod((*note["channels"], *own["weight"].shape[:2])))
    module = empty_module(note, note["channels"], own["weight"].shape[-1])
    module.load_state_dict(own, assign=True)
    return module.response().numpy()


def _last_energy(run: Run, path: str) -> np.ndarray | None:
    """Energies (C_out, C_in) of the saved weights, rounded to bfloat16; None if the run did not keep them."""
    saved, rows = run.filter_epochs(), run.metrics()
    if not saved or not rows or rows[-1]["epoch"] != saved[-1]:
        return None
    found = run.filter_summary(saved[-1]).get(f"{path}/energy")
    return None if found is None else found.float().numpy()


def _index(path: str) -> int:
    """The level of a module path, such as 2 of fam_review.levels.2.leave.0.filter."""
    numbers = [int(part) for part in path.split(".") if part.isdigit()]
    return numbers[0] if numbers else 0


def _at(names: Sequence[str], index: int) -> str:
    return names[index] if index < len(names) else ""
