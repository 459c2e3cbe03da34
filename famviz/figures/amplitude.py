"""Frequency amplitude differences: which frequencies a student's stages lack or add, beside its teacher's."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn

from famkd.errors import UserError
from famviz.analysis.amplitude import Relative, Stage, compare_stage, without_dc
from famviz.analysis.stage_spectra import leaving, level_spectra, network_spectra, run_spectra
from famviz.figures import style
from famviz.networks import Source, networks, opened, run_images, student_alone

__all__ = ["Stage", "amplitude_difference", "differences_figure", "differences_table", "leaving", "level_spectra",
           "network_spectra", "networks", "run_images"]  # fmt: skip

COLOURS = ("#000000", *style.LINES)  # the reference is black
RELATIVE = {"mean": "dB re mean", "dc": "dB re DC", "none": "dB"}


def amplitude_difference(
    source: Source | Mapping[str, nn.Module], images: Tensor | None = None, labels: Tensor | None = None, *,
    count: int = 200, draws: int = 500, seed: int = 0, root: str = "", relative: Relative = "mean",
    window: bool = False,
) -> list[Stage]:  # fmt: skip
    """Spectra of every stage that has frequencies, shallow to deep, of a run's networks or of any others by name.

    Args:
        source: a run (its teacher, student alone, student, and what its method's levels put out to be compared), or
            networks, of which the one called `teacher`, or else the first, is the reference. Unequal numbers of
            stages pair from the deepest, unequal sizes at the lowest frequencies that both have.
        images: normalised (B, 3, H, W), and their `labels`; by themselves the first `count` test images of the run.
        draws, seed: of the bootstrap.
        root: where the run's data lies, if no longer where it lay in training.
        relative: what is taken out of each spectrum, its mean in dB (so that shapes compare), its DC, or nothing.
        window: fade maps out towards their edges, whose jump else shows as a bright cross on the axes.
    """
    if isinstance(source, Mapping):
        if images is None:
            raise UserError("Networks by name need images to look at: pass them normalised, (B, 3, H, W).")
        found = {name: network_spectra(model, images, window=window) for name, model in source.items()}
    else:
        run = opened(source)
        if images is None:
            images, labels, *_ = run_images(run, count, root)
        found = run_spectra(run, images, labels, root, window)
    reference = "teacher" if "teacher" in found else next(iter(found))
    stages = []
    for back in range(len(found[reference]), 0, -1):
        spectra = {who: each[-back][1] for who, each in found.items() if back <= len(each)}
        stages.append(compare_stage(found[reference][-back][0], reference, spectra, draws, seed, relative))
    return stages


def differences_table(
    runs: Iterable[Source], images: Tensor | None = None, *, count: int = 200, root: str = "",
    relative: Relative = "mean", window: bool = False,
) -> list[dict[str, object]]:  # fmt: skip
    """A row for each run, stage and network compared: RMS differences from the teacher, offsets, the accuracy.

    The differences are of the radial curves and of the planes; `level_db` and `dc_db` say how much louder than the
    teacher the network is.

    The accuracy is that of the student that the row is about: the run's, or that of the student alone beside it.
    A run without a teacher has nothing to be compared with, so it has no row of its own.
    """
    rows = []
    for run in map(opened, runs):
        recipe, alone = run.recipe, student_alone(run)
        for stage in amplitude_difference(run, images, count=count, root=root, relative=relative, window=window):
            facts = {"run": str(run.path), "method": recipe.method, "seed": recipe.seed, "stage": stage.name}
            for name in stage.others:
                own = alone if name == "student alone" else run
                level, dc = stage.offsets(name)
                found = {"rms_db": stage.rms_db(name), "plane_rms_db": stage.plane_rms_db(name)}
                found |= {"level_db": level, "dc_db": dc, "top1": own.metrics()[-1]["top1"]}
                rows.append(facts | {"of": name} | found)
    return rows


def differences_figure(
    source: Source | Mapping[str, nn.Module] | Sequence[Stage], images: Tensor | None = None, **options
):
    """A matplotlib figure of `amplitude_difference`, or of stages that it gave: two rows a stage.

    Above, each network's spectrum on one scale, and its radial curve with the bootstrap band; below, each minus the
    reference on one scale that is symmetric about 0. Curves start at the first ring: DC is printed.
    """
    given = isinstance(source, Sequence) and not isinstance(source, str)
    stages = source if given else amplitude_difference(source, images, **options)
    names = list(max(stages, key=lambda stage: len(stage.planes)).planes)
    figure = style.figure(1.75 * len(names) + 3.8, 4.5 * len(stages))
    with style.context():
        for grid, stage in zip(figure.subfigures(len(stages), 1, squeeze=False)[:, 0], stages):
            size = " x ".join(map(str, stage.planes[stage.reference].shape))
            grid.suptitle(f"{stage.name}, {size}", x=0.01, ha="left", fontsize=10, fontweight="bold")
            rows = [[f"+{name}" for name in names] + ["curve"], [f"-{name}" for name in names] + ["gap"]]
            axes = grid.subplot_mosaic(rows, width_ratios=[1] * len(names) + [1.9])
            _draw_planes(grid, axes, names, stage)
            _draw_curves(axes["curve"], axes["gap"], names, stage)
            if stage is stages[0]:
                legend = axes[f"-{stage.reference}"].legend(
                    *axes["curve"].get_legend_handles_labels(), loc="center left", bbox_to_anchor=(-0.15, 0.5),
                    title="pale: what other images\nwould have given\n(95 %, bootstrap)", title_fontsize=7,
                )  # fmt: skip
                legend._legend_box.align = "left"
    return figure


def _draw_planes(grid, axes: dict, names: list[str], stage: Stage) -> None:
    """Spectra in the upper row and differences in the lower one, each row on one scale with its bar."""
    off_dc = np.concatenate([without_dc(plane) for plane in stage.planes.values()])
    low, high = np.quantile(off_dc, (0.01, 1))
    gaps = [without_dc(stage.difference(name)) for name in stage.others]
    most = max(np.quantile(np.abs(np.concatenate(gaps)), 0.995), 0.1) if gaps else 1.0
    for name in names:
        above, below = axes[f"+{name}"], axes[f"-{name}"]
        for ax in (above, below):
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        if name not in stage.planes:
            continue
        extent = _extent(stage.planes[name].shape)
        spectrum = above.imshow(stage.planes[name], cmap=style.AMPLITUDE, vmin=low, vmax=high, extent=extent)
        above.set_title(name)
        if name == stage.reference:
            _name_axes(above, extent, "kx, cycles per map")
            continue
        last = below.imshow(stage.difference(name), cmap=style.SIGNED, vmin=-most, vmax=most, extent=extent)
        below.set_title(
            f"minus {stage.reference}:\ncurve {stage.rms_db(name):.1f}, plane {stage.plane_rms_db(name):.1f} dB RMS"
        )
        level, dc = stage.offsets(name)
        _name_axes(below, extent, f"kx, cycles per map\nlevel {level:+.1f} dB, DC {dc:+.1f} dB".replace("-", "\u2212"))
    bar = RELATIVE[stage.relative]
    grid.colorbar(spectrum, ax=[axes[f"+{name}"] for name in names], label=bar, shrink=0.85, pad=0.01)
    if gaps:
        grid.colorbar(last, ax=[axes[f"-{name}"] for name in names], label="dB", shrink=0.85, pad=0.01)


def _draw_curves(curve, gap, names: list[str], stage: Stage) -> None:
    """Radial curves with their bands, and below them the differences with theirs, from the first ring on."""
    at = stage.frequency[1:]
    for colour, name in zip(COLOURS, names):
        if name not in stage.curves:
            continue
        line = {"color": colour, "lw": 1.4, "marker": "o", "markersize": 2.5}  # a small map has but two rings
        curve.plot(at, stage.curves[name][1:], label=name, **line)
        curve.fill_between(at, *stage.bands[name][:, 1:], color=colour, alpha=0.2, lw=0)
        if name != stage.reference:
            gap.plot(at, stage.difference_curve(name)[1:], **line)
            gap.fill_between(at, *stage.difference_bands[name][:, 1:], color=colour, alpha=0.2, lw=0)
    gap.axhline(0, color=COLOURS[0], lw=0.8)
    for ax in (curve, gap):
        ax.set_xlim(0.5, at[-1] + 0.5)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    gap.set_xlabel("frequency, cycles per map")
    curve.set_ylabel(RELATIVE[stage.relative])
    gap.set_ylabel(f"dB minus {stage.reference}")


def _extent(size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Edges of the bins of a centred plane, rows downwards."""
    h, w = size
    return (-(w // 2) - 0.5, w - w // 2 - 0.5, h - h // 2 - 0.5, -(h // 2) - 0.5)


def _name_axes(ax, extent: tuple[float, float, float, float], across: str) -> None:
    left, right, bottom, top = extent
    ax.set(xlabel=across, xticks=[left + 0.5, 0, right - 0.5], ylabel="ky", yticks=[top + 0.5, 0, bottom - 0.5])
    ax.xaxis.set_major_formatter("{x:.0f}")
    ax.yaxis.set_major_formatter("{x:.0f}")
    ax.yaxis.labelpad = -4
