"""Opening what was trained: a run directory, finished or not, or a released FAM-KD checkpoint.

Nothing here needs the data or the networks: filters are rebuilt from their saved state and notes alone.
"""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from famkd.errors import UserError, inert
from famkd.files import must_fit
from famkd.layers.fourier import FourierFilter
from famkd.layers.highpass import highpass_gain
from famkd.layers.released import fold_full_plane
from famkd.models.weights import is_plain, read_torch
from famkd.run.directory import Run
from famviz import spectra

Source = str | Path | Run
OFFICIAL = {"kind": "official", "cutoff": 0.1}  # of the released code


@dataclass(frozen=True, eq=False)
class Filter:
    """One level's learned filter, in the form that acts."""

    level: int  # shallow to deep, as the taps are numbered
    path: str  # of the module in the method's state
    response: np.ndarray  # complex (C_out, C_in, H, W // 2 + 1), high-pass included
    size: tuple[int, int]  # (H, W)
    gain: np.ndarray  # of the high-pass, 0..1, (H, W // 2 + 1)
    student: str = ""  # tap names, where known
    teacher: str = ""
    gamma: tuple[float, ...] = ()  # of the global branch, and of the local one where there is one
    local: np.ndarray | None = None  # weights (C_out, C_in) of the 1x1 convolution beside it
    raw: np.ndarray | None = None  # the stored plane (C_out, C_in, H, W), DC in the middle, where the file has it

    @property
    def channels(self) -> tuple[int, int]:
        """(C_out, C_in)."""
        return self.response.shape[:2]

    @property
    def title(self) -> str:
        tap = f"{self.student} \u2192 {self.teacher}" if self.student != self.teacher else self.student
        return f"level {self.level}" + (f" ({tap})" if tap else "")

    def plane(self) -> np.ndarray:
        """The response on the full centred plane, (C_out, C_in, H, W)."""
        return spectra.full_plane(self.response, self.size[1])

    def amplitude(self) -> np.ndarray:
        """Root mean square of |H| over all channel pairs, half spectrum (H, W // 2 + 1)."""
        return np.sqrt(np.square(np.abs(self.response)).mean((0, 1)))

    def energy(self) -> np.ndarray:
        """Energy per channel pair on white input, (C_out, C_in)."""
        return spectra.energy(self.response, self.size[1])

    def share(self) -> np.ndarray | None:
        """Share 0..1 of the global branch per channel pair, (C_out, C_in); None where only one branch exists."""
        if self.local is None or len(self.gamma) < 2:
            return None
        return spectra.global_share(self.response, self.size[1], self.local, self.gamma)

    def total_share(self) -> float | None:
        """Share 0..1 of the global branch over the whole level; None where only one branch exists."""
        if self.local is None or len(self.gamma) < 2:
            return None
        far, near = self.gamma[0] ** 2 * self.energy().sum(), self.gamma[1] ** 2 * np.square(self.local).sum()
        return float(far / max(far + near, spectra.LOWEST))

    @property
    def ineffective_share(self) -> float | None:
        """Share 0..1 of the stored energy that never acts; None where the file stores the effective half only."""
        return None if self.raw is None else spectra.ineffective_share(self.raw, self.plane())


@dataclass(frozen=True, eq=False)
class LoadedRun:
    """A run or checkpoint, and the filters it holds: none before the first epoch or without frequency attention."""

    name: str
    run: Run | None  # None for a bare checkpoint
    filters: list[Filter]

    def filter(self, where: int | str) -> Filter:
        """A filter by position, or by the name of its student tap; UserError names what there is."""
        for at, each in enumerate(self.filters):
            if where in (at, each.student, each.path):
                return each
        known = ", ".join(f"{at} ({each.student})" if each.student else f"{at}" for at, each in enumerate(self.filters))
        raise UserError(f"{self.name} has no filter {where!r}: it holds {known or 'none'}.")

    def history(self, each: Filter, most: int = 0) -> tuple[list[int], list[dict[str, np.ndarray]]]:
        """Epochs, and each one's summary of a filter: `amplitude` (H, W // 2 + 1) and `energy` (C_out, C_in).

        With `most`, so many of them at most, evenly spaced, the first and the last among them.
        """
        epochs, summaries, saved = [], [], self.run.filter_epochs() if self.run else []
        if most and len(saved) > most:
            saved = [saved[i] for i in np.linspace(0, len(saved) - 1, most).round().astype(int)]
        for epoch in saved:
            if summary := self._kept(each, epoch):
                epochs.append(epoch)
                summaries.append(summary)
        return epochs, summaries

    def summary(self, each: Filter, epoch: int) -> dict[str, np.ndarray] | None:
        """What the run kept of a filter after one epoch; None where it kept nothing."""
        return self._kept(each, epoch) if self.run and epoch in self.run.filter_epochs() else None

    def _kept(self, each: Filter, epoch: int) -> dict[str, np.ndarray] | None:
        found = self.run.filter_summary(epoch)
        names = {name: f"{each.path}/{name}" for name in ("amplitude", "energy")}
        return {k: found[v].float().numpy() for k, v in names.items()} if found.keys() >= set(names.values()) else None


def open_runs(source: Source | LoadedRun | Sequence[Source | LoadedRun]) -> LoadedRun | list[LoadedRun]:
    """Open a run directory (also while it trains), a released FAM-KD .pth, or a list of either, side by side.

    Errors: UserError, one sentence, for anything else.
    """
    if isinstance(source, list | tuple):
        return [open_runs(each) for each in source]
    if isinstance(source, LoadedRun):
        return source
    path = source.path if isinstance(source, Run) else Path(source)
    if not os.path.exists(path):
        raise UserError(f"There is nothing at {path}: name a run directory or a .pth file.")
    try:
        if path.is_dir():
            return _open_run(Run.open(path))
        return LoadedRun(inert(path.stem), None, _released_filters(path, _read_checkpoint(path)))
    except UserError:
        raise
    except Exception as error:  # what chance or somebody changed can contradict itself in any way
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"{path} cannot be understood ({reason}): restore a copy, or train again.") from error


def _open_run(run: Run) -> LoadedRun:
    state, notes = run.method_state()
    found = []
    for path, note in notes["modules"].items():
        if note.get("filter") in ("dense", "separable", "lowrank") and f"{path}.weight" in state:
            found.append(_rebuilt(path, note, state, notes["taps"]))
    where = run.path.resolve()
    return LoadedRun(inert(f"{where.parent.name}/{where.name}"), run, sorted(found, key=lambda each: each.level))


def _rebuilt(path: str, note: dict, state: dict[str, torch.Tensor], taps: dict[str, dict]) -> Filter:
    """A filter from its saved state and its note, drawing no random number on the way."""
    own = {k.removeprefix(f"{path}."): v for k, v in state.items() if k.startswith(f"{path}.")}
    options = {k: v for k, v in note.items() if k not in ("filter", "size", "channels")}
    options["rank"] = own["weight"].shape[-1]
    must_fit(64 * math.prod((*note["channels"], *own["weight"].shape[:2])))  # a short file can tell of a large filter
    with torch.device("meta"):
        module = FourierFilter(*note["channels"], tuple(note["size"]), filter=note["filter"], **options)
    module.load_state_dict(own, assign=True)
    fam, level = path.rpartition(".")[0], _level(path)
    gamma, local = state.get(f"{fam}.gamma"), state.get(f"{fam}.local.weight")
    named = taps.get(path.split(".")[0], {})
    student, teacher = (_at(named.get(who, ()), level) for who in ("student", "teacher"))
    return Filter(
        level, path, module.response().numpy(), tuple(note["size"]), own["gain"].float().numpy(), student, teacher,
        () if gamma is None else tuple(gamma.float().tolist()),
        None if local is None else local[:, :, 0, 0].float().numpy(),
    )  # fmt: skip


def _read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    try:
        found = read_torch(path)
    except Exception as error:  # a zip, pickle or storage reader's own
        raise UserError(f"{path} is no checkpoint that can be read without running code stored in it.") from error
    for key in ("state_dict", "model", "net"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no state dict.")
    return {str(key).removeprefix("module."): value for key, value in found.items() if is_plain(value)}


def _released_filters(path: Path, state: dict[str, torch.Tensor]) -> list[Filter]:
    """Filters of the released code: (in, out, S, S) full planes under `atfs.N`, N counted from the deepest stage."""
    keys = {int(m[1]): key for key in state if (m := re.fullmatch(r"(?:.*\.)?atfs\.(\d+)\.conv2\.0\.weights1", key))}
    if not keys:
        raise UserError(f"{path} holds no frequency attention: no atfs.N.conv2.0.weights1 among its {len(state)} keys.")
    filters = [_released(keys[n], state, max(keys) - n) for n in sorted(keys, reverse=True)]
    return [each for each in filters if each.size != (1, 1)] or filters


def _released(key: str, state: dict[str, torch.Tensor], level: int) -> Filter:
    stored = state[key]
    if not stored.is_complex():
        stored = torch.view_as_complex(stored.float().contiguous())
    stored = stored.to(torch.cfloat).transpose(0, 1)  # the released order is (in, out, H, W)
    c_out, c_in, *size = stored.shape
    with torch.device("meta"):
        module = FourierFilter(c_in, c_out, tuple(size), highpass="official")
    weight = torch.view_as_real(fold_full_plane(stored, **OFFICIAL)).permute(2, 3, 1, 4, 0).contiguous()
    gain = highpass_gain(size=tuple(size), **OFFICIAL)
    module.load_state_dict({"weight": weight, "gain": gain}, assign=True)
    base = key.removesuffix("weights1")
    rates = [float(state[f"{base}rate{n}"]) for n in (1, 2) if f"{base}rate{n}" in state]
    local = state.get(f"{base}w0.weight")
    return Filter(
        level, base.removesuffix("."), module.response().numpy(), tuple(size), gain.numpy(), gamma=tuple(rates),
        local=None if local is None else local[:, :, 0, 0].float().numpy(),
        raw=np.fft.fftshift(stored.numpy(), axes=(-2, -1)),
    )  # fmt: skip


def _level(path: str) -> int:
    numbers = [int(part) for part in path.split(".") if part.isdigit()]
    return numbers[0] if numbers else 0


def _at(names: Sequence[str], index: int) -> str:
    return names[index] if index < len(names) else ""
