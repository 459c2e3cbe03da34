"""What frequency attention does to these very features: which frequencies enter, pass, and are left unlike."""

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from famkd.errors import UserError
from famviz.analysis.amplitude import FLOOR, without_dc
from famviz.analysis.effect import Effect, effects
from famviz.figures import style
from famviz.networks import Source

__all__ = ["Effect", "effect_figure", "effect_table", "effects"]

TITLES = {
    "enters": "enters the level", "gain": "|H|, dB of gain", "global": "global branch", "local": "local branch",
    "output": "leaves the level", "teacher": "teacher", "residual": "left to the teacher",
}  # fmt: skip
ROWS = (("enters", "gain", "global", "local"), ("output", "teacher", "residual", "share"))
COLOURS = dict(zip(("global", "local", "output", "residual", "enters"), style.LINES)) | {"teacher": "#000000"}
DEPTH = 30.0  # dB below the strongest that a plane of gains shows; spectra twice as many


def effect_table(source: Source | Sequence[Effect], **options) -> list[dict[str, object]]:
    """A row for each level: gamma, the global branch's share of the energy, how the branches agree, what is left.

    The share is given on white input, where it is a property of the weights, and as measured on real features, DC
    apart; options go to `effects`.
    """
    rows = []
    for each in _measured(source, options):
        row = {"level": each.name, "gamma global": each.gamma[0]}
        row |= {
            "gamma local": each.gamma[1] if len(each.gamma) > 1 else None,
            "global on white input": each.white_share,
        }
        row |= {"global on these features": each.share, "cosine of the branches": each.agreement}
        rows.append(row | {"left to the teacher": each.left})
    return rows


def effect_figure(source: Source | Sequence[Effect], **options):
    """A matplotlib figure of `effects`, or of a run, to which options go: two rows a level.

    Planes share one scale, dB of the teacher's root mean square above DC; |H| has its own, dB of gain. The upper curve
    shows the same over rings, the lower one |H| and the gain that was measured: more than |H| where channels add up.
    Errors: UserError for a run without frequency filters.
    """
    shown = _measured(source, options)
    if not shown:
        raise UserError("This run has no frequency filters, so there is nothing that they do to features.")
    figure = style.figure(11.2, 4.2 * len(shown))
    figure.get_layout_engine().set(w_pad=0.06)
    with style.context():
        for grid, each in zip(figure.subfigures(len(shown), 1, squeeze=False)[:, 0], shown):
            size = " x ".join(map(str, each.gain.shape))
            grid.suptitle(f"{each.name} by {each.method}, {size}", x=0.01, ha="left", fontsize=10, fontweight="bold")
            axes = grid.subplot_mosaic([[*ROWS[0], "curves"], [*ROWS[1], "gains"]], width_ratios=[1] * 4 + [1.9])
            _draw_planes(grid, axes, each)
            _draw_curves(axes["curves"], axes["gains"], each)
            _draw_share(axes["share"], each)
    return figure


def _measured(source: Source | Sequence[Effect], options: dict) -> list[Effect]:
    given = isinstance(source, Sequence) and not isinstance(source, str)
    return list(source) if given else effects(source, **options)


def _draw_planes(grid, axes: dict, each: Effect) -> None:
    """Every spectrum on one scale, and |H| on its own."""
    seen = {name: each.plane(name) for name in each.power}
    above = np.concatenate([without_dc(plane) for name, plane in seen.items() if name != "global"])
    high = above.max()
    low = max(np.quantile(above, 0.01), high - 2 * DEPTH)  # the global branch has frequencies where nothing passes
    h, w = each.gain.shape
    extent = (-(w // 2) - 0.5, w - w // 2 - 0.5, h - h // 2 - 0.5, -(h // 2) - 0.5)
    for name in TITLES:
        ax = axes[name]
        ax.set(title=TITLES[name], xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        if name == "gain":
            gain = each.plane("gain")
            top = gain.max()
            bar = ax.imshow(gain, cmap=style.ENERGY, vmin=max(gain.min(), top - DEPTH), vmax=top, extent=extent)
            grid.colorbar(bar, ax=ax, shrink=0.6, pad=0.02)
        elif name in seen:
            drawn = ax.imshow(seen[name], cmap=style.AMPLITUDE, vmin=low, vmax=high, extent=extent)
        else:
            ax.text(0.5, 0.5, "there is none", ha="center", va="center", transform=ax.transAxes)
    for name in ("enters", "output"):
        axes[name].set(xlabel="kx, cycles per map", ylabel="ky", xticks=[-(w // 2), 0], yticks=[-(h // 2), 0])
    grid.colorbar(drawn, ax=axes["share"], label="dB of the teacher", shrink=0.8, pad=0.02)


def _draw_curves(curves, gains, each: Effect) -> None:
    """Spectra over rings, and below them what |H| promises beside what was measured; from the first ring on."""
    at = each.frequency[1:]
    marked = {"marker": "o", "markersize": 2.5, "lw": 1.4}
    for name, colour in COLOURS.items():
        if name in each.power:
            dashed = "--" if name == "enters" else "-"
            curves.plot(at, each.curve(name)[1:], dashed, color=colour, label=TITLES[name], **marked)
    others = min(each.curve(name)[1:].min() for name in each.power if name != "global")
    curves.set_ylim(bottom=min(others, each.curve("global").max() - 3) - 3)  # where the high-pass cuts there is no end
    curves.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    curves.set_ylabel("dB of the teacher")
    promised = each.curve("gain")[1:]
    passing = promised > FLOOR + 1  # and not cut by the high-pass
    gains.plot(at, np.where(passing, promised, np.nan), "--", color="0.4", label="|H|: uncorrelated channels", **marked)
    for name in ("global", "local"):
        if name in each.power:
            measured = each.curve(name)[1:] - each.curve("enters")[1:]
            measured[~passing & (name == "global")] = np.nan
            gains.plot(at, measured, color=COLOURS[name], label=f"{name}, measured", **marked)
    gains.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    gains.set(xlabel="frequency, cycles per map", ylabel="gain, dB")
    for ax in (curves, gains):
        ax.set_xlim(0.5, at[-1] + 0.5)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _draw_share(ax, each: Effect) -> None:
    """The global branch's share of the energy as two bars: on white input, and measured."""
    if each.share is None:
        ax.axis("off")
        return
    for row, (name, share) in enumerate({"white input": each.white_share, "these features": each.share}.items()):
        ax.barh(row, share, color=COLOURS["global"], height=0.5)
        ax.barh(row, 1 - share, left=share, color=COLOURS["local"], height=0.5)
        ax.text(0, row - 0.3, f"{name}: {100 * share:.2g} %", fontsize=7, va="bottom")
    ax.set(xlim=(0, 1), ylim=(1.6, -0.9), xticks=[0, 1], yticks=[], title="global branch's share")
    ax.spines[:].set_visible(False)
