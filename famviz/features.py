"""Frequency amplitude differences: which frequencies a student's stages lack or add, beside its teacher's."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn

from famkd.distiller import Distiller
from famkd.errors import UserError
from famkd.method import Batch, Method, View
from famkd.run import Run
from famkd.taps import Tapped, default_taps
from famviz import style
from famviz.amplitude import Stage, compare_stage, image_spectra
from famviz.networks import Source, networks, opened, run_images, student_alone, trained_distiller, untouched

__all__ = ["Stage", "amplitude_difference", "differences_figure", "differences_table", "networks", "run_images"]

CHUNK = 100  # images that pass a network at once
COLOURS = ("#000000", *style.LINES)  # the reference is black
Found = list[tuple[str, np.ndarray]]  # name and (N, H, W) dB of each map that has frequencies, shallow to deep


def amplitude_difference(
    source: Source | Mapping[str, nn.Module], images: Tensor | None = None, labels: Tensor | None = None, *,
    count: int = 200, draws: int = 500, seed: int = 0, root: str = "",
) -> list[Stage]:  # fmt: skip
    """Spectra of every stage that has frequencies, shallow to deep, of a run's networks or of any others by name.

    Args:
        source: a run (its teacher, student alone, student, and what its method's levels put out to be compared), or
            networks, of which the one called `teacher`, or else the first, is the reference. Unequal numbers of
            stages pair from the deepest, unequal sizes at the lowest frequencies that both have.
        images: normalised (B, 3, H, W), and their `labels`; by themselves the first `count` test images of the run.
        draws, seed: of the bootstrap.
        root: where the run's data lies, if no longer where it lay in training.
    """
    if isinstance(source, Mapping):
        if images is None:
            raise UserError("Networks by name need images to look at: pass them normalised, (B, 3, H, W).")
        found = {name: network_spectra(model, images) for name, model in source.items()}
    else:
        run = opened(source)
        if images is None:
            images, labels, *_ = run_images(run, count, root)
        found = _run_spectra(run, images, labels, root)
    reference = "teacher" if "teacher" in found else next(iter(found))
    stages = []
    for back in range(len(found[reference]), 0, -1):
        spectra = {who: each[-back][1] for who, each in found.items() if back <= len(each)}
        stages.append(compare_stage(found[reference][-back][0], reference, spectra, draws, seed))
    return stages


def differences_table(
    runs: Iterable[Source], images: Tensor | None = None, *, count: int = 200, root: str = ""
) -> list[dict[str, object]]:
    """A row for each run, stage and network compared: the RMS difference from the teacher in dB, the accuracy.

    The accuracy is that of the student that the row is about: the run's, or that of the student alone beside it.
    A run without a teacher has nothing to be compared with, so it has no row of its own.
    """
    rows = []
    for run in map(opened, runs):
        recipe, alone = run.recipe, student_alone(run)
        for stage in amplitude_difference(run, images, count=count, root=root):
            facts = {"run": str(run.path), "method": recipe.method, "seed": recipe.seed, "stage": stage.name}
            for name in stage.others:
                own = alone if name == "student alone" else run
                rows.append(facts | {"of": name, "rms_db": stage.rms_db(name), "top1": own.metrics()[-1]["top1"]})
    return rows


@torch.no_grad()
def network_spectra(model: nn.Module, images: Tensor, taps: Sequence[str] = ()) -> Found:
    """Spectra of a network's stages, or of what is at its `taps`; the network is left as it was."""
    with untouched(model):
        taps = taps or default_taps(model, "stages", images[:2])
        tapped = Tapped(model.eval(), taps)
        try:
            return _join(taps, [tapped(part)[1] for part in images.split(CHUNK)])
        finally:
            tapped.remove()


@torch.no_grad()
def level_spectra(distiller: Distiller, name: str, images: Tensor, labels: Tensor) -> Found:
    """Spectra of what the levels of a method make of the student, on its way to be compared with the teacher."""
    own, others = distiller.taps(name)
    method, seen, parts = distiller.methods[name], {}, []
    hooks = [
        module.register_forward_hook(lambda _, args, out, at=at: seen.__setitem__(at, out))
        for at, module in enumerate(leaving(method))
    ]
    try:
        for part, classes in zip(images.split(CHUNK), labels.split(CHUNK)):
            views = [_view(distiller.student, own, part), _view(distiller.teacher, others, part)]
            method(*views, Batch(part, classes, torch.arange(len(part))))
            parts.append([seen[at] for at in sorted(seen)])
    finally:
        for hook in hooks:
            hook.remove()
    return _join(others[-len(seen) :], parts)


def leaving(method: Method) -> list[nn.Module]:
    """The modules of a method whose outputs are compared with the teacher's maps, shallow to deep; [] if none are."""
    levels, stages = (getattr(method, name, None) for name in ("levels", "stages"))
    if isinstance(levels, nn.ModuleList):  # and not how many scales of a wavelet are compared
        return [level.leave for level in levels]
    return list(stages) if isinstance(stages, nn.ModuleList) else []


def differences_figure(
    source: Source | Mapping[str, nn.Module] | Sequence[Stage], images: Tensor | None = None, **options
):
    """A matplotlib figure of `amplitude_difference`, or of stages that it gave: two rows a stage.

    Above, each network's spectrum on one scale, and its radial curve with the bootstrap band; below, each minus the
    reference on one scale that is symmetric about 0.
    """
    given = isinstance(source, Sequence) and not isinstance(source, str)
    stages = source if given else amplitude_difference(source, images, **options)
    names = list(max(stages, key=lambda stage: len(stage.planes)).planes)
    figure = style.figure(1.6 * len(names) + 3.8, 3.6 * len(stages))
    with style.context():
        for grid, stage in zip(figure.subfigures(len(stages), 1, squeeze=False)[:, 0], stages):
            size = " x ".join(map(str, stage.planes[stage.reference].shape))
            grid.suptitle(f"{stage.name}, {size}", x=0.01, ha="left", fontsize=10, fontweight="bold")
            rows = [[f"+{name}" for name in names] + ["curve"], [f"-{name}" for name in names] + ["gap"]]
            axes = grid.subplot_mosaic(rows, width_ratios=[1] * len(names) + [1.9])
            _draw_planes(grid, axes, names, stage)
            _draw_curves(axes["curve"], axes["gap"], names, stage)
            axes[f"-{stage.reference}"].legend(*axes["curve"].get_legend_handles_labels(), loc="center left")
    return figure


def _draw_planes(grid, axes: dict, names: list[str], stage: Stage) -> None:
    """Spectra in the upper row and differences in the lower one, each row on one scale with its bar."""
    off_dc = np.concatenate([_without_dc(plane) for plane in stage.planes.values()])
    low, high = np.quantile(off_dc, (0.01, 1))
    gaps = [_without_dc(stage.difference(name)) for name in stage.others]
    most = max(np.quantile(np.abs(np.concatenate(gaps)), 0.995), 0.1) if gaps else 1.0
    for name in names:
        above, below = axes[f"+{name}"], axes[f"-{name}"]
        for ax in (above, below):
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        if name not in stage.planes:
            continue
        h, w = stage.planes[name].shape
        extent = (-(w // 2) - 0.5, w - w // 2 - 0.5, h - h // 2 - 0.5, -(h // 2) - 0.5)
        spectrum = above.imshow(stage.planes[name], cmap=style.AMPLITUDE, vmin=low, vmax=high, extent=extent)
        above.set_title(name)
        if name == stage.reference:
            continue
        gap = below.imshow(stage.difference(name), cmap=style.SIGNED, vmin=-most, vmax=most, extent=extent)
        below.set_title(f"minus {stage.reference}: {stage.rms_db(name):.1f} dB RMS")
        below.set_xticks([-(w // 2), 0, w // 2 - 1 + w % 2])
        last = gap
    grid.colorbar(spectrum, ax=[axes[f"+{name}"] for name in names], label="dB re DC", shrink=0.85, pad=0.01)
    if gaps:
        grid.colorbar(last, ax=[axes[f"-{name}"] for name in names], label="dB", shrink=0.85, pad=0.01)


def _draw_curves(curve, gap, names: list[str], stage: Stage) -> None:
    """Radial curves with their bands, and below them the differences with theirs."""
    for colour, name in zip(COLOURS, names):
        if name not in stage.curves:
            continue
        curve.plot(stage.frequency, stage.curves[name], color=colour, lw=1.4, label=name)
        curve.fill_between(stage.frequency, *stage.bands[name], color=colour, alpha=0.2, lw=0)
        if name != stage.reference:
            gap.plot(stage.frequency, stage.difference_curve(name), color=colour, lw=1.4)
            gap.fill_between(stage.frequency, *stage.difference_bands[name], color=colour, alpha=0.2, lw=0)
    gap.axhline(0, color=COLOURS[0], lw=0.8)
    for ax in (curve, gap):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    gap.set_xlabel("frequency, cycles per map")
    curve.set_ylabel("dB re DC")
    gap.set_ylabel(f"dB minus {stage.reference}")


def _without_dc(plane: np.ndarray) -> np.ndarray:
    h, w = plane.shape
    return np.delete(plane.ravel(), (h // 2) * w + w // 2)


def _view(net: Tapped, taps: Sequence[str], images: Tensor) -> View:
    logits, feats = net(images)
    return View(logits, [feats[net.taps.index(tap)] for tap in taps], net.head)


def _run_spectra(run: Run, images: Tensor, labels: Tensor | None, root: str) -> dict[str, Found]:
    """Teacher, student alone, student and the outputs of the method's levels, all at the taps of training."""
    labels = torch.zeros(len(images), dtype=torch.long) if labels is None else labels
    distiller = trained_distiller(run, root)
    levels = [name for name, method in distiller.methods.items() if leaving(method)]
    own, others = distiller.taps(levels[0]) if levels else ((), ())
    found = {}
    if distiller.teacher:
        found["teacher"] = network_spectra(distiller.teacher.model, images, others)
    if alone := student_alone(run):
        found["student alone"] = network_spectra(trained_distiller(alone, root).student.model, images, own)
    found["student"] = network_spectra(distiller.student.model, images, own)
    return found | {f"{name} output": level_spectra(distiller, name, images, labels) for name in levels}


def _join(taps: Sequence[str], parts: Sequence[Sequence[Tensor]]) -> Found:
    """Spectra over all chunks, of the maps that are more than one pixel."""
    joined = []
    for tap, *maps in zip(taps, *parts, strict=True):
        if maps[0].ndim == 4 and min(maps[0].shape[-2:]) > 1:
            joined.append((tap, np.concatenate([image_spectra(each) for each in maps])))
    return joined
