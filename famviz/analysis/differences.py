"""Frequency amplitude differences: which frequencies a student's stages lack or add, compared with its teacher's."""

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from famkd.errors import UserError
from famkd.run.directory import Run
from famkd.run.scores import result
from famviz.analysis.amplitude import Relative, Stage, compare_stage
from famviz.analysis.stage_spectra import Spectra, network_spectra, run_spectra
from famviz.networks import Source, classification_run, run_images, student_alone


def amplitude_difference(
    source: Source | Mapping[str, nn.Module], images: Tensor | None = None, labels: Tensor | None = None, *,
    count: int = 200, draws: int = 500, seed: int = 0, root: str = "", relative: Relative = "mean",
    window: bool = False,
) -> list[Stage]:  # fmt: skip
    """Spectra of every stage that has frequencies, shallow to deep, of the networks of a run or of given networks.

    Args:
        source: a run (its teacher, student alone, student, and the outputs that its method compares), or networks by
            name, of which the one called `teacher`, or else the first, is the reference. Unequal numbers of stages
            pair from the deepest, unequal sizes at the lowest frequencies that both have.
        images: normalised (B, 3, H, W), and their `labels`; by default the first `count` test images of the run.
        draws, seed: of the bootstrap.
        root: where the data of the run is, if it was moved since the training.
        relative: what is taken out of each spectrum: its mean in dB (so that shapes compare), its DC, or nothing.
        window: fade maps towards their edges, whose jump is else seen as a bright cross on the axes.
    """
    found = _spectra(source, images, labels, count, root, window)
    reference = "teacher" if "teacher" in found else next(iter(found))
    stages = []
    for back in range(len(found[reference]), 0, -1):
        name = found[reference][-back][0]
        spectra = {who: each[-back][1] for who, each in found.items() if back <= len(each)}
        stages.append(compare_stage(name, reference, spectra, draws, seed, relative))
    return stages


def differences_table(
    runs: Iterable[Source], images: Tensor | None = None, *, count: int = 200, root: str = "",
    relative: Relative = "mean", window: bool = False,
) -> list[dict[str, object]]:  # fmt: skip
    """A row for each run, stage and network: RMS differences from the teacher in dB, offsets, accuracy.

    `rms_db` is of the radial curves and `plane_rms_db` of the planes. `level_db` and `dc_db` say how much louder the
    network is than the teacher. `top1` is the accuracy of the run's student, or of the student alone in its rows. A
    run without a teacher has nothing to be compared with, so it has no row.
    """
    rows = []
    for run in map(classification_run, runs):
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
                "top1": result(own).last,
            }
        )
    return rows


def _spectra(
    source: Source | Mapping[str, nn.Module], images: Tensor | None, labels: Tensor | None, count: int, root: str,
    window: bool,
) -> dict[str, Spectra]:  # fmt: skip
    """Spectra of each network by its name."""
    if isinstance(source, Mapping):
        if images is None:
            raise UserError("Networks by name need images: pass them normalised, (B, 3, H, W).")
        return {name: network_spectra(model, images, window=window) for name, model in source.items()}
    run = classification_run(source)
    if images is None:
        images, labels, *_ = run_images(run, count, root)
    return run_spectra(run, images, labels, root, window)
