"""Figures of detectors: where they find evidence for the class of one box.

`box_maps` makes the maps of several detectors for one box; `boxes_figure` draws those of a run.
"""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from famviz.analysis.boxes import box_maps, box_maps_of_run
from famviz.analysis.cam_compare import Comparison
from famviz.figures import style
from famviz.figures.cam import draw_input, draw_map
from famviz.networks import Scene, Source, scenes

__all__ = ["Scene", "box_maps", "box_maps_of_run", "boxes_figure", "scenes"]


@style.styled
def boxes_figure(
    source: Source | Sequence[Comparison], images: int | Sequence[int] = 4, *, root: str = "", **options: Any
) -> Figure:
    """A matplotlib figure with one image in each row: the image with a box, then the map of each detector.

    Each map is drawn on its own range. Beside it are the probability that the detector gives to the box's class, and
    how its map agrees with that of the reference.

    Args:
        source: a detection run, or maps by `box_maps`. Of a run the largest box of the first `images` images that
            show an object, or of those at these positions; `options` go to `box_maps`.
    """
    if isinstance(source, Sequence) and not isinstance(source, str):
        shown = list(source)
    else:
        shown = box_maps_of_run(source, images, root=root, **options)
    names = list(shown[0].results)
    figure = style.figure(2.3 * (1 + len(names)), 1.9 * len(shown) + 0.8)
    axes = figure.subplots(len(shown), 1 + len(names), squeeze=False)
    for row, each in enumerate(shown):
        draw_input(axes[row, 0], each, 0)
        for column, name in enumerate(names, 1):
            result = each.results[name]
            draw_map(axes[row, column], each, result, 0, float(result.maps.max()), True)
            if row == 0:
                axes[row, column].set_title(name, fontsize=9)
            if name != each.reference:
                agreement = each.means(name)[0]["rank correlation"]
                words = axes[row, column].get_xlabel()
                axes[row, column].set_xlabel(f"{words}, rank r {agreement:.2f}", fontsize=7, labelpad=1)
    first = shown[0].results[names[0]]
    figure.suptitle(f"{first.method} at the box's level; each map on its own range: shape only", fontsize=9)
    return figure
