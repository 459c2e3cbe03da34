"""The style of every figure: readable when small, safe for colour-blind readers, the same in print and on screen."""

import functools
import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

AMPLITUDE, SIGNED, PHASE, ENERGY = "cividis", "RdBu_r", "twilight", "viridis"
LINES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")  # Okabe and Ito
EMPTY = "0.6"  # grey, for places without a value
FORMATS = ("png", "svg", "pdf")
METADATA: dict[str, dict[str, Any]] = {  # no time stamp, so that the same figure is the same bytes
    "png": {},
    "svg": dict.fromkeys(("Date", "Creator", "Format", "Type")),
    "pdf": {"CreationDate": None},
}
RULES: dict[Any, Any] = {
    "font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7,
    "legend.fontsize": 7, "legend.frameon": False, "axes.linewidth": 0.6, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": False, "lines.linewidth": 1.4, "image.interpolation": "nearest",
    "image.origin": "upper", "figure.dpi": 110, "savefig.dpi": 200, "svg.fonttype": "none",
    "svg.hashsalt": "famviz", "pdf.fonttype": 42, "axes.prop_cycle": cycler(color=LINES),
}  # fmt: skip


def context() -> AbstractContextManager:
    """The style, inside a `with` block."""
    return matplotlib.rc_context(RULES)


def styled(draw: Callable) -> Callable:
    """Decorator of a function that draws in the style."""

    @functools.wraps(draw)
    def wrapped(*args, **kwargs):
        with context():
            return draw(*args, **kwargs)

    return wrapped


class Panel(Axes):
    """Axes that a notebook shows as the figure that they are part of; their title and legend keep the style."""

    set_title = styled(Axes.set_title)
    legend = styled(Axes.legend)

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        return _shown(self)


class Sheet(Figure):
    """A figure that a notebook shows without pyplot."""

    def add_subplot(self, *args, **options) -> Axes:
        if not options.get("projection") and not any(isinstance(arg, Axes) for arg in args):
            options.setdefault("axes_class", Panel)
        with context():
            return super().add_subplot(*args, **options)

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        return _shown(self)


def figure(width: float = 3.4, height: float = 2.6) -> Figure:
    """A figure, its size in inches, that pyplot does not keep; 3.4 is the width of a column in a paper."""
    with context():
        return Sheet(figsize=(width, height), layout="constrained")


def pad(figure: Figure, w_pad: float | None = None, h_pad: float | None = None) -> None:
    """Set the space to the sides of the axes of a figure, and above and below them, in inches."""
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(w_pad=w_pad, h_pad=h_pad)


def to_bytes(thing, form: str = "png") -> bytes:
    """A figure, or the figure of axes, as the bytes of a png, svg or pdf file."""
    buffer = io.BytesIO()
    with context():
        figure_of(thing).savefig(buffer, format=form, metadata=METADATA[form])
    return buffer.getvalue()


def save(thing, path: str | Path, forms: tuple[str, ...] = ()) -> list[Path]:
    """Write a figure in the format of the file's suffix, or in each of `forms`; returns the paths of the files."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    paths = [path.with_suffix(f".{form}") for form in forms] or [path]
    for each in paths:
        each.write_bytes(to_bytes(thing, each.suffix.removeprefix(".")))
    return paths


def _shown(thing) -> tuple[bytes, dict[str, int]]:
    """A picture and the width to show it at, so that the text of every figure has one size on the screen."""
    return to_bytes(thing), {"width": round(figure_of(thing).get_figwidth() * RULES["figure.dpi"])}


def figure_of(thing) -> Figure:
    """The whole figure of a figure, of axes, or of an array of axes."""
    if isinstance(thing, Figure):
        return thing
    return np.ravel(thing)[0].get_figure(root=True)


def axes(ax: Axes | None) -> Axes:
    """The given axes, or new ones in a figure of their own."""
    return figure().subplots() if ax is None else ax


def whole_ticks(ax: Axes) -> None:
    """Whole numbers along both axes: there is no channel, epoch or frequency between them."""
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def with_bar(ax: Axes, image, label: str, wanted: bool = True, ticks: tuple | None = None) -> Axes:
    """The axes, with a colour bar for their picture if one is wanted."""
    if wanted:
        bar = ax.figure.colorbar(image, ax=ax, fraction=0.046, pad=0.03)
        bar.set_label(label)
        bar.outline.set_visible(False)
        if ticks:
            bar.set_ticks(ticks[0], labels=ticks[1])
    return ax


def literal(name: str) -> str:
    """A name, escaped so that matplotlib does not read a dollar sign as mathematics."""
    return name.replace("$", r"\$")


def percent(share: float) -> str:
    """A share 0..1 as a percentage that is never rounded to 0 or 100 unless it is."""
    small = min(share, 1 - share)
    if 0 < small < 1e-5:
        return "< 0.001 %" if share < 0.5 else "> 99.999 %"
    digits = 3 if 0 < small < 0.01 else 0
    return f"{100 * share:.{digits}f} %"
