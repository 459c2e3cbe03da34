"""Extents and axes of centred planes, and of curves over rings of equal frequency."""

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from famviz.analysis.filters import highpass_edges
from famviz.figures import style
from famviz.filter import Filter

HIGHPASS = "#ff5d5d"  # colour of the outline of the high-pass
Extent = tuple[float, float, float, float]  # left, right, bottom, top


def extent(size: tuple[int, ...]) -> Extent:
    """Edges of the bins of a centred plane (H, W), rows downwards."""
    height, width = size
    left, top = -(width // 2) - 0.5, -(height // 2) - 0.5
    return left, left + width, top + height, top


def frequency_axes(ax: Axes, each: Filter, title: str) -> None:
    """Title and axes of a filter's plane, and the edge of the high-pass, where it halves the amplitude."""
    ax.set(title=title, xlabel="kx, cycles per map", ylabel="ky")
    style.whole_ticks(ax)
    for xs, ys in highpass_edges(each):
        ax.plot([x - 0.5 for x in xs], [y - 0.5 for y in ys], color=HIGHPASS, linewidth=1)


def few_ticks(ax: Axes, size: tuple[int, ...], xlabel: str) -> None:
    """Axes of a small plane: only the first frequency, DC and the last one have a tick."""
    left, right, bottom, top = extent(size)
    ax.set(xlabel=xlabel, xticks=[left + 0.5, 0, right - 0.5])
    ax.set(ylabel="ky", yticks=[top + 0.5, 0, bottom - 0.5])
    ax.xaxis.set_major_formatter("{x:.0f}")
    ax.yaxis.set_major_formatter("{x:.0f}")
    ax.yaxis.labelpad = -4


def bare(ax: Axes) -> None:
    """A picture without ticks and frame."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def ring_axis(ax: Axes, last: float) -> None:
    """The x axis of a curve over the rings 1 to `last`."""
    ax.set_xlim(0.5, last + 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
