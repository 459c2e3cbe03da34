"""One look for every figure: readable when small, safe for colour-blind readers, the same in print and on screen."""

import functools
import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

AMPLITUDE, SIGNED, PHASE, ENERGY = "cividis", "RdBu_r", "twilight", "viridis"
LINES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")  # Okabe and Ito
MUTED, EMPTY = "#555555", "0.6"  # EMPTY: where there is nothing to colour
FORMATS = ("png", "svg", "pdf")
RULES = {
    "font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7,
    "legend.fontsize": 7, "legend.frameon": False, "axes.linewidth": 0.6, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": False, "lines.linewidth": 1.4, "image.interpolation": "nearest",
    "image.origin": "upper", "figure.dpi": 110, "savefig.dpi": 200, "svg.fonttype": "none",
    "svg.hashsalt": "famviz", "pdf.fonttype": 42, "axes.prop_cycle": matplotlib.cycler(color=LINES),
}  # fmt: skip


def context() -> AbstractContextManager:
    """The style for as long as a `with` block lasts."""
    return matplotlib.rc_context(RULES)


def styled(draw: Callable) -> Callable:
    """A drawing function that draws in the style."""

    @functools.wraps(draw)
    def wrapped(*args, **kwargs):
        with context():
            return draw(*args, **kwargs)

    return wrapped


class Panel(Axes):
    """Axes that a notebook shows as the picture they are part of, and whose title and legend keep the style."""

    set_title = styled(Axes.set_title)
    legend = styled(Axes.legend)

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        return _shown(self)


class Sheet(Figure):
    """A figure that a notebook shows by itself, with or without pyplot."""

    def add_subplot(self, *args, **options) -> Axes:
        if not options.get("projection") and not any(isinstance(arg, Axes) for arg in args):
            options.setdefault("axes_class", Panel)
        with context():
            return super().add_subplot(*args, **options)

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        return _shown(self)


def figure(width: float = 3.4, height: float = 2.6) -> Figure:
    """A figure in inches that belongs to nobody's pyplot; 3.4 is the column of a paper."""
    with context():
        return Sheet(figsize=(width, height), layout="constrained")


def to_bytes(thing, form: str = "png") -> bytes:
    """An axes' or figure's picture as png, svg or pdf, without a time stamp."""
    buffer = io.BytesIO()
    dated = {"png": {}, "svg": dict.fromkeys(("Date", "Creator", "Format", "Type")), "pdf": {"CreationDate": None}}[
        form
    ]
    with context():
        figure_of(thing).savefig(buffer, format=form, metadata=dated)
    return buffer.getvalue()


def save(thing, path: str | Path, forms: tuple[str, ...] = ()) -> list[Path]:
    """Write a figure by its ending, or in each of `forms` beside one another; returns what was written."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    places = [path.with_suffix(f".{form}") for form in forms] or [path]
    for place in places:
        place.write_bytes(to_bytes(thing, place.suffix.removeprefix(".")))
    return places


def _shown(thing) -> tuple[bytes, dict[str, int]]:
    """A picture and how wide to show it: text of every figure has one size, and a sharp screen has pixels to spare."""
    return to_bytes(thing), {"width": round(figure_of(thing).get_figwidth() * RULES["figure.dpi"])}


def figure_of(thing) -> Figure:
    """The whole figure of a figure, of axes, or of an array of axes."""
    return thing if isinstance(thing, Figure) else np.ravel(thing)[0].get_figure(root=True)


def axes(ax: Axes | None) -> Axes:
    """The axes that were given, or new ones in a figure of their own."""
    return figure().subplots() if ax is None else ax


def whole_ticks(ax: Axes) -> None:
    """Whole numbers along both axes: there is no channel, epoch or frequency between two."""
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def with_bar(ax: Axes, image, label: str, wanted: bool = True, ticks: tuple | None = None) -> Axes:
    """The axes, with a colour bar for their picture where one is wanted."""
    if wanted:
        bar = ax.figure.colorbar(image, ax=ax, fraction=0.046, pad=0.03)
        bar.set_label(label)
        bar.outline.set_visible(False)
        if ticks:
            bar.set_ticks(ticks[0], labels=ticks[1])
    return ax


def literal(name: str) -> str:
    """A name as a figure shows it: a dollar sign is no mathematics."""
    return name.replace("$", r"\$")


def percent(share: float) -> str:
    """A share 0..1 in words that never round something to nothing, or nearly all to all."""
    small = min(share, 1 - share)
    if 0 < small < 1e-5:
        return "< 0.001 %" if share < 0.5 else "> 99.999 %"
    return f"{100 * share:.{3 if 0 < small < 0.01 else 0}f} %"
