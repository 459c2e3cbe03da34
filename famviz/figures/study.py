"""Figures of a study: what each method reached against what its training costs, and what each part of one gains."""

import statistics
from collections.abc import Mapping, Sequence
from itertools import cycle, pairwise

from matplotlib.figure import Figure

from famviz.analysis.studies import Scores, differences
from famviz.figures import style

__all__ = ["cost_figure", "difference_figure"]


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


@style.styled
def difference_figure(results: Mapping[str, Scores], against: str, unit: str = "points of top-1") -> Figure:
    """How far each group is above or below one of them: the mean difference, its interval and that of each seed.

    Differences are paired by seed, with 95 % confidence intervals. Groups of fewer than two common seeds are left out.
    The groups with the largest mean difference are at the top.

    Args:
        results: the scores of one or more studies by the study's name, each with the group `against`.
    """
    tests = {name: differences(scores, against) for name, scores in results.items()}
    groups = {group for found in tests.values() for group in found}
    means = {
        group: statistics.mean(test[group].difference for test in tests.values() if group in test) for group in groups
    }
    order = sorted(groups, key=means.__getitem__)
    figure = style.figure(5.6, 0.7 + 0.24 * len(order))
    ax = figure.subplots()
    ax.axvline(0, color=style.EMPTY, linewidth=0.8)
    for place, (name, scores) in enumerate(results.items()):
        colour, shift = style.LINES[place], 0.3 * ((len(results) - 1) / 2 - place)
        for group, test in tests[name].items():
            row = order.index(group) + shift
            each = [value - scores[against][seed] for seed, value in scores[group].items() if seed in scores[against]]
            ax.plot([test.low, test.high], [row, row], "-", color=colour, linewidth=1)
            ax.plot(each, [row] * len(each), ".", color=colour, markersize=3, alpha=0.6)
            ax.plot(test.difference, row, "o", color=colour, markersize=4.5)
        ax.plot([], [], "o", color=colour, markersize=4.5, label=name)
    ax.set(yticks=range(len(order)), yticklabels=[style.literal(group) for group in order])
    ax.set_xlabel(f"{unit} above {style.literal(against)}")
    ax.margins(y=0.04)
    figure.legend(loc="outside upper right", ncols=len(results))
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
