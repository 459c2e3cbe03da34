"""The figure of a dashboard: curves of runs, and below them how the filters of each level formed."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from famviz.figures import style
from famviz.figures.curves import filter_life, training_curves
from famviz.figures.filters import filter_amplitude
from famviz.load import Source, open_all

WIDTH = 7.4  # inches


@style.styled
def progress_figure(runs: Source | Sequence[Source]) -> Figure:
    """Losses and accuracy of runs, then a row for each level of each run: its RMS amplitude now, and its history."""
    opened = open_all(runs)
    levels = [(run, each) for run in opened for each in run.filters if run.history(each, 2)[0]]
    below = 0.17 * len(opened) if len(opened) > 1 else 0
    heights = [2.5 + below, *(2.2 for _ in levels)]
    figure = style.figure(WIDTH, sum(heights))
    axes = figure.subplots(len(heights), 2, squeeze=False, height_ratios=heights)
    training_curves(opened, axes[0])
    for row, (run, each) in zip(axes[1:], levels):
        prefix = f"{style.literal(run.name)}\n" if len(opened) > 1 else ""
        filter_amplitude(each, ax=row[0], reference=float(each.amplitude().max()) or None)
        row[0].set_title(f"{prefix}{each.title}: all filters")
        filter_life(run, each.path, row[1])
    return figure
