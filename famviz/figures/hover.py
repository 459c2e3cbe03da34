"""Curves to hover over in a notebook, as plotly figures; the same lines as `famviz.figures.plots` draws for a paper."""

import html
from collections.abc import Sequence

import plotly.graph_objects as go

from famviz import spectra
from famviz.figures import style
from famviz.load import Filter, LoadedRun

FLOOR = -60.0  # dB
INK, FAINT = "#7a7a7a", "rgba(128, 128, 128, 0.3)"  # text that is read on white and on black alike, and lines
NAMES = {"top1": "top-1, %", "top5": "top-5, %", "AP": "average precision, %", "lr": "learning rate"}


def training_curves(runs: LoadedRun | Sequence[LoadedRun], figure: str = "") -> go.Figure:
    """One figure of every run over epochs, by itself the one that ranks them (top-1, or average precision).

    Args:
        figure: a column of metrics.jsonl, such as `top5`, `task.ce` or `lr`.
    """
    runs = [runs] if isinstance(runs, LoadedRun) else list(runs)
    plot = _empty("epoch", figure)
    for place, opened in enumerate(runs):
        rows = opened.run.metrics() if opened.run else []
        name = figure or next((key for key in (rows[0] if rows else {}) if "." not in key and key != "epoch"), "")
        plot.update_yaxes(title=NAMES.get(name, name))
        shown = [row for row in rows if name in row]
        _line(plot, [row["epoch"] for row in shown], [row[name] for row in shown], opened.name, place)
    return plot


def radial_curves(filters: Sequence[Filter], labels: Sequence[str] = ()) -> go.Figure:
    """Azimuthal mean of each filter's RMS amplitude against radius, in dB of its own largest ring."""
    plot = _empty("radial frequency, fraction of Nyquist", "mean |H|, dB of its peak")
    for place, (each, label) in enumerate(zip(filters, labels or [f.title for f in filters], strict=True)):
        rings, mean = spectra.radial_profile(spectra.full_plane(each.amplitude(), each.size[1]))
        curve = spectra.decibel(mean, mean.max(), FLOOR)
        kept = curve > FLOOR  # rings that the high-pass empties
        _line(plot, (rings / max(1, rings[-1]))[kept].tolist(), curve[kept].tolist(), label, place)
    return plot


def _empty(x: str, y: str) -> go.Figure:
    clear, line = "rgba(0, 0, 0, 0)", {"gridcolor": FAINT, "linecolor": INK, "zeroline": False, "ticks": "outside"}
    return go.Figure(layout={
        "template": "none", "height": 320, "margin": {"l": 60, "r": 20, "t": 20, "b": 50}, "font": {"color": INK},
        "paper_bgcolor": clear, "plot_bgcolor": clear,  # the notebook's own theme shines through
        "hoverlabel": {"bgcolor": "#ffffff", "font": {"color": "#222222"}, "namelength": -1}, "hovermode": "x unified",
        "xaxis": {"title": x, "hoverformat": ".3~g", **line}, "yaxis": {"title": y, "hoverformat": ".4~g", **line},
        "showlegend": True,
    })  # fmt: skip


def _line(plot: go.Figure, x: list, y: list, name: str, place: int) -> None:
    colour = style.LINES[place % len(style.LINES)]
    name = html.escape(name).replace("$", "&#36;")  # neither markup nor mathematics
    plot.add_scatter(x=x, y=y, name=name, mode="lines+markers", line={"color": colour, "width": 2})
