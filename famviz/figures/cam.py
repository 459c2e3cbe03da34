"""Class activation maps of teacher and students side by side: how far they agree, and whether they are true.

`cam` makes the maps of one network; `compare` those of several, with figures; `grid_figure` draws.
"""

import textwrap
from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from famviz.analysis import cam_scores as faith
from famviz.analysis.cam import METHODS, CamResult, cam
from famviz.analysis.cam_compare import Comparison, compare, compare_runs
from famviz.figures import style
from famviz.networks import Source

__all__ = ["METHODS", "CamResult", "Comparison", "cam", "compare", "compare_runs", "grid_figure"]

MAP = "inferno"
WRONG = "#b00020"
BARS = {
    "network": "evidence, of the network's largest",
    "shared": "evidence, units of the class score",
    "own": "evidence, of the map's largest",
}
RANGES = {
    "network": "each network on its own range",
    "shared": "one colour range",
    "own": "each map on its own range: shape only",
}


def grid_figure(
    source: Comparison | Source | Sequence[Source], images: int | Sequence[int] = 6, *,
    scale: Literal["network", "shared", "own"] = "network", overlay: bool | None = None, root: str = "", **options,
):  # fmt: skip
    """A matplotlib figure, an image a row: the input, then each network's map, its agreement above.

    Below a map is the probability of its class; in red, with the class that the network takes it for, where it errs.

    Args:
        source: a comparison, a run, or several runs of one teacher; of runs the first `images` test images are shown,
            or those at these positions, and `options` go to `compare`.
        scale: `network` draws each network's maps on a range of their own, whose end is printed above, so that shapes
            compare across networks and strength across images; `shared` draws every map on one range, so that strength
            compares everywhere; `own` each map on its own, so that only shape does.
        overlay: lay maps over the image in grey; by itself where the image has more pixels than the layer.
    """
    shown = source if isinstance(source, Comparison) else compare_runs(source, images, root, **options)
    rows, columns = len(shown.pixels), 1 + len(shown.results)
    figure = style.figure(1.75 * columns + 0.9, 1.62 * rows + 1.5)
    figure.get_layout_engine().set(h_pad=0.08)  # names of classes below the last row may take two lines
    with style.context():
        axes = figure.subplots(rows, columns, squeeze=False)
        axes[0, 0].set_title("input", fontsize=9)
        for row in range(rows):
            _draw_input(axes[row, 0], shown, row)
        for column, (name, result) in enumerate(shown.results.items(), 1):
            over = result.evidence.shape[1] < shown.pixels.shape[1] if overlay is None else overlay
            for row in range(rows):
                _draw_map(axes[row, column], shown, result, row, _highest(shown, result, row, scale), over)
            heading = f"{name}\n{_agreement(shown, name)}"
            if scale == "network":
                heading += f"\nrange 0 to {result.maps.max():.3g}"
            axes[0, column].set_title(heading, fontsize=8)
        top = shown.highest if scale == "shared" else 1.0
        bar = figure.colorbar(ScalarMappable(Normalize(0, top or 1.0), MAP), ax=axes[:, 1:], shrink=0.6, pad=0.01)
        bar.set_label(BARS[scale])
        bar.outline.set_visible(False)
        figure.suptitle(_title(shown, scale), fontsize=9)
    return figure


def _title(shown: Comparison, scale: str) -> str:
    first = shown.results[shown.reference]
    layers = ", ".join(sorted({result.layer for result in shown.results.values()}))
    count = len(shown.pixels)
    images = f"mean of the {count} images shown" if count > 1 else "of the one image shown"
    return (
        f"{first.method} at {layers}; {RANGES[scale]}; p: probability of the class\n{images} (in brackets: by chance)"
    )


def _highest(shown: Comparison, result: CamResult, row: int, scale: str) -> float:
    """Upper end of a map's colour range."""
    return {"network": float(result.maps.max()), "shared": shown.highest, "own": float(result.maps[row].max())}[scale]


def _draw_input(ax, shown: Comparison, row: int) -> None:
    ax.imshow(shown.pixels[row])
    _outline(ax, shown, row)
    label = next(iter(shown.results.values())).classes[row] if shown.labels is None else shown.labels[row]
    ax.set_ylabel(_called(shown, label), fontsize=8)


def _draw_map(ax, shown: Comparison, result: CamResult, row: int, highest: float, over: bool) -> None:
    """A map, over its image where asked for: strong evidence covers the image, none leaves it as it is."""
    values, opacity = result.maps[row], None
    if over:
        ax.imshow(shown.pixels[row].mean(-1), cmap="gray", vmin=0, vmax=255)
        opacity = np.clip(0.25 + 0.75 * values / (highest or 1.0), 0, 0.85)
    ax.imshow(values, cmap=MAP, vmin=0, vmax=highest or 1.0, alpha=opacity)
    _outline(ax, shown, row)
    if result.words[row]:
        ax.text(0.5, 0.5, "nothing to show:\n" + _short(result.words[row]), fontsize=6, color="white", ha="center",
                va="center", transform=ax.transAxes, bbox={"facecolor": "black", "alpha": 0.6, "lw": 0})  # fmt: skip
    wrong = shown.labels is not None and result.predicted[row] != shown.labels[row]
    says = f", says {_called(shown, result.predicted[row], ' ')}" if wrong else ""
    words = "\n".join(textwrap.wrap(f"p {result.confidence[row]:.2f}{says}", 26))
    ax.set_xlabel(words, fontsize=7, labelpad=1, color=WRONG if wrong else "black")


def _outline(ax, shown: Comparison, row: int) -> None:
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    if shown.masks is not None:
        ax.contour(shown.masks[row], [0.5], colors="white", linewidths=0.8)


def _agreement(shown: Comparison, name: str) -> str:
    figures, chance = ({key: faith.mean(v) for key, v in each[name].items()} for each in (shown.figures, shown.chance))
    words = ["the reference"]
    if name != shown.reference:
        named = {"rank r": "rank correlation", "IoU": "IoU"}
        words = [f"{called} {figures[key]:.2f} ({chance[key]:.2f})" for called, key in named.items()]
    if "energy inside" in figures:
        words.append(f"{100 * figures['energy inside']:.0f} % ({100 * chance['energy inside']:.0f} %) inside the mask")
    return "\n".join(words)


def _called(shown: Comparison, label: int, between: str = "\n") -> str:
    if len(shown.classes) <= label:
        return f"class {label}"
    return shown.classes[label].replace("_", " ").replace(" at ", f"{between}at ")


def _short(words: str) -> str:
    return "\n".join(textwrap.wrap(words.split(":")[0], 18))
