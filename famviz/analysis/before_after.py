"""What distillation changed in the amplitudes of a student's features, as rows of figures."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from famkd.distill.distiller import Distiller
from famviz.analysis.amplitude import Stage, stages_of
from famviz.analysis.stage_spectra import CHUNK, level_maps, method_of, run_spectra
from famviz.networks import Source, run_of, task_images, trained_distiller

KINDS = ("mean", "dc", "none")


def before_after(source: Source, *, count: int = 100, root: str = "") -> list[dict[str, object]]:
    """A row for each stage and way to compare spectra: the distance to the teacher before and after distillation.

    `before` is the student alone, `after` the student, both the RMS of the curves in dB. A ratio below 1 means that
    the student is nearer to the teacher than it would be alone. [] where there is no student alone or no teacher.
    """
    run = run_of(source)
    images, labels = task_images(run, count, root)
    found = run_spectra(run, images, labels, root)
    if not {"teacher", "student alone", "student"} <= set(found):
        return []
    rows = []
    for kind in KINDS:
        for stage in stages_of(found, "teacher", relative=kind):
            if {"student alone", "student"} <= set(stage.others):
                before, after = stage.rms_db("student alone"), stage.rms_db("student")
                row: dict[str, object] = {"relative to": kind, "stage": stage.name, "before, dB": before}
                rows.append(row | {"after, dB": after, "ratio": after / before})
    return rows


def distances(stages: Sequence[Stage]) -> list[dict[str, object]]:
    """A row for each stage and network: RMS differences from the reference of curve and plane, in dB, and offsets."""
    rows = []
    for stage in stages:
        for name in stage.others:
            level, dc = stage.offsets(name)
            row: dict[str, object] = {"stage": stage.name, "network": name, "curve, dB": stage.rms_db(name)}
            rows.append(row | {"plane, dB": stage.plane_rms_db(name), "level, dB": level, "DC, dB": dc})
    return rows


def output_correlations(source: Source, *, count: int = 200, root: str = "") -> list[dict[str, object]]:
    """A row for each output that a method compares with the teacher: its correlation with the teacher's maps.

    Positions count here, unlike in a spectrum. [] for a method that has no maps of its own.
    """
    run = run_of(source)
    images, labels = task_images(run, count, root)
    distiller = trained_distiller(run, root)
    rows = []
    for name in distiller.methods:
        if not method_of(distiller, name).compared():
            continue
        taps, chunks = level_maps(distiller, name, images, labels)
        for tap, *outputs in zip(taps, *chunks):
            theirs = _teacher_maps(distiller, tap, images)
            r = np.corrcoef(torch.cat(outputs).flatten().numpy(), theirs.flatten().numpy())[0, 1]
            row: dict[str, object] = {"run": run.path.name, "stage": tap, "method": name}
            rows.append(row | {"correlation of its output with the teacher's maps": float(r)})
    return rows


def _teacher_maps(distiller: Distiller, tap: str, images: Tensor) -> Tensor:
    assert distiller.teacher is not None
    at = distiller.teacher.taps.index(tap)
    with torch.no_grad():
        return torch.cat([distiller.teacher(part)[1][at] for part in images.split(CHUNK)])


def ring_gaps(stage: Stage, rings: Mapping[str, Sequence[int]]) -> list[dict[str, object]]:
    """A row for each network: its mean absolute difference in dB from the reference at some rings, by their names."""
    rows = []
    for name in stage.others:
        gap = np.abs(stage.difference_curve(name))
        means = {f"{words}, dB": float(gap[list(at)].mean()) for words, at in rings.items()}
        rows.append({"network": name, **means})
    return rows
