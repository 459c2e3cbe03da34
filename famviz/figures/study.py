"""The figure of a study: what each method reached, against what its training costs."""

import statistics
from collections.abc import Mapping
from itertools import cycle

from matplotlib.figure import Figure

from famviz.analysis.studies import Scores
from famviz.figures import style

__all__ = ["cost_figure"]


@style.styled
def cost_figure(scores: Scores, costs: Mapping[str, float], figure_name: str = "top-1 %") -> Figure:
    """The accuracy of each group against the cost of a training step: a dot for each seed, a line at their mean.

    Groups without a cost are left out.

    Args:
        costs: of each group, in times of a step of the student alone.
    """
    figure = style.figure(4.6, 3.0)
    ax = figure.subplots()
    shown = sorted((group for group in scores if group in costs), key=lambda group: costs[group])
    for colour, group in zip(cycle(style.LINES), shown):
        x, values = costs[group], list(scores[group].values())
        mean = statistics.mean(values)
        ax.plot([x] * len(values), values, ".", color=colour, markersize=4, alpha=0.7)
        ax.plot(x, mean, "_", color=colour, markersize=14, markeredgewidth=1.6)
        name = group if len(values) > 1 else f"{group} (one seed)"
        ax.annotate(
            style.literal(name), (x, mean), xytext=(9, 0), textcoords="offset points", va="center", color=colour
        )
    ax.margins(x=0.25, y=0.1)
    ax.set(xlabel="time of a training step, in times of the student alone", ylabel=figure_name)
    return figure
