"""Spectra of the stages of networks, and of what a method compares with the teacher."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import numpy as np
import torch
from torch import Tensor, nn

from famkd.distill.distiller import Distiller
from famkd.distill.types import Batch, Method, Task, View
from famkd.errors import UserError
from famkd.features.taps import Tapped, default_taps
from famkd.run.directory import Run
from famviz.analysis.amplitude import image_spectra
from famviz.networks import student_alone, tapping, trained_distiller

CHUNK = 100  # images in one forward pass
FEW = 4  # the same of a detector, whose images are larger
Spectra = list[tuple[str, np.ndarray]]  # name and (N, H, W) dB of each map that has frequencies, shallow to deep


def network_spectra(model: nn.Module, images: Tensor, taps: Sequence[str] = (), window: bool = False) -> Spectra:
    """Spectra of a network's stages, or of its `taps`. The network is left as it was."""
    taps = taps or default_taps(model, "stages", images[:2])
    with tapping(model, taps) as tapped:
        chunks = [tapped(part)[1] for part in images.split(CHUNK)]
    return _joined(taps, chunks, window)


def spectra_in(task: Task, model: nn.Module, images: Tensor, taps: Sequence[str], window: bool = False) -> Spectra:
    """`network_spectra` of a network of any task: of a detector its pyramid, on images in 0..1."""
    if task.returns_logits:
        return network_spectra(model, images, taps, window)
    taps = taps or default_taps(model, "stages", images)
    with tapping(model, taps) as tapped:
        parts = images.split(FEW)
        chunks = [task.teach(tapped, Batch(part, None, torch.arange(len(part)))).feats for part in parts]
    return _joined(taps, chunks, window)


def level_spectra(
    distiller: Distiller, name: str, images: Tensor, labels: Tensor | None, window: bool = False
) -> Spectra:
    """Spectra of the outputs that a method compares with the feature maps of the teacher."""
    return _joined(*level_maps(distiller, name, images, labels), window)


def level_maps(
    distiller: Distiller, name: str, images: Tensor, labels: Tensor | None = None
) -> tuple[Sequence[str], list[list[Tensor]]]:
    """Taps of the teacher, and the outputs that a method compares with the maps there, for each chunk of the images."""
    teacher_taps = distiller.taps(name)[1]
    seen: dict[int, Tensor] = {}

    def keep(at: int):
        return lambda module, args, out: seen.__setitem__(at, out)

    chunks = []
    with ExitStack() as hooks:
        for at, module in enumerate(method_of(distiller, name).compared()):
            hooks.enter_context(module.register_forward_hook(keep(at)))
        for _ in walk(distiller, name, images, labels):
            chunks.append([seen[at] for at in sorted(seen)])
    return teacher_taps[-len(seen) :], chunks


def run_spectra(run: Run, images: Tensor, labels: Tensor | None, root: str, window: bool = False) -> dict[str, Spectra]:
    """Spectra of the teacher, the student alone, the student and the method's outputs, at the taps of the training."""
    distiller = trained_distiller(run, root)
    names = [name for name in distiller.methods if method_of(distiller, name).compared()]
    own_taps, teacher_taps = distiller.taps(names[0]) if names else ((), ())
    found: dict[str, Spectra] = {}
    if distiller.teacher:
        found["teacher"] = spectra_in(distiller.task, distiller.teacher.model, images, teacher_taps, window)
    alone = student_alone(run)
    if alone:
        model = trained_distiller(alone, root).student.model
        found["student alone"] = spectra_in(distiller.task, model, images, own_taps, window)
    found["student"] = spectra_in(distiller.task, distiller.student.model, images, own_taps, window)
    for name in names:
        found[f"{name} output"] = level_spectra(distiller, name, images, labels, window)
    return found


def walk(distiller: Distiller, name: str, images: Tensor, labels: Tensor | None) -> Iterator[View]:
    """Run a method over all images, a chunk at a time, for hooks to see; yields the teacher's view of each chunk.

    Images are what the task of the run takes: normalised for classification, in 0..1 for detection. Without labels all
    are of class 0: no map depends on them.
    """
    if distiller.teacher is None:
        raise UserError("This run has no teacher, so its method compares nothing.")
    labels = torch.zeros(len(images), dtype=torch.long) if labels is None else labels
    own_taps, teacher_taps = distiller.taps(name)
    method = method_of(distiller, name)
    size = CHUNK if distiller.task.returns_logits else FEW
    with torch.no_grad():
        for part, classes in zip(images.split(size), labels.split(size)):
            batch = Batch(part, classes, torch.arange(len(part)))
            student = _view(distiller.task, distiller.student, own_taps, batch)
            teacher = _view(distiller.task, distiller.teacher, teacher_taps, batch)
            method(student, teacher, batch)
            yield teacher


def method_of(distiller: Distiller, name: str) -> Method:
    """A method of a distiller by its name."""
    method = distiller.methods[name]
    assert isinstance(method, Method)
    return method


def _view(task: Task, net: Tapped, taps: Sequence[str], batch: Batch) -> View:
    """What a method sees of a network, at some of its taps."""
    view = task.teach(net, batch)
    return View(view.logits, [view.feats[net.taps.index(tap)] for tap in taps], view.head)


def _joined(taps: Sequence[str], chunks: Sequence[Sequence[Tensor]], window: bool) -> Spectra:
    """Spectra over all chunks, of the maps that are larger than one pixel."""
    joined = []
    for tap, *maps in zip(taps, *chunks, strict=True):
        if maps[0].ndim == 4 and min(maps[0].shape[-2:]) > 1:
            spectra = [image_spectra(each, window) for each in maps]
            joined.append((tap, np.concatenate(spectra)))
    return joined
