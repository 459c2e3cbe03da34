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
    means = {group: statistics.mean(scores[group].values()) for group in shown}
    for colour, group in zip(cycle(style.LINES), shown):
        x, mean, values = costs[group], means[group], list(scores[group].values())
        ax.plot([x] * len(values), values, ".", color=colour, markersize=4, alpha=0.7)
        ax.plot(x, mean, "_", color=colour, markersize=14, markeredgewidth=1.6)
        name = group if len(values) > 1 else f"{group} (one seed)"
        side = -1 if _has_neighbour(group, costs, means) else 1
        place = {"xy": (x, mean), "xytext": (9 * side, 0), "textcoords": "offset points", "va": "center"}
        ax.annotate(style.literal(name), color=colour, ha="left" if side > 0 else "right", **place)
    ax.margins(x=0.25, y=0.1)
    ax.set(xlabel="time of a training step, in times of the student alone", ylabel=figure_name)
    return figure


def _has_neighbour(group: str, costs: Mapping[str, float], means: Mapping[str, float]) -> bool:
    """Whether another group stands to the right where the name of this one would be."""
    width = max(costs[other] for other in means) - min(costs[other] for other in means)
    height = max(means.values()) - min(means.values())
    return any(
        0 < costs[other] - costs[group] < 0.25 * width and abs(means[other] - means[group]) < 0.06 * height
        for other in means
    )
