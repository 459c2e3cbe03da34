"""The figure of a study: what each method reached, against what its training costs."""

import statistics
from collections.abc import Mapping, Sequence
from itertools import cycle, pairwise

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
    colours = dict(zip(shown, cycle(style.LINES)))
    for group, colour in colours.items():
        x, mean, values = costs[group], means[group], list(scores[group].values())
        ax.plot([x] * len(values), values, ".", color=colour, markersize=4, alpha=0.7)
        ax.plot(x, mean, "_", color=colour, markersize=14, markeredgewidth=1.6)
    ax.margins(x=0.25, y=0.1)
    ax.set(xlabel="time of a training step, in times of the student alone", ylabel=figure_name)
    ax.autoscale_view()  # what is transformed next needs the final range
    left = [group for group in shown if _has_neighbour(group, costs, means)]
    right = [group for group in shown if group not in left]
    for side, groups in ((-1, left), (1, right)):
        shifts = _apart([ax.transData.transform((0, means[group]))[1] * 72 / figure.dpi for group in groups])
        for group, shift in zip(groups, shifts):
            name = group if len(scores[group]) > 1 else f"{group} (one seed)"
            place = {"xytext": (9 * side, shift), "textcoords": "offset points", "ha": "left" if side > 0 else "right"}
            ax.annotate(style.literal(name), (costs[group], means[group]), **place, va="center", color=colours[group])
    return figure


def _apart(heights: Sequence[float], least: float = 11) -> list[float]:
    """How far to move names at these heights, in points, so that each has room for its line of text."""
    moved = list(heights)
    order = sorted(range(len(moved)), key=moved.__getitem__)
    for _ in order:
        for low, high in pairwise(order):
            missing = max(least - (moved[high] - moved[low]), 0)
            moved[low] -= missing / 2
            moved[high] += missing / 2
    return [new - old for new, old in zip(moved, heights)]


def _has_neighbour(group: str, costs: Mapping[str, float], means: Mapping[str, float]) -> bool:
    """Whether another group stands to the right where the name of this one would be."""
    width = max(costs[other] for other in means) - min(costs[other] for other in means)
    height = max(means.values()) - min(means.values())
    return any(
        0 < costs[other] - costs[group] < 0.25 * width and abs(means[other] - means[group]) < 0.06 * height
        for other in means
    )
