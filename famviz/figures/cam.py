"""Figures of class activation maps: teacher and students next to each other.

`cam` makes the maps of one network; `compare` those of several, with figures; `grid_figure` draws. `randomisation`
makes those of one network while its weights are randomised; `sanity_figure` draws.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from famkd.errors import UserError
from famviz.analysis import cam_scores
from famviz.analysis.cam import METHODS, ROLLOUT, CamResult, cam
from famviz.analysis.cam_compare import Comparison, compare
from famviz.analysis.cam_sanity import Sanity, randomisation
from famviz.analysis.compare_networks import Sources, compare_runs
from famviz.analysis.network_comparison import NetworkComparison
from famviz.analysis.predictions import called
from famviz.figures import style
from famviz.figures.axes import bare

__all__ = [
    "METHODS", "ROLLOUT", "CamResult", "Comparison", "Sanity", "cam", "compare", "compare_runs", "grid_figure",
    "layers_figure", "randomisation", "sanity_figure",
]  # fmt: skip

Scale = Literal["network", "shared", "own"]
MAP = "inferno"
WRONG = "#b00020"
LETTERS = 13  # of a title in an inch
NAME = 22  # letters of a line of a network's name
BARS = {
    "network": "evidence, as a share of the network's largest",
    "shared": "evidence, units of the class score",
    "own": "evidence, as a share of the map's largest",
}
RANGES = {
    "network": "each network on its own range",
    "shared": "one colour range",
    "own": "each map on its own range: shape only",
}


@style.styled
def grid_figure(
    source: Comparison | Sources, images: int | Sequence[int] = 6, *,
    scale: Scale = "network", overlay: bool | None = None, root: str = "", **options: Any,
) -> Figure:  # fmt: skip
    """A matplotlib figure with one image in each row: the input, then the map of each network.

    Above a map is its agreement with the reference. Below it is the probability of its class; in red, with the class
    that the network predicts, where that is wrong.

    Args:
        source: maps by `compare`, a run, several runs of one teacher, or what `compare_networks` returned. Of these
            the first `images` images are shown, or those at these positions, and `options` go to `compare`.
        scale: `network` draws the maps of each network on a range of their own, whose end is printed above, so that
            shapes compare across networks and strength across images; `shared` draws every map on one range, so that
            strength compares everywhere; `own` draws each map on its own range, so that only shapes compare.
        overlay: whether to lay maps over the image in grey; by default if the image has more pixels than the layer.
    """
    shown = source if isinstance(source, Comparison) else _maps_of(source, images, root, options)
    rows, columns = len(shown.pixels), 1 + len(shown.results)
    figure = style.figure(1.75 * columns + 0.9, 1.62 * rows + 1.5)
    style.pad(figure, h_pad=0.08)  # names of classes below the last row may take two lines
    axes = figure.subplots(rows, columns, squeeze=False)
    axes[0, 0].set_title("input", fontsize=9)
    for row in range(rows):
        draw_input(axes[row, 0], shown, row)
    for column, name in enumerate(shown.results, 1):
        _draw_column(list(axes[:, column]), shown, name, scale, overlay)
    _draw_bar(figure, axes[:, 1:], shown, scale)
    figure.suptitle(_title(shown, scale, figure.get_figwidth()), fontsize=9)
    return figure


def _maps_of(source: Sources, images: int | Sequence[int], root: str, options: dict[str, Any]) -> Comparison:
    if isinstance(source, NetworkComparison):
        return source.cams(images, **options)
    if isinstance(source, Mapping):
        raise UserError("Networks by name need images: pass compare_networks(networks, images).")
    return compare_runs(source, images, root, **options)


@style.styled
def sanity_figure(sanity: Sanity, images: int = 4) -> Figure:
    """A matplotlib figure with one image in each row: the map of the trained network, then of each random step.

    Each map is drawn on its own range, because only shapes compare. Above a column is its rank correlation with the
    maps of the trained network, mean of all images.
    """
    shown = {"trained": sanity.trained} | {f"{name} random": result for name, result in sanity.randomised.items()}
    rows = min(images, len(sanity.trained.maps))
    figure = style.figure(1.6 * len(shown), 1.6 * rows + 0.9)
    axes = figure.subplots(rows, len(shown), squeeze=False)
    for column, (name, result) in enumerate(shown.items()):
        words = name
        if result is not sanity.trained:
            similar = cam_scores.rank_correlation(result.maps, sanity.trained.maps)
            words += f"\nrank r {cam_scores.mean(similar):.2f}"
        axes[0, column].set_title(words, fontsize=7)
        for row in range(rows):
            axes[row, column].imshow(result.maps[row], cmap=MAP)
            bare(axes[row, column])
    title = f"{sanity.trained.method} at {sanity.trained.layer}; {RANGES['own']}"
    figure.suptitle(title, fontsize=9)
    return figure


@style.styled
def layers_figure(found: Mapping[str, CamResult], pixels: np.ndarray, mask: np.ndarray | None = None) -> Figure:
    """A matplotlib figure of the first image: the input, then its map at each layer, each on a range of its own.

    Args:
        found: maps by layer, as `famviz.analysis.cam_tables.by_layer` returns them.
        pixels: the image (H, W, 3) uint8.
        mask: (H, W) bool, to outline.
    """
    figure = style.figure(1.2 + 2 * len(found), 2.4)
    axes = figure.subplots(1, 1 + len(found))
    axes[0].imshow(pixels)
    axes[0].set_title("input")
    for ax, (layer, result) in zip(axes[1:], found.items()):
        figure.colorbar(ax.imshow(result.maps[0], cmap=MAP), ax=ax, shrink=0.7)
        ax.set_title(f"{layer}, {' x '.join(map(str, result.evidence.shape[1:]))}")
    for ax in axes:
        bare(ax)
        if mask is not None:
            ax.contour(mask, [0.5], colors="white", linewidths=1)
    return figure


def _draw_column(axes: Sequence[Axes], shown: Comparison, name: str, scale: Scale, overlay: bool | None) -> None:
    """The maps of one network."""
    result = shown.results[name]
    coarse = result.evidence.shape[1] < shown.pixels.shape[1]
    over = coarse if overlay is None else overlay
    for row, ax in enumerate(axes):
        draw_map(ax, shown, result, row, _highest(shown, result, row, scale), over)
    heading = f"{textwrap.fill(name, NAME)}\n{_agreement(shown, name)}"
    if scale == "network":
        heading += f"\nrange 0 to {result.maps.max():.3g}"
    axes[0].set_title(heading, fontsize=8)


def _draw_bar(figure: Figure, axes: np.ndarray, shown: Comparison, scale: Scale) -> None:
    top = shown.highest if scale == "shared" else 1.0
    colours = ScalarMappable(Normalize(0, top or 1.0), MAP)
    bar = figure.colorbar(colours, ax=axes, shrink=0.6, pad=0.02)
    bar.set_label(BARS[scale])
    bar.outline.set_visible(False)


def _title(shown: Comparison, scale: Scale, width: float) -> str:
    """What the figure shows, in lines that a figure of `width` inches has room for."""
    method = ", ".join(dict.fromkeys(result.method for result in shown.results.values()))
    layers = ", ".join(sorted({result.layer for result in shown.results.values()}))
    count = len(shown.pixels)
    images = f"mean of the {count} images shown (in brackets: by chance)" if count > 1 else "of the one image shown"
    lines = [f"{method} at {layers}; {RANGES[scale]}; p: probability of the class", images]
    most = max(20, int(LETTERS * width))
    return "\n".join(each for line in lines for each in textwrap.wrap(line, most))


def _highest(shown: Comparison, result: CamResult, row: int, scale: Scale) -> float:
    """Upper end of the colour range of a map."""
    if scale == "shared":
        return shown.highest
    return float(result.maps.max() if scale == "network" else result.maps[row].max())


def draw_input(ax: Axes, shown: Comparison, row: int) -> None:
    """An image, with its mask outlined and its class beside it; without labels, the class that its maps are of."""
    ax.imshow(shown.pixels[row])
    _outline(ax, shown, row)
    first = next(iter(shown.results.values()))
    labels, title = (first.classes, "evidence for\n") if shown.labels is None else (shown.labels, "")
    ax.set_ylabel(title + _called(shown, labels[row]), fontsize=8)


def draw_map(ax: Axes, shown: Comparison, result: CamResult, row: int, highest: float, over: bool) -> None:
    """A map, over its image if asked for: strong evidence covers the image, none leaves it as it is."""
    values = result.maps[row]
    highest = highest or 1.0
    opacity = None
    if over:
        ax.imshow(shown.pixels[row].mean(-1), cmap="gray", vmin=0, vmax=255)
        opacity = np.clip(0.25 + 0.75 * values / highest, 0, 0.85)
    ax.imshow(values, cmap=MAP, vmin=0, vmax=highest, alpha=opacity)
    _outline(ax, shown, row)
    if result.why_empty[row]:
        words = "nothing to show:\n" + _short(result.why_empty[row])
        dark = {"facecolor": "black", "alpha": 0.6, "lw": 0}
        ax.text(0.5, 0.5, words, fontsize=6, color="white", ha="center", va="center", transform=ax.transAxes, bbox=dark)
    wrong = shown.labels is not None and result.predicted[row] != shown.labels[row]
    words = f"p {result.confidence[row]:.2f}"
    if wrong:
        words += f", says {_called(shown, result.predicted[row], ' ')}"
    below = "\n".join(textwrap.wrap(words, 26))
    ax.set_xlabel(below, fontsize=7, labelpad=1, color=WRONG if wrong else "black")


def _outline(ax: Axes, shown: Comparison, row: int) -> None:
    bare(ax)
    if shown.masks is not None:
        ax.contour(shown.masks[row], [0.5], colors="white", linewidths=0.8)


def _agreement(shown: Comparison, name: str) -> str:
    """Agreement with the reference, with that by chance in brackets."""
    figures, chance = shown.means(name)
    words = ["the reference"]
    if name != shown.reference:
        names = {"rank correlation": "rank r", "IoU": "IoU"}
        words = [f"{short} {figures[key]:.2f}{_by_chance(chance[key])}" for key, short in names.items()]
    if "head random" in figures:
        words.append(f"random head r {figures['head random']:.2f}, all {figures['all random']:.2f}")
    if "energy inside" in figures:
        inside, area = 100 * figures["energy inside"], 100 * chance["energy inside"]
        words.append(f"{inside:.0f} % ({area:.0f} %) inside the mask")
    return "\n".join(words)


def _called(shown: Comparison, label: int, between: str = "\n") -> str:
    """The name of a class, on two lines if it has a place as in bands: "vertical at 3"."""
    return called(shown.classes, label).replace("_", " ").replace(" at ", f"{between}at ")


def _short(words: str) -> str:
    return "\n".join(textwrap.wrap(words.split(":")[0], 18))


def _by_chance(value: float) -> str:
    """A figure by chance in brackets; nothing of a single image, which cannot be compared with another one."""
    return "" if np.isnan(value) else f" ({value:.2f})"
