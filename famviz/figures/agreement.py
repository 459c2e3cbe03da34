"""Figures of what networks predict on the same images, from what `famviz.compare_networks` returns."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from famviz.analysis.network_comparison import NetworkComparison
from famviz.analysis.predictions import Confusion, called
from famviz.analysis.similarity import Similarity
from famviz.figures import style

MOST_CLASSES = 40  # that a picture of a confusion can name; of more, the most frequent confusions are listed
MOST_PAIRS = 15
RIGHT, WRONG = style.LINES[0], style.LINES[5]

__all__ = ["calibration_figure", "cka_figure", "confusion_figure", "embedding_figure"]


@style.styled
def calibration_figure(shown: NetworkComparison) -> Figure:
    """How often each network is right when it says that it is so sure, and below how sure it is how often."""
    figure = style.figure(3.6, 3.6)
    curve, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    curve.plot([0, 1], [0, 1], color=style.EMPTY, lw=0.8)
    for colour, name in zip(_colours(shown.names), shown.names):
        found = shown.calibration(name)
        label = style.literal(f"{name}: error {found.error:.3f}")
        line = {"color": colour, "lw": 1.4, "marker": "o", "markersize": 3}
        filled = found.counts > 0
        curve.plot(found.confidence[filled], found.accuracy[filled], label=label, **line)
        counts.stairs(found.counts, found.edges, color=colour)
    curve.set(ylabel="share that is right", ylim=(0, 1.02), title=f"calibration, {len(shown)} images")
    curve.legend(loc="upper left")
    counts.set(xlabel="probability of the predicted class", ylabel="images", xlim=(0, 1))
    return figure


@style.styled
def confusion_figure(confusion: Confusion) -> Figure:
    """Counts of every pair of classes; of more than 40 classes only the most frequent confusions, as bars."""
    present = np.flatnonzero(confusion.counts.sum(0) + confusion.counts.sum(1))
    if len(present) > MOST_CLASSES:
        return _pairs_figure(confusion)
    names = [style.literal(called(confusion.classes, int(at))) for at in present]
    side = 1.6 + 0.2 * len(present)
    figure = style.figure(side + 0.6, side)
    ax = figure.subplots()
    values = confusion.counts[np.ix_(present, present)]
    image = ax.imshow(values, cmap="Blues", vmin=0)
    ticks = range(len(present))
    ax.set_xticks(ticks, names, rotation=90)
    ax.set_yticks(ticks, names)
    ax.set(xlabel=style.literal(confusion.across), ylabel=style.literal(confusion.down))
    middle = values.max() / 2
    for i, j in zip(*np.nonzero(values)):
        ax.text(
            j, i, str(values[i, j]), ha="center", va="center", fontsize=6, color="w" if values[i, j] > middle else "k"
        )
    style.with_bar(ax, image, "images")
    return figure


def _pairs_figure(confusion: Confusion) -> Figure:
    rows = confusion.rows()[:MOST_PAIRS]
    figure = style.figure(5, 0.8 + 0.18 * max(1, len(rows)))
    ax = figure.subplots()
    names = [style.literal(f"{row[confusion.down]}, not {row[confusion.across]}") for row in rows]
    if confusion.down == "true class":
        names = [style.literal(f"{row[confusion.down]} taken for {row[confusion.across]}") for row in rows]
    ax.barh(range(len(rows)), [int(str(row["images"])) for row in rows], color=style.LINES[0])
    ax.set_yticks(range(len(rows)), names)
    ax.invert_yaxis()
    style.whole_ticks(ax)
    ax.set_yticks(range(len(rows)), names)
    ax.set(xlabel="images", title=style.literal(f"{confusion.down} and {confusion.across}: most frequent confusions"))
    return figure


@style.styled
def cka_figure(similarity: Similarity) -> Figure:
    """CKA between every stage of two networks."""
    rows, columns = similarity.values.shape
    figure = style.figure(1.9 + 0.45 * columns, 1.3 + 0.45 * rows)
    ax = figure.subplots()
    image = ax.imshow(similarity.values, cmap=style.ENERGY, vmin=0, vmax=1, origin="lower")
    ax.set_xticks(range(columns), similarity.stages[1], rotation=45, ha="right")
    ax.set_yticks(range(rows), similarity.stages[0])
    ax.set(xlabel=style.literal(similarity.other), ylabel=style.literal(similarity.one))
    for i, j in np.ndindex(rows, columns):
        value = similarity.values[i, j]
        ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=6, color="w" if value < 0.6 else "k")
    ax.set_title(f"CKA, {similarity.images} images")
    style.with_bar(ax, image, "CKA")
    return figure


@style.styled
def embedding_figure(shown: NetworkComparison) -> Figure:
    """The images in the plane of each network's embedding: blue where it is right, red where it is wrong.

    Without labels they are blue where the network agrees with the reference.
    """
    found, answers = shown.embedding(), {name: each.logits.argmax(1) for name, each in shown.answers.items()}
    truth = answers[shown.reference] if shown.labels is None else shown.labels
    figure = style.figure(2.4 * len(found) + 0.4, 2.7)
    axes = np.atleast_1d(figure.subplots(1, len(found), sharex=True, sharey=True))
    for ax, (name, points) in zip(axes, found.items()):
        _draw_points(ax, points, answers[name] == truth)
        share = np.mean(answers[name] == truth)
        words = "right" if shown.labels is not None else f"as {shown.reference}"
        ax.set_title(style.literal(f"{name}: {style.percent(float(share))} {words}"))
        ax.set_xlabel("first principal component")
    axes[0].set_ylabel("second principal component")
    return figure


def _draw_points(ax: Axes, points: np.ndarray, right: np.ndarray) -> None:
    ax.scatter(*points[right].T, s=8, color=RIGHT, alpha=0.6, lw=0)
    ax.scatter(*points[~right].T, s=12, color=WRONG, marker="x", lw=1)


def _colours(names: Sequence[str]) -> list[str]:
    """The reference is black, as in the figures of amplitudes."""
    return ["#000000", *style.LINES][: len(names)]
