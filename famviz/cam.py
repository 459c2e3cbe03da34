"""Class activation maps of teacher and students side by side: how far they agree, and whether they are true.

`cam` makes the maps of one network; `compare` those of several on one colour scale, with figures; `grid_figure` draws.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from famkd.data.bands import bands_truth
from famviz import faithfulness as faith
from famviz import style
from famviz.evidence import METHODS, CamResult, Target, cam
from famviz.networks import Source, cast, opened, run_images

__all__ = ["METHODS", "CamResult", "Comparison", "cam", "compare", "grid_figure"]

TOP = 0.2  # share of the pixels that an IoU is taken of


@dataclass(frozen=True, eq=False)
class Comparison:
    """Maps of several networks on the same images, and figures about each, per image (B,).

    Figures: `rank correlation` and `IoU` with the reference's maps; `insertion` and `deletion` of each network by its
    own map; with masks `energy inside` and `pointing`. `chance` holds what a map that says nothing would get.
    """

    results: dict[str, CamResult]
    reference: str
    figures: dict[str, dict[str, np.ndarray]]
    chance: dict[str, np.ndarray]
    pixels: np.ndarray  # (B, H, W, 3) uint8, to look at
    labels: np.ndarray | None  # (B,)
    masks: np.ndarray | None  # (B, H, W) bool
    classes: list[str]

    @property
    def highest(self) -> float:
        """Upper end of the shared colour range; 0 is the lower one."""
        return max(float(result.maps.max()) for result in self.results.values())

    def rows(self) -> list[dict[str, object]]:
        """Mean of each figure over the images that have one: a row for each network, and one for chance."""
        named = [*self.figures.items(), ("chance", self.chance)]
        return [{"network": name, **{key: faith.mean(f) for key, f in figures.items()}} for name, figures in named]


def compare(
    models: Mapping[str, nn.Module], images: Tensor, labels: Tensor | None = None, *,
    target: Target | str = "", method: str = "GradCAM", layer: str | Mapping[str, str] | None = None,
    masks: np.ndarray | None = None, pixels: np.ndarray | None = None, classes: Sequence[str] = (), steps: int = 16,
) -> Comparison:  # fmt: skip
    """Maps of several networks on normalised images (B, 3, H, W), and how they agree.

    Args:
        models: by name; the one called `teacher`, or else the first, is the reference.
        target: as in `cam`, or `reference`: the class that the reference predicts. By itself the true class where
            there are labels, else the reference's.
        layer: one for all, or one by name; by itself each network's last stage.
        masks: (B, H, W) bool, where the evidence truly is; `masks_of_boxes` makes them from boxes.
        pixels, classes: what to draw, and what to call the classes.
        steps: of insertion and deletion; 0 leaves these out.
    """
    reference = "teacher" if "teacher" in models else next(iter(models))
    target = target if isinstance(target, int | Tensor) else target or ("reference" if labels is None else "true")
    if isinstance(target, str) and target == "reference":
        target = torch.from_numpy(cam(models[reference], images, "predicted", "EigenCAM").predicted)
    layers = layer if isinstance(layer, Mapping) else dict.fromkeys(models, layer)
    results = {name: cam(net, images, target, method, layers.get(name), labels) for name, net in models.items()}
    first = results[reference]
    figures = {name: _figures(models[name], images, each, first, masks, steps) for name, each in results.items()}
    nothing = replace(first, maps=np.zeros_like(first.maps))
    chance = _figures(models[reference], images, nothing, first, masks, steps)
    if masks is not None:
        chance |= dict.fromkeys(("energy inside", "pointing"), masks.mean((1, 2)))
    if pixels is None:
        low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
        scaled = (images - low) / (high - low).clamp_min(1e-6) * 255
        pixels = scaled.permute(0, 2, 3, 1).byte().cpu().numpy()
    truth = None if labels is None else labels.cpu().numpy()
    return Comparison(results, reference, figures, chance, pixels, truth, masks, list(classes))


def grid_figure(
    source: Comparison | Source | Sequence[Source], images: int | Sequence[int] = 6, *, scale: str = "shared",
    root: str = "", **options,
):  # fmt: skip
    """A matplotlib figure, an image a row: the input, then each network's map, its agreement above.

    Args:
        source: a comparison, a run, or several runs of one teacher; of runs the first `images` test images are shown,
            or those at these positions, and `options` go to `compare`.
        scale: `shared` draws every map on one range, so that strength compares; `own` each on its own, so that only
            shape does.
    """
    shown = source if isinstance(source, Comparison) else _compare_runs(source, images, root, options)
    rows, columns = len(shown.pixels), 1 + len(shown.results)
    figure = style.figure(1.65 * columns + 0.9, 1.5 * rows + 1.1)
    with style.context():
        axes = figure.subplots(rows, columns, squeeze=False)
        axes[0, 0].set_title("input", fontsize=9)
        for row in range(rows):
            _draw_input(axes[row, 0], shown, row)
            for column, result in enumerate(shown.results.values(), 1):
                drawn = _draw_map(axes[row, column], shown, result, row, scale)
        for column, name in enumerate(shown.results, 1):
            axes[0, column].set_title(f"{name}\n{_agreement(shown, name)}", fontsize=9)
        if scale == "shared":
            figure.colorbar(drawn, ax=axes[:, 1:], label="evidence, units of the class score", shrink=0.6, pad=0.01)
        first = shown.results[shown.reference]
        layers = ", ".join(sorted({result.layer for result in shown.results.values()}))
        range_of = "one colour range" if scale == "shared" else "each map on its own range: shape only"
        figure.suptitle(f"{first.method} at {layers}; {range_of}; p is the class's probability", fontsize=10)
    return figure


def _figures(
    model: nn.Module, images: Tensor, result: CamResult, first: CamResult, masks: np.ndarray | None, steps: int
) -> dict[str, np.ndarray]:
    figures = {
        "rank correlation": faith.rank_correlation(result.maps, first.maps),
        "IoU": faith.top_iou(result.maps, first.maps, TOP),
    }
    if steps:
        classes = torch.from_numpy(result.classes).to(images.device)
        areas = faith.insertion_deletion(model, images, result.maps, classes, steps=steps)
        figures |= dict(zip(("insertion", "deletion"), areas))
    if masks is not None:
        figures["energy inside"] = faith.energy_inside(result.maps, masks)
        figures["pointing"] = faith.pointing_hits(result.maps, masks)
    return figures


def _compare_runs(source, images: int | Sequence[int], root: str, options: dict) -> Comparison:
    first = opened(source if isinstance(source, Source) else source[0])
    shown = run_images(first, images, root)
    if first.recipe.data.name == "bands":
        known = bands_truth().masks
        options = {"masks": known[:images] if isinstance(images, int) else known[list(images)]} | options
    options = {"pixels": shown.pixels, "classes": shown.classes, "steps": 0} | options  # insertion is not drawn
    return compare(cast(source, root), shown.images, shown.labels, **options)


def _draw_input(ax, shown: Comparison, row: int) -> None:
    ax.imshow(shown.pixels[row])
    _outline(ax, shown, row)
    label = next(iter(shown.results.values())).classes[row] if shown.labels is None else shown.labels[row]
    ax.set_ylabel(_called(shown, label), fontsize=8)


def _draw_map(ax, shown: Comparison, result: CamResult, row: int, scale: str):
    values = result.maps[row]
    highest = shown.highest if scale == "shared" else float(values.max())
    drawn = ax.imshow(values, cmap="inferno", vmin=0, vmax=highest or 1.0)
    _outline(ax, shown, row)
    if result.words[row]:
        ax.text(0.5, 0.5, "nothing to show:\n" + _short(result.words[row]), fontsize=6, color="white", ha="center",
                va="center", transform=ax.transAxes)  # fmt: skip
    else:
        ax.set_xlabel(f"p {result.confidence[row]:.2f}", fontsize=7, labelpad=1)
    return drawn


def _outline(ax, shown: Comparison, row: int) -> None:
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    if shown.masks is not None:
        ax.contour(shown.masks[row], [0.5], colors="white", linewidths=0.8)


def _agreement(shown: Comparison, name: str) -> str:
    figures = {key: faith.mean(value) for key, value in shown.figures[name].items()}
    words = [] if name == shown.reference else [f"rank r {figures['rank correlation']:.2f}, IoU {figures['IoU']:.2f}"]
    if "energy inside" in figures:
        words.append(f"{100 * figures['energy inside']:.0f} % inside the mask")
    return "\n".join(words or ["the reference"])


def _called(shown: Comparison, label: int) -> str:
    return shown.classes[label].replace(" at ", "\nat ") if len(shown.classes) > label else f"class {label}"


def _short(words: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(words.split(":")[0], 18))
