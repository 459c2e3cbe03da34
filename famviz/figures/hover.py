"""Curves with values to hover over in a notebook, as plotly figures; the same lines as `famviz.plots` draws."""

import html
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from famviz.analysis import filters as values
from famviz.analysis.training import score_names
from famviz.figures import style
from famviz.filter import Filter
from famviz.load import Source, open_all

INK = "#7a7a7a"  # text that is legible on white and on black
FAINT = "rgba(128, 128, 128, 0.3)"
CLEAR = "rgba(0, 0, 0, 0)"
NAMES = {
    "top1": "top-1, %",
    "top5": "top-5, %",
    "val_top1": "top-1 of held-out images, %",
    "val_top5": "top-5 of held-out images, %",
    "AP": "average precision, %",
    "lr": "learning rate",
}


def training_curves(runs: Source | Sequence[Source], figure: str = "") -> go.Figure:
    """One column of the metrics of every run over epochs.

    Args:
        figure: a column of metrics.jsonl, such as `top5`, `task.ce` or `lr`; by default the one that ranks epochs
            (top-1, or average precision).
    """
    plot = _empty("epoch", figure)
    for place, opened in enumerate(open_all(runs)):
        rows = opened.metrics()
        name = figure or next(iter(score_names(rows)), "")
        plot.update_yaxes(title=NAMES.get(name, name))
        shown = [row for row in rows if name in row]
        _line(plot, [row["epoch"] for row in shown], [row[name] for row in shown], opened.name, place)
    return plot


def radial_curves(filters: Sequence[Filter], labels: Sequence[str] = ()) -> go.Figure:
    """Azimuthal mean of the RMS amplitude of each filter against radius, in dB of its largest ring."""
    plot = _empty("radial frequency, fraction of Nyquist", "mean |H|, dB of its peak")
    names = labels or [each.title for each in filters]
    for place, (each, name) in enumerate(zip(filters, names, strict=True)):
        curve = values.profile(each)
        kept = ~np.isnan(curve.decibels)  # rings that the high-pass empties are left out
        _line(plot, curve.radius[kept].tolist(), curve.decibels[kept].tolist(), name, place)
    return plot


def _empty(x: str, y: str) -> go.Figure:
    """A figure without lines and with a clear background, so that the theme of the notebook is seen."""
    axis = {"gridcolor": FAINT, "linecolor": INK, "zeroline": False, "ticks": "outside"}
    layout = {
        "template": "none",
        "height": 320,
        "margin": {"l": 60, "r": 20, "t": 20, "b": 50},
        "font": {"color": INK},
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "hovermode": "x unified",
        "hoverlabel": {"bgcolor": "#ffffff", "font": {"color": "#222222"}, "namelength": -1},
        "xaxis": {"title": x, "hoverformat": ".3~g", **axis},
        "yaxis": {"title": y, "hoverformat": ".4~g", **axis},
        "showlegend": True,
    }
    return go.Figure(layout=layout)


def _line(plot: go.Figure, x: list, y: list, name: str, place: int) -> None:
    colour = style.LINES[place % len(style.LINES)]
    text = html.escape(name).replace("$", "&#36;")  # neither markup nor mathematics
    plot.add_scatter(x=x, y=y, name=text, mode="lines+markers", line={"color": colour, "width": 2})
