"""Class activation maps of the networks of a run, whatever its task."""

from typing import Any

from matplotlib.figure import Figure

from famviz.figures.boxes import boxes_figure
from famviz.figures.cam import grid_figure
from famviz.networks import Source, has_boxes


def maps_figure(source: Source, images: int = 4, **options: Any) -> Figure:
    """`boxes_figure` of a detection run, `grid_figure` of a run of classification."""
    return boxes_figure(source, images, **options) if has_boxes(source) else grid_figure(source, images, **options)
