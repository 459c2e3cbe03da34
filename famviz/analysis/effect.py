"""Frequency attention at work on real features: what enters a level, and what each of its branches makes of it.

Powers are means over images and channels of |F|^2, orthonormal. Branches are taken with gamma and with the scale of
the batch norm behind them, so in the units in which a level's output is compared with the teacher's feature. dB are
of one amplitude, the teacher's root mean square over all frequencies but DC; |H| is a gain, in dB of 1.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from famkd.distill.distiller import Distiller
from famkd.layers.fourier import FAM, FourierFilter
from famviz.analysis.amplitude import FLOOR, without_dc
from famviz.analysis.stage_spectra import leaving, walk
from famviz.load import open_runs
from famviz.networks import Source, opened, run_images, trained_distiller
from famviz.spectra import LOWEST, decibel, radial_profile

AT_ONCE = 64  # input channels whose response is measured together
Held = dict[str, Tensor]  # what was seen at one level, by name


@dataclass(frozen=True, eq=False)
class Effect:
    """One level of a method with frequency attention, on real images."""

    name: str  # the teacher's tap
    method: str
    power: dict[str, np.ndarray]  # (H, W), DC in the middle: enters, global, local, output, teacher, residual
    gain: np.ndarray  # (H, W) |H|, by which the global branch raises the amplitude of uncorrelated channels
    energy: dict[str, float]  # AC energy of an image in `global`, `local` and their sum `both`, as FAM puts them out
    gamma: tuple[float, ...]
    white_share: float | None  # of the global branch in both branches' energy on white input

    @property
    def frequency(self) -> np.ndarray:
        """Rings of a curve, 0 to Nyquist, cycles per map along the shorter side."""
        return radial_profile(self.gain)[0]

    @property
    def reference(self) -> float:
        """The amplitude of 0 dB: the teacher's, root mean square over all frequencies but DC."""
        return float(np.sqrt(without_dc(self.power["teacher"]).mean()))

    def plane(self, name: str) -> np.ndarray:
        """A spectrum (H, W) in dB, or `gain`."""
        return self._db(self._power(name), name)

    def curve(self, name: str) -> np.ndarray:
        """Root mean square over each ring of a spectrum, or of `gain`, (R,) in dB."""
        return self._db(radial_profile(self._power(name))[1], name)

    def _power(self, name: str) -> np.ndarray:
        return np.square(self.gain) if name == "gain" else self.power[name]

    def _db(self, power: np.ndarray, name: str) -> np.ndarray:
        return decibel(np.sqrt(power), 1.0 if name == "gain" else self.reference, FLOOR)

    @property
    def share(self) -> float | None:
        """Share 0..1 of the global branch in both branches' AC energy, each by itself; None where there is one."""
        if "local" not in self.energy:
            return None
        return self.energy["global"] / max(self.energy["global"] + self.energy["local"], LOWEST)

    @property
    def agreement(self) -> float | None:
        """Cosine -1..1 of what the branches put out, DC apart: below 0 they cancel; None where there is one."""
        if "local" not in self.energy:
            return None
        far, near, both = (self.energy[name] for name in ("global", "local", "both"))
        return (both - far - near) / max(2 * (far * near) ** 0.5, LOWEST)

    @property
    def left(self) -> float:
        """AC energy of the residual in parts of the teacher's: 0 is perfect, 1 is what a constant would get."""
        residual, teacher = (without_dc(self.power[name]).sum() for name in ("residual", "teacher"))
        return float(residual / max(teacher, LOWEST))


def effects(
    source: Source, images: Tensor | None = None, labels: Tensor | None = None, *, count: int = 200, root: str = ""
) -> list[Effect]:
    """What each level of a run's frequency attention does to real features, shallow to deep; [] where there is none.

    Args:
        source: a run by `fam` or `fam_review`.
        images: normalised (B, 3, H, W), and their `labels`; by themselves the first `count` test images of the run.
        root: where the run's data lies, if no longer where it lay in training.
    """
    run = opened(source)
    white = {each.path: each.total_share() for each in open_runs(run).filters}
    if not white:
        return []
    if images is None:
        images, labels, *_ = run_images(run, count, root)
    labels = torch.zeros(len(images), dtype=torch.long) if labels is None else labels
    distiller, found = trained_distiller(run, root), []
    paths = {id(module): path for path, module in distiller.methods.named_modules()}
    for name, method in distiller.methods.items():
        levels = {at: level for at, level in _from_the_deepest(leaving(method)) if _filters(level)}
        for back, (power, energy) in _measured(distiller, name, levels, images, labels).items():
            fam, tap = levels[back][0], distiller.taps(name)[1][back]
            gain = gain_of(fam.filter, fam.gamma[0] * _scale(levels[back]), power["teacher"].shape)
            share = white.get(paths[id(fam.filter)])
            found.append(Effect(tap, name, power, gain, energy, tuple(fam.gamma.tolist()), share))
    return found


@torch.no_grad()
def gain_of(module: FourierFilter, weight: Tensor, size: tuple[int, int]) -> np.ndarray:
    """|H| (H, W), DC in the middle: by how much a filter raises the amplitude of uncorrelated channels of one power.

    Measured by impulses on maps of that size, each output channel times `weight` (C_out, 1, 1).
    """
    total = 0.0
    for channels in torch.arange(module.c_in).split(AT_ONCE):
        impulses = torch.zeros(len(channels), module.c_in, *size)
        impulses[torch.arange(len(channels)), channels, 0, 0] = 1
        total = total + torch.fft.fft2(weight * module(impulses)).abs().square().mean(1).sum(0)
    return np.fft.fftshift(total.double().sqrt().numpy())


def _measured(
    distiller: Distiller, name: str, levels: dict[int, nn.Module], images: Tensor, labels: Tensor
) -> dict[int, tuple[dict[str, np.ndarray], dict[str, float]]]:
    """Powers and energies of `Effect` for each level, mean over images."""
    seen, sums = {back: {} for back in levels}, {back: ({}, {}) for back in levels}
    hooks = [hook for back, level in levels.items() for hook in _watch(level, seen[back])]
    try:
        for theirs in walk(distiller, name, images, labels) if levels else ():
            for back, level in levels.items():
                for total, parts in zip(sums[back], _parts(level, seen[back], theirs.feats[back])):
                    for key, value in parts.items():
                        total[key] = total.get(key, 0.0) + value / len(images)
    finally:
        for hook in hooks:
            hook.remove()
    return sums


def _watch(level: nn.Sequential, seen: Held) -> Iterator[torch.utils.hooks.RemovableHandle]:
    """Hooks that keep what enters a level, what each branch puts out, and what leaves."""
    fam = level[0]
    yield fam.register_forward_pre_hook(lambda _, args: seen.update(enters=args[0]))
    yield level.register_forward_hook(lambda _, args, out: seen.update(output=out))
    for key, branch in (("global", fam.filter), ("local", fam.local)):
        if branch is not None:
            yield branch.register_forward_hook(lambda _, args, out, key=key: seen.update({key: out}))


def _parts(level: nn.Sequential, seen: Held, target: Tensor) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Power of each map and AC energy of each branch, summed over one chunk of images."""
    names = [key for key in ("global", "local") if key in seen]
    branches = {key: gamma * seen[key] for gamma, key in zip(level[0].gamma, names, strict=True)}
    shown = {"enters": seen["enters"]} | {key: _scale(level) * maps for key, maps in branches.items()}
    shown |= {"output": seen["output"], "teacher": target, "residual": seen["output"] - target}
    return (
        {key: _power(maps) for key, maps in shown.items()},
        {key: _energy(maps) for key, maps in (branches | {"both": sum(branches.values())}).items()},
    )


def _power(maps: Tensor) -> np.ndarray:
    spectrum = torch.fft.fft2(maps.double(), norm="ortho").abs().square()
    return np.fft.fftshift(spectrum.mean(1).sum(0).numpy())


def _energy(maps: Tensor) -> float:
    return (maps - maps.mean((2, 3), keepdim=True)).double().square().sum().item()


def _scale(level: nn.Sequential) -> Tensor:
    """What the batch norm behind FAM multiplies each channel by, (C_out, 1, 1)."""
    norm = level[1]
    return (norm.weight / (norm.running_var + norm.eps).sqrt())[:, None, None]


def _from_the_deepest(levels: list[nn.Module]) -> Iterator[tuple[int, nn.Module]]:
    """Levels by their place counted from the end, where students with fewer stages agree with the teacher's."""
    return ((at - len(levels), level) for at, level in enumerate(levels))


def _filters(level: nn.Module) -> bool:
    """Whether a level is FAM with a filter of more than one frequency, and batch norm."""
    fam = level[0] if isinstance(level, nn.Sequential) else None
    return isinstance(fam, FAM) and fam.filter is not None and min(fam.filter.size) > 1
