"""What frequency attention does to real features: what enters a level, and what each of its branches makes of it.

Powers are means over images and channels of |F|^2, orthonormal. The branches include gamma and the scale of the batch
norm after them, so they are in the units in which the output of a level is compared with the teacher's feature. 0 dB
is one amplitude, the teacher's root mean square over all frequencies but DC; |H| is a gain, in dB of 1.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from famkd.distill.distiller import Distiller
from famkd.layers.fourier import FAM, FourierFilter
from famviz.analysis.amplitude import FLOOR, without_dc
from famviz.analysis.stage_spectra import method_of, walk
from famviz.load import open_runs
from famviz.networks import Source, run_of, task_images, trained_distiller
from famviz.spectra import LOWEST, decibel, radial_profile

AT_ONCE = 64  # input channels whose response is measured together
Maps = dict[str, Tensor]  # feature maps of one level, by name


@dataclass(frozen=True, eq=False)
class Effect:
    """One level of a method with frequency attention, on real images."""

    name: str  # the teacher's tap
    method: str
    power: dict[str, np.ndarray]  # (H, W), DC in the middle: enters, global, local, output, teacher, residual
    gain: np.ndarray  # (H, W) |H|, by which the global branch raises the amplitude of uncorrelated channels
    energy: dict[str, float]  # AC energy of an image in the outputs `global` and `local`, and in their sum `both`
    gamma: tuple[float, ...]
    white_share: float | None  # of the global branch in both branches' energy on white input

    @property
    def frequency(self) -> np.ndarray:
        """Rings of a curve, 0 to Nyquist, cycles per map along the shorter side."""
        return radial_profile(self.gain)[0]

    @property
    def reference(self) -> float:
        """The amplitude of 0 dB: the teacher's root mean square over all frequencies but DC."""
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
        """Share 0..1 of the global branch in the sum of both branches' AC energies; None if there is one branch."""
        if "local" not in self.energy:
            return None
        total = self.energy["global"] + self.energy["local"]
        return self.energy["global"] / max(total, LOWEST)

    @property
    def agreement(self) -> float | None:
        """Cosine -1..1 between the branches' outputs without DC: below 0 they cancel; None if there is one branch."""
        if "local" not in self.energy:
            return None
        far, near, both = self.energy["global"], self.energy["local"], self.energy["both"]
        product = both - far - near  # twice the inner product
        return product / max(2 * (far * near) ** 0.5, LOWEST)

    @property
    def left(self) -> float:
        """AC energy of the residual, in parts of the teacher's: 0 is perfect, 1 is what a constant output would get."""
        residual = without_dc(self.power["residual"]).sum()
        teacher = without_dc(self.power["teacher"]).sum()
        return float(residual / max(teacher, LOWEST))


def effects(
    source: Source, images: Tensor | None = None, labels: Tensor | None = None, *, count: int = 200, root: str = ""
) -> list[Effect]:
    """What each level of a run's frequency attention does to real features, shallow to deep; [] if it has no filter.

    Args:
        source: a run by `fam` or `fam_review`.
        images: normalised (B, 3, H, W), and their `labels`; by default the first `count` test images of the run.
        root: where the data of the run is, if it was moved since the training.
    """
    run = run_of(source)
    white = {each.path: each.total_share() for each in open_runs(run).filters}
    if not white:
        return []
    if images is None:
        images, labels = task_images(run, count, root)
    distiller = trained_distiller(run, root)
    paths = {id(module): path for path, module in distiller.methods.named_modules()}
    found = []
    for name in distiller.methods:
        teacher_taps = distiller.taps(name)[1]
        for level in _measured(distiller, name, images, labels):
            power, fam = level.power, level.fam
            gain = gain_of(level.filter, fam.gamma[0] * level.scale(), power["teacher"].shape)
            share = white.get(paths[id(level.filter)])
            gamma = tuple(fam.gamma.tolist())
            found.append(Effect(teacher_taps[level.back], name, power, gain, level.energy, gamma, share))
    return found


def effect_table(source: Source | Sequence[Source] | Sequence[Effect], **options: Any) -> list[dict[str, object]]:
    """A row for each level: gamma, the global branch's share of the energy, how the branches agree, what is left.

    The share is given for white input, where it depends on the weights alone, and as measured on real features without
    DC. Of several runs, levels are named with the run. Options go to `effects`.
    """
    return [
        {
            "level": each.name,
            "gamma global": each.gamma[0],
            "gamma local": each.gamma[1] if len(each.gamma) > 1 else None,
            "global on white input": each.white_share,
            "global on these features": each.share,
            "cosine of the branches": each.agreement,
            "left to the teacher": each.left,
        }
        for each in measured_effects(source, **options)
    ]


def measured_effects(source: Source | Sequence[Source] | Sequence[Effect], **options: Any) -> list[Effect]:
    """The effects as given, or those of a run or of several, with options for `effects`."""
    if isinstance(source, Source):
        return effects(source, **options)
    found: list[Effect] = []
    for each in source:
        if isinstance(each, Effect):
            found.append(each)
        else:
            own = effects(each, **options)
            name = run_of(each).path.name
            found += own if len(source) == 1 else [replace(one, name=f"{name}, {one.name}") for one in own]
    return found


@torch.no_grad()
def gain_of(module: FourierFilter, weight: Tensor, size: tuple[int, ...]) -> np.ndarray:
    """|H| (H, W), DC in the middle: the gain of a filter in amplitude for uncorrelated channels of equal power.

    Measured by impulses on maps of that size. Each output channel is multiplied by `weight` (C_out, 1, 1).
    """
    height, width = size
    power = torch.zeros(height, width)
    for channels in torch.arange(module.c_in).split(AT_ONCE):
        impulses = torch.zeros(len(channels), module.c_in, height, width)
        impulses[torch.arange(len(channels)), channels, 0, 0] = 1
        response = torch.fft.fft2(weight * module(impulses))
        power = power + response.abs().square().mean(1).sum(0)
    return np.fft.fftshift(power.double().sqrt().numpy())


class Level:
    """A level of a method, FAM and batch norm, with hooks that see its maps, and the sums over all images so far."""

    def __init__(self, back: int, layers: nn.Sequential, fam: FAM, filter: FourierFilter):
        self.back = back  # its place counted from the end, where students with fewer stages agree with the teacher's
        self.layers, self.fam, self.filter = layers, fam, filter
        self.seen: Maps = {}
        self.power: dict[str, np.ndarray] = {}
        self.energy: dict[str, float] = {}

    def scale(self) -> Tensor:
        """What the batch norm after FAM multiplies each channel by, (C_out, 1, 1)."""
        norm = self.layers[1]
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_var is not None
        return (norm.weight / (norm.running_var + norm.eps).sqrt())[:, None, None]

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Inside the block hooks keep what enters the level, the output of each branch, and that of the level."""
        named = {"output": self.layers, "global": self.filter, "local": self.fam.local}
        with ExitStack() as hooks:
            hooks.enter_context(self.fam.register_forward_pre_hook(self._keep_input))
            for name, module in named.items():
                if module is not None:
                    hooks.enter_context(module.register_forward_hook(self._keeper(name)))
            yield

    def _keep_input(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self.seen["enters"] = args[0]

    def _keeper(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def keep(module: nn.Module, args: Any, out: Tensor) -> None:
            self.seen[name] = out

        return keep

    def add(self, target: Tensor, images: int) -> None:
        """Add what was seen of one chunk, and the teacher's maps, to the mean over a number of images."""
        names = [name for name in ("global", "local") if name in self.seen]
        branches = {name: gamma * self.seen[name] for gamma, name in zip(self.fam.gamma, names, strict=True)}
        both = torch.stack(list(branches.values())).sum(0)
        shown = {"enters": self.seen["enters"]}
        shown |= {name: self.scale() * maps for name, maps in branches.items()}
        shown |= {"output": self.seen["output"], "teacher": target, "residual": self.seen["output"] - target}
        for name, maps in shown.items():
            self.power[name] = self.power.get(name, 0.0) + _power(maps) / images
        for name, maps in {**branches, "both": both}.items():
            self.energy[name] = self.energy.get(name, 0.0) + _energy(maps) / images


def _measured(distiller: Distiller, name: str, images: Tensor, labels: Tensor | None) -> list[Level]:
    """The levels of a method that have a filter, measured on all images."""
    levels = filter_levels(method_of(distiller, name).compared())
    if not levels:
        return []
    with ExitStack() as watched:
        for level in levels:
            watched.enter_context(level.watched())
        for teacher in walk(distiller, name, images, labels):
            for level in levels:
                level.add(teacher.feats[level.back], len(images))
    return levels


def filter_levels(modules: Sequence[nn.Module]) -> list[Level]:
    """Of the modules that a method compares, those that are FAM with a filter of several frequencies."""
    levels = []
    for at, module in enumerate(modules):
        if not isinstance(module, nn.Sequential):
            continue
        fam = module[0]
        if isinstance(fam, FAM) and fam.filter is not None and min(fam.filter.size) > 1:
            levels.append(Level(at - len(modules), module, fam, fam.filter))
    return levels


def _power(maps: Tensor) -> np.ndarray:
    """Mean over channels of |F|^2, summed over the images, (H, W), DC in the middle."""
    spectrum = torch.fft.fft2(maps.double(), norm="ortho").abs().square()
    return np.fft.fftshift(spectrum.mean(1).sum(0).numpy())


def _energy(maps: Tensor) -> float:
    """Energy of maps about their means."""
    centred = maps - maps.mean((2, 3), keepdim=True)
    return centred.double().square().sum().item()
