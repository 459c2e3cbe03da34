"""The filter explorer: pick a level and two channels, and every view of that filter follows, in notebook and page."""

import base64
from collections.abc import Sequence
from pathlib import Path

import anywidget
import ipywidgets
import numpy as np
import traitlets

from famkd.errors import UserError
from famviz import spectra
from famviz.explorer import encode as payload
from famviz.load import Filter, LoadedRun, Source, open_runs

HERE = Path(__file__).parent
BUDGET = 16 << 20  # bytes of filters that the browser holds at once
VIEWS = ("amplitude", "phase", "complex", "kernel")
LINKED = ("level", "c_out", "c_in", "mean", "epoch", "view")


def module() -> str:
    """The explorer's ES module, its own parts put together: no import inside, so that a saved page can hold it."""
    return "".join((HERE / name).read_text() for name in ("parts.js", "drawing.js", "explorer.js"))


def close_parts(widget: ipywidgets.Widget) -> None:
    """Close what a closed widget was made of, children, layout and style, which a kernel would keep for its life."""
    for part in (*getattr(widget, "children", ()), *(getattr(widget, name, None) for name in ("layout", "style"))):
        if isinstance(part, ipywidgets.Widget):
            part.close()
            close_parts(part)


class FilterExplorer(anywidget.AnyWidget):
    """Linked views of the filters of one run, with others to compare it with; its traits are its interface.

    Args:
        runs: a run directory, a released .pth, what `famviz.open` returned, or a list of these; the first is shown.
        budget: bytes of quantised filters to send at once; a level beyond it comes one output channel at a time.
        traits: where to start, say `level=1, view="phase"`; by themselves the strongest filter of the level.

    Errors: UserError where the first run holds no filter.
    """

    _esm = module()
    _css = (HERE / "explorer.css").read_text()
    _meta = traitlets.Dict().tag(sync=True)
    _whole = traitlets.Dict().tag(sync=True)  # bytes by key, sent once
    _rows = traitlets.Dict().tag(sync=True)  # bytes by key, of the chosen output channel

    level = traitlets.Int(0, help="Position among the run's filters.").tag(sync=True)
    c_out = traitlets.Int(0, help="Output channel.").tag(sync=True)
    c_in = traitlets.Int(0, help="Input channel.").tag(sync=True)
    mean = traitlets.Bool(False, help="All filters of the level in place of one.").tag(sync=True)
    epoch = traitlets.Int(0, help="An epoch of the filter's life; 0 is the saved weights.").tag(sync=True)
    view = traitlets.Enum(VIEWS, "amplitude", help="What the large picture shows.").tag(sync=True)
    raw = traitlets.Bool(False, help="The stored plane in place of the part that acts, where the file has it.").tag(
        sync=True
    )
    other = traitlets.Unicode("", help="Name of the run to compare with.").tag(sync=True)
    floor = traitlets.Float(-60.0, max=-1.0, help="dB below which an amplitude is dark and a phase masked.").tag(
        sync=True
    )

    def __init__(self, runs: Source | LoadedRun | Sequence[Source | LoadedRun], *, budget: int = BUDGET, **traits):
        opened = open_runs(runs)
        self.runs: list[LoadedRun] = opened if isinstance(opened, list) else [opened]
        if not self.runs or not self.runs[0].filters:
            name = self.runs[0].name if self.runs else "This"
            raise UserError(f"{name} holds no frequency filter (yet): train with fam or fam_review for an epoch first.")
        meta, whole, _ = payload.pack(self.runs, budget)
        super().__init__(_meta=meta, _whole=whole)
        self.observe(self._serve, ["level", "c_out", "raw", "other", "mean"])
        for name, value in {**self._strongest(traits.get("level", 0)), **traits}.items():
            setattr(self, name, value)
        self._serve()

    @property
    def filter(self) -> Filter:
        """The chosen level of the first run."""
        return self.runs[0].filters[self.level]

    def to_numpy(self) -> np.ndarray:
        """What is chosen as a complex centred plane (H, W): a filter, its stored plane, or the mean of the level."""
        if self.mean:
            return spectra.full_plane(self.filter.response.mean((0, 1)), self.filter.size[1])
        if self.raw and self.filter.raw is not None:
            return self.filter.raw[self.c_out, self.c_in]
        return spectra.full_plane(self.filter.response[self.c_out, self.c_in], self.filter.size[1])

    def to_png(self, path: str | Path | None = None) -> bytes:
        """A still picture of what is chosen, drawn by matplotlib; written to `path` where one is given.

        It has every view of a filter of one run, or the chosen view of two runs with their difference; for an epoch
        what the run kept of it.
        """
        from famviz.figures import style

        data = style.to_bytes(self._still(), "png")
        if path:
            Path(path).write_bytes(data)
        return data

    def _still(self):
        """A matplotlib figure of what is chosen."""
        from famviz.figures import sheets

        first, second, floor = self.filter, self._compared(), self.floor
        pair, names = None if self.mean else (self.c_out, self.c_in), (self.runs[0].name, self.other)
        then = self.runs[0].summary(first, self.epoch) if self.epoch else None
        if not then:
            if second:
                return sheets.comparison(first, second, pair, self.view, names=names, floor=floor)
            return sheets.overview(first, pair, floor=floor)
        kept = self.runs[self._other].summary(second, self.epoch) if second else None
        if not kept:
            return sheets.moment(first, self.epoch, then, floor=floor)
        both = sheets.as_it_was(first, then), sheets.as_it_was(second, kept)
        return sheets.comparison(*both, names=names, epoch=self.epoch, floor=floor)

    def _strongest(self, level: int) -> dict[str, int]:
        """Channels of a level's strongest filter; nothing where there is no such level, which a trait then says."""
        if not 0 <= level < len(self.runs[0].filters):
            return {}
        energy = self.runs[0].filters[level].energy()
        return dict(zip(("c_out", "c_in"), map(int, np.unravel_index(energy.argmax(), energy.shape))))

    @property
    def _other(self) -> int:
        """Position of the run to compare with; 0 for none."""
        return self._meta["runs"].index(self.other) if self.other else 0

    def _compared(self) -> Filter | None:
        """The same level of the run to compare with, where it has one of the same shape."""
        levels = self.runs[self._other].filters if self._other else []
        same = self.level < len(levels) and levels[self.level].response.shape == self.filter.response.shape
        return levels[self.level] if same and levels[self.level].size == self.filter.size else None

    def to_html(self, path: str | Path | None = None, *, budget: int = 4 << 20) -> str:
        """A page of its own with this explorer in it, working without network or kernel.

        `budget` bounds the bytes of filters in it; of a level beyond it the page holds the strongest rows.
        """
        from famviz.report import report

        page = report.page(f"famviz: {self.runs[0].name}", self.to_fragment(budget))
        if path:
            Path(path).write_text(page)
        return page

    def to_fragment(self, budget: int) -> str:
        """The part of a page that holds this explorer: its data and a mount point, without module or style."""
        from famviz.report import report

        meta, whole, rows = payload.pack(self.runs, budget, rows=True)
        chosen = {name: getattr(self, name) for name in (*LINKED, "raw", "other", "floor")}
        return report.explorer_fragment({"_meta": meta, **chosen}, {"_whole": whole, "_rows": rows})

    def close(self) -> None:
        """Take the widget away, in the page and in the kernel."""
        super().close()
        close_parts(self)

    def link(self, other: "FilterExplorer") -> list[traitlets.link]:
        """Move two explorers together; call `unlink()` on each returned link to part them."""
        return [traitlets.link((self, name), (other, name)) for name in LINKED]

    def _serve(self, change=None) -> None:
        """Send the chosen output channel of every level in view that the browser does not hold."""
        if self.c_out >= self.filter.channels[0] or self.c_in >= self.filter.channels[1]:
            c_out, c_in = (min(at, n - 1) for at, n in zip((self.c_out, self.c_in), self.filter.channels))
            with self.hold_trait_notifications():
                self.c_out, self.c_in = c_out, c_in
        rows = {}
        for r in {0, self._other}:
            if self.mean or self.level >= len(self.runs[r].filters):
                continue
            each, figures = self.runs[r].filters[self.level], self._meta["levels"][r][self.level]
            raw = self.raw and figures["raw"]
            if (raw or not figures["whole"]) and self.c_out < each.channels[0]:
                key = payload.row_key(f"{r}.{self.level}", self.c_out, raw)
                rows[key] = payload.weights(each, figures["reference"], self.c_out, raw)
        if rows.keys() != self._rows.keys():
            self._rows = rows

    @traitlets.validate("level", "c_out", "c_in", "other")
    def _within(self, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        if name == "other":
            names = self._meta["runs"][1:]
            if value and value not in names:
                raise traitlets.TraitError(f"there is no run {value!r} to compare with: {', '.join(names) or 'none'}")
        else:
            most = len(self.runs[0].filters) if name == "level" else self._channels(name)
            if not 0 <= value < most:
                raise traitlets.TraitError(f"{name} is 0 .. {most - 1}, not {value}")
        return value

    def _channels(self, name: str) -> int:
        """How many channels any level has: which of them a level change clamps to is known only afterwards."""
        return max(each.channels[name == "c_in"] for each in self.runs[0].filters)

    def _repr_mimebundle_(self, **kwargs):
        """The live widget, and a picture for where nothing is live: a reopened or exported notebook."""
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        return {**data, "image/png": base64.b64encode(self.to_png()).decode()}, metadata
