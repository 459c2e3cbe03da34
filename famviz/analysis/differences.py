"""Frequency amplitude differences: which frequencies a student's stages lack or add, compared with its teacher's."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from famkd.errors import UserError
from famkd.run.directory import Run
from famkd.run.scores import result
from famviz.analysis.amplitude import Relative, Stage, Stages, stages_of
from famviz.analysis.compare_networks import Sources, compare_networks
from famviz.analysis.network_comparison import NetworkComparison
from famviz.analysis.stage_spectra import Spectra, run_spectra
from famviz.networks import Source, run_of, student_alone, task_images


def amplitude_difference(
    source: Sources, images: Any = None, labels: Any = None, *,
    count: int = 200, draws: int = 500, seed: int = 0, root: str = "", relative: Relative = "mean",
    window: bool = False,
) -> Stages:  # fmt: skip
    """Spectra of every stage that has frequencies, shallow to deep, of the networks of a run or of given networks.

    Args:
        source: a run (its teacher, student alone, student, and the outputs that its method compares), several runs of
            one teacher, networks by name, of which the one called `teacher`, or else the first, is the reference, or
            what `compare_networks` returned. Unequal numbers of stages pair from the deepest, unequal sizes at the
            lowest frequencies that both have.
        images: normalised (B, 3, H, W), and their `labels`; by default the first `count` test images of the run. With
            networks by name also in any form that `compare_networks` takes. Of detectors the stages are the levels of
            the pyramid, and images are in 0..1; by default the upper left part that the test images have in common.
        draws, seed: of the bootstrap.
        root: where the data of the run is, if it was moved since the training.
        relative: what is taken out of each spectrum: its mean in dB (so that shapes compare), its DC, or nothing.
        window: fade maps towards their edges, whose jump is else seen as a bright cross on the axes.
    """
    if isinstance(source, Mapping | NetworkComparison):
        if images is None and not isinstance(source, NetworkComparison):
            raise UserError("Networks by name need images: pass them as compare_networks takes them.")
        shown = compare_networks(source, images, labels)
        some = count if images is None else None
        return shown.spectra(some, relative=relative, window=window, draws=draws, seed=seed)
    found = _spectra_of_runs([source] if isinstance(source, Source) else source, images, labels, count, root, window)
    reference = "teacher" if "teacher" in found else next(iter(found))
    return stages_of(found, reference, draws, seed, relative)


def differences_table(
    runs: Iterable[Source], images: Tensor | None = None, *, count: int = 200, root: str = "",
    relative: Relative = "mean", window: bool = False,
) -> list[dict[str, object]]:  # fmt: skip
    """A row for each run, stage and network: RMS differences from the teacher in dB, offsets, accuracy.

    `rms_db` is of the radial curves and `plane_rms_db` of the planes. `level_db` and `dc_db` say how much louder the
    network is than the teacher. `top1`, or AP for detection, is of the run's student, or of the student alone. A
    run without a teacher has nothing to be compared with, so it has no row.
    """
    rows = []
    for run in map(run_of, runs):
        for stage in amplitude_difference(run, images, count=count, root=root, relative=relative, window=window):
            rows += _rows(run, stage)
    return rows


def _rows(run: Run, stage: Stage) -> list[dict[str, object]]:
    recipe = run.recipe
    alone = student_alone(run)
    rows = []
    for name in stage.others:
        own = alone if alone and name == "student alone" else run
        level, dc = stage.offsets(name)
        score = result(own)
        rows.append(
            {
                "run": str(run.path),
                "method": recipe.method,
                "seed": recipe.seed,
                "stage": stage.name,
                "of": name,
                "rms_db": stage.rms_db(name),
                "plane_rms_db": stage.plane_rms_db(name),
                "level_db": level,
                "dc_db": dc,
                score.figure: score.last,
            }
        )
    return rows


def _spectra_of_runs(
    sources: Sequence[Source], images: Any, labels: Any, count: int, root: str, window: bool
) -> dict[str, Spectra]:
    """Spectra of each network by its name. With several runs, students and outputs are named by their method."""
    runs = [run_of(source) for source in sources]
    if images is None:
        images, labels = task_images(runs[0], count, root)
    labels = None if labels is None else torch.as_tensor(labels)
    if len(runs) == 1:
        return run_spectra(runs[0], images, labels, root, window)
    found: dict[str, Spectra] = {}
    for run in runs:
        for name, spectra in run_spectra(run, images, labels, root, window).items():
            own = {"student": f"student by {run.recipe.method}"}.get(name, name)
            if own in found and name not in ("teacher", "student alone"):
                own = f"{own}, {run.path.name}"
            found.setdefault(own, spectra)
    return found
