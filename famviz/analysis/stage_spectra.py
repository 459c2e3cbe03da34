"""Spectra of what networks show at their stages, and of what a method's levels make of a student's."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from famkd.distill.distiller import Distiller
from famkd.distill.types import Batch, Method, View
from famkd.features.taps import Tapped, default_taps
from famkd.run.directory import Run
from famviz.analysis.amplitude import image_spectra
from famviz.networks import student_alone, trained_distiller, untouched

CHUNK = 100  # images that pass a network at once
Found = list[tuple[str, np.ndarray]]  # name and (N, H, W) dB of each map that has frequencies, shallow to deep


@torch.no_grad()
def network_spectra(model: nn.Module, images: Tensor, taps: Sequence[str] = (), window: bool = False) -> Found:
    """Spectra of a network's stages, or of what is at its `taps`; the network is left as it was."""
    with untouched(model):
        taps = taps or default_taps(model, "stages", images[:2])
        tapped = Tapped(model.eval(), taps)
        try:
            return _join(taps, [tapped(part)[1] for part in images.split(CHUNK)], window)
        finally:
            tapped.remove()


def level_spectra(distiller: Distiller, name: str, images: Tensor, labels: Tensor, window: bool = False) -> Found:
    """Spectra of what the levels of a method make of the student, on its way to be compared with the teacher."""
    others, seen, parts = distiller.taps(name)[1], {}, []
    hooks = [
        module.register_forward_hook(lambda _, args, out, at=at: seen.__setitem__(at, out))
        for at, module in enumerate(leaving(distiller.methods[name]))
    ]
    try:
        for _ in walk(distiller, name, images, labels):
            parts.append([seen[at] for at in sorted(seen)])
    finally:
        for hook in hooks:
            hook.remove()
    return _join(others[-len(seen) :], parts, window)


def walk(distiller: Distiller, name: str, images: Tensor, labels: Tensor) -> Iterator[View]:
    """A method over all images, a chunk at a time, for hooks to look on: yields what the teacher showed of each."""
    own, others = distiller.taps(name)
    with torch.no_grad():
        for part, classes in zip(images.split(CHUNK), labels.split(CHUNK)):
            theirs = _view(distiller.teacher, others, part)
            distiller.methods[name](
                _view(distiller.student, own, part), theirs, Batch(part, classes, torch.arange(len(part)))
            )
            yield theirs


def leaving(method: Method) -> list[nn.Module]:
    """The modules of a method whose outputs are compared with the teacher's maps, shallow to deep; [] if none are."""
    levels, stages = (getattr(method, name, None) for name in ("levels", "stages"))
    if isinstance(levels, nn.ModuleList):  # and not how many scales of a wavelet are compared
        return [level.leave for level in levels]
    return list(stages) if isinstance(stages, nn.ModuleList) else []


def _view(net: Tapped, taps: Sequence[str], images: Tensor) -> View:
    logits, feats = net(images)
    return View(logits, [feats[net.taps.index(tap)] for tap in taps], net.head)


def run_spectra(run: Run, images: Tensor, labels: Tensor | None, root: str, window: bool = False) -> dict[str, Found]:
    """Teacher, student alone, student and the outputs of the method's levels, all at the taps of training."""
    labels = torch.zeros(len(images), dtype=torch.long) if labels is None else labels
    distiller = trained_distiller(run, root)
    levels = [name for name, method in distiller.methods.items() if leaving(method)]
    own, others = distiller.taps(levels[0]) if levels else ((), ())
    found = {}
    if distiller.teacher:
        found["teacher"] = network_spectra(distiller.teacher.model, images, others, window)
    if alone := student_alone(run):
        found["student alone"] = network_spectra(trained_distiller(alone, root).student.model, images, own, window)
    found["student"] = network_spectra(distiller.student.model, images, own, window)
    return found | {f"{name} output": level_spectra(distiller, name, images, labels, window) for name in levels}


def _join(taps: Sequence[str], parts: Sequence[Sequence[Tensor]], window: bool) -> Found:
    """Spectra over all chunks, of the maps that are more than one pixel."""
    joined = []
    for tap, *maps in zip(taps, *parts, strict=True):
        if maps[0].ndim == 4 and min(maps[0].shape[-2:]) > 1:
            joined.append((tap, np.concatenate([image_spectra(each, window) for each in maps])))
    return joined
