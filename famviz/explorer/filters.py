"""The filter explorer: choose a level and two channels, and every view shows that filter, in a notebook or a page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import traitlets
from matplotlib.figure import Figure

from famkd.errors import UserError
from famviz.analysis.effect_image import ImageEffect
from famviz.analysis.filters import Pair
from famviz.explorer import encode
from famviz.explorer import filter_exports as exports
from famviz.explorer.base import Explorer
from famviz.explorer.filter_messages import EffectMessages
from famviz.explorer.filter_page import page_data
from famviz.explorer.filter_still import Shown, still
from famviz.explorer.large_levels import LargeLevels
from famviz.explorer.page import Message, css, fragment, module
from famviz.filter import Filter
from famviz.load import LoadedRun, Source, Summary, open_all
from famviz.tables import Table

BUDGET = 16 << 20  # bytes of filters that the browser holds at once
PAGE_BUDGET = 4 << 20  # bytes of filters in a saved page
WALLS = ("none", "strongest", "output", "input")
VIEWS = ("amplitude", "phase", "complex", "kernel")
LINKED = ("level", "c_out", "c_in", "mean", "epoch", "view", "wall")


class Level(traitlets.Int):
    """A level by its position, or by the name of its student tap or its module path."""

    def validate(self, obj: Any, value: Any) -> Any:
        if isinstance(value, str):
            opened = obj.runs[0]
            value = opened.filters.index(opened.filter(value))
        return super().validate(obj, value)


class FilterExplorer(Explorer):
    """Linked views of the filters of one run, and of others to compare it with. The traits are the interface.

    Args:
        runs: a run directory, a released .pth, what `famviz.open` returned, or a list of these; the first is shown.
        budget: bytes of quantised filters to send at once; a larger level is sent one output channel at a time.
        root: where the data of the first run is, if it was moved since the training.
        traits: what to show first, such as `level=1, view="phase"`; by default the strongest filter of the level.

    Errors: UserError if the first run holds no filter, or for an argument that is no trait.
    """

    shown = (*LINKED, "raw", "other", "floor", "colormap", "search", "image")
    linked = LINKED

    _esm = module("filters")
    _css = css("filters")
    _meta = traitlets.Dict().tag(sync=True)
    _whole = traitlets.Dict().tag(sync=True)  # bytes by key, sent once
    _rows = traitlets.Dict().tag(sync=True)  # bytes by key, of the chosen channels
    _figures = traitlets.Dict().tag(sync=True)  # of large levels by key, as far as they are read
    _large = traitlets.Dict().tag(sync=True)  # bytes by key, of large levels

    level = Level(0, help="Position among the run's filters, or the name of a tap, such as layer2.").tag(sync=True)
    c_out = traitlets.Int(0, help="Output channel.").tag(sync=True)
    c_in = traitlets.Int(0, help="Input channel.").tag(sync=True)
    mean = traitlets.Bool(False, help="Show all filters of the level together.").tag(sync=True)
    epoch = traitlets.Int(0, help="An epoch of the training; 0 for the saved weights.").tag(sync=True)
    view = traitlets.Enum(VIEWS, "amplitude", help="What the large picture shows.").tag(sync=True)
    raw = traitlets.Bool(False, help="Show the stored plane, if the file has it, and not only what acts.").tag(
        sync=True
    )
    other = traitlets.Unicode("", help="Name of the run to compare with.").tag(sync=True)
    floor = traitlets.Float(
        0.0,
        max=0.0,
        help="dB of the level's largest amplitude: weaker ones are drawn darkest, and their phases are left out. "
        "0 takes the range of the colours from the filter that is shown.",
    ).tag(sync=True)
    colormap = traitlets.Enum(encode.COLORMAPS, "cividis", help="Colours of amplitudes.").tag(sync=True)
    wall = traitlets.Enum(
        WALLS, "none", help="Small pictures of several filters: the strongest, or of one channel."
    ).tag(sync=True)
    image = traitlets.Int(-1, min=-1, help="Show what the filter does to this test image; -1 for none.").tag(sync=True)
    search = traitlets.Unicode("", help="Rows of the table to show, such as 'out = 3, centroid > 0.5'.").tag(sync=True)

    def __init__(
        self, runs: Source | Sequence[Source], *,
        budget: int = BUDGET, root: str = "", **traits: Any,
    ):  # fmt: skip
        self.refuse_unknown(traits)
        self.runs: list[LoadedRun] = open_all(runs)
        if not self.runs or not self.runs[0].filters:
            name = self.runs[0].name if self.runs else "This"
            raise UserError(f"{name} holds no frequency filter (yet): train with fam or fam_review for an epoch first.")
        self.large = LargeLevels(self.runs)
        data = page_data(self.runs, self.large, budget)
        super().__init__(_meta=data.meta, _whole=data.whole)
        self.observe(self._send_rows, ["level", "c_out", "raw", "other", "mean"])
        if self.large.levels:
            self.observe(self._send_rows, ["c_in", "wall"])
        if "level" in traits:  # channels are counted in a level
            self.level = traits["level"]
        for name, value in {**self._strongest(), **traits}.items():
            setattr(self, name, value)
        self._send_rows(anew=bool(self.large.levels))
        self.messages = EffectMessages(self.runs[0], root)
        self.on_msg(self._answer)

    @property
    def filter(self) -> Filter:
        """The chosen level of the first run."""
        return self.runs[0].filters[self.level]

    @property
    def _pair(self) -> Pair | None:
        """The chosen channels; None for all filters of the level."""
        return None if self.mean else (self.c_out, self.c_in)

    def to_numpy(self) -> np.ndarray:
        """The choice as a complex centred plane (H, W): a filter, its stored plane, or the mean of the level.

        Of an epoch it is what the run kept: the filter, or the root mean square over all filters, which has no phase.
        """
        return exports.plane_of(self.filter, self._pair, self._then(), self.raw)

    def to_figure(self) -> Figure:
        """A matplotlib figure of the choice, which `famviz.style.save` writes as png, svg or pdf.

        It shows every view of a filter of one run, or the chosen view of two runs with their difference. Of an epoch it
        shows what the run saved.
        """
        second = self._compared()
        runs = self.runs[0], self.runs[self._other] if second else None
        look = {"epoch": self.epoch, "view": self.view, "floor": self.floor, "colormap": self.colormap}
        return still(Shown(runs, (self.filter, second), self._pair, **look))

    def table(self, most: int | None = None) -> Table:
        """A row for each filter of the level, the strongest first: channels, energy, and where its energy lies.

        Of an epoch it says what the run kept: the energy of all filters, and NaN elsewhere for those not kept alone.

        Args:
            most: rows at most; by default all, and 20,000 of a level that is too large for memory.
        """
        return exports.table_of(self.filter, self._then(), most)

    def _then(self) -> Summary | None:
        """What the run kept of the level after the chosen epoch; None for the saved weights."""
        return self.runs[0].summary(self.filter, self.epoch) if self.epoch else None

    def frame(self) -> Any:
        """The rows of `table` as a pandas DataFrame, or as a list of dicts where pandas is not installed."""
        return self.table().frame()

    def to_arrays(self, path: str | Path | None = None) -> dict[str, np.ndarray]:
        """The choice as arrays by name: the plane (H, W), its kernel, frequencies, high-pass; also as a file .npz.

        `plane` is complex with DC in the middle, as `to_numpy` returns it; `kernel` is real with its origin in the
        middle; `ky` and `kx` are in cycles per map.
        """
        found = exports.arrays_of(self.filter, self.to_numpy(), self._pair)
        if path:
            with Path(path).open("wb") as file:
                np.savez(file, **found)
        return found

    def _strongest(self) -> dict[str, int]:
        """Channels of the strongest filter of the level, of a large level of those that are known."""
        survey = self.filter.survey
        energy = survey.energy if survey else self.filter.energy()
        c_out, c_in = np.unravel_index(energy.argmax(), energy.shape)
        return {"c_out": int(c_out), "c_in": int(c_in)}

    @property
    def _other(self) -> int:
        """Position of the run to compare with; 0 for none."""
        return self._meta["runs"].index(self.other) if self.other else 0

    @property
    def _places(self) -> list[tuple[int, int]]:
        """Run and position of the chosen level, and of the same level of the run to compare with."""
        at = self.runs[self._other].same_level(self.filter) if self._other else None
        return [(0, self.level), *([] if at is None else [(self._other, at)])]

    def _compared(self) -> Filter | None:
        """The same level of the run to compare with, if it has the same shape."""
        if len(self._places) < 2:
            return None
        run, at = self._places[1]
        second = self.runs[run].filters[at]
        same = second.shape == self.filter.shape and second.size == self.filter.size
        return second if same else None

    @property
    def title(self) -> str:
        """The name of the run."""
        return self.runs[0].name

    def to_fragment(self, budget: int = PAGE_BUDGET) -> str:
        """This explorer as a part of a page: its data and its place, without module and style.

        Args:
            budget: bytes of filters in the page; of larger levels it holds the strongest rows.
        """
        self.large.finish()
        parts = self.large.parts()
        left = budget - sum(map(len, parts.values()))
        data = page_data(self.runs, self.large, left, alone=True, c_in=self.c_in)
        buffers = {"_whole": data.whole, "_rows": data.rows, "_large": parts}
        messages = self.large.messages()
        if self.image >= 0:
            messages.append(self.messages.effect(self.level, self.image, self.c_out, self.c_in))
        traits = {"_meta": data.meta, "_figures": self.large.figures(), **self.chosen()}
        return fragment("filters", traits, buffers, messages)

    def effect(self) -> ImageEffect:
        """What the chosen filter does to the chosen image, by default the first one: arrays of each step."""
        if self.messages.effects is None:
            raise UserError(f"{self.runs[0].name} is a bare checkpoint, which comes without networks and data.")
        return self.messages.effects.of(self.filter.path, max(0, self.image), (self.c_out, self.c_in))

    def answer(self, question: dict[str, Any]) -> Message:
        """The answer to a question of the page."""
        if question["ask"] == "effect":
            return self.messages.answer(question)
        answer = self.large.answer(question)
        if question["ask"] == "survey":
            self._send_rows(anew=True)
        return answer

    def _send_rows(self, change: Any = None, anew: bool = False) -> None:
        """Send the chosen channels of every visible level that the browser does not hold.

        Args:
            anew: also send what is known of the large levels by now.
        """
        self._clamp_channels()
        before = self.large.references()
        keys = [] if self.mean else [f"{run}.{at}" for run, at in self._places]
        rows = {**self._output_rows(), **self.large.rows(keys, self.c_out, self.c_in, self.wall == "output")}
        anew = anew or before != self.large.references()
        with self.hold_sync():
            if anew or rows.keys() != self._rows.keys():
                self._rows = rows
            if anew:
                self._figures, self._large = self.large.figures(), self.large.parts()

    def _output_rows(self) -> dict[str, bytes]:
        """The chosen output channel of levels that are in memory and not held whole by the browser."""
        rows = {}
        for run, at in [] if self.mean else self._places:
            each, figures = self.runs[run].filters[at], self._meta["levels"][run][at]
            raw = self.raw and figures["raw"]
            needed = not each.survey and (raw or not figures["whole"])
            if needed and self.c_out < each.channels[0]:
                key = encode.row_key(f"{run}.{at}", self.c_out, raw)
                rows[key] = encode.weights(each, figures["reference"], self.c_out, raw)
        return rows

    def _clamp_channels(self) -> None:
        """Choose the nearest channels that the level has."""
        outs, ins = self.filter.channels
        if self.c_out >= outs or self.c_in >= ins:
            c_out, c_in = min(self.c_out, outs - 1), min(self.c_in, ins - 1)
            with self.hold_trait_notifications():
                self.c_out, self.c_in = c_out, c_in

    @traitlets.validate("level", "c_out", "c_in")
    def _in_range(self, proposal: Any) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        filters = self.runs[0].filters
        count = len(filters) if name == "level" else self.filter.channels[name == "c_in"]
        if not 0 <= value < count:
            where = "" if name == "level" else f" in {self.filter.title}"
            raise traitlets.TraitError(f"{name} must be 0 .. {count - 1}{where}, not {value}")
        return value

    @traitlets.validate("other")
    def _is_run(self, proposal: Any) -> str:
        value, names = proposal["value"], self._meta["runs"][1:]
        if value and value not in names:
            raise traitlets.TraitError(f"there is no run {value!r} to compare with: {', '.join(names) or 'none'}")
        return value
