"""The dashboard: curves of trainings, their speed, the time left, and filters as they form, in a notebook or a page."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import traitlets
from matplotlib.figure import Figure

from famkd.errors import UserError
from famviz.analysis.training import training_facts
from famviz.explorer.base import Explorer, unique
from famviz.explorer.page import Message, css, fragment, module
from famviz.explorer.pictures import colour_tables
from famviz.figures.progress import progress_figure
from famviz.load import LoadedRun, Source, evenly, open_all, open_runs
from famviz.tables import frame_of

PAGE_BUDGET = 1 << 20  # bytes of pictures of filters in a saved page
AT_ONCE = 8  # epochs in one answer
WATCHED = ("metrics.jsonl", "timing.jsonl", "test.json", "teacher.json", "filters", "method.safetensors")


class Dashboard(Explorer):
    """Runs while they train, looked at until all are finished or the widget is closed. The traits are the interface.

    The page asks for the pictures of the filters that it shows and does not have yet. What did not change is neither
    read, sent nor drawn again.

    Args:
        runs: a run directory, what `famviz.open` returned for one, or a list of these.
        every: seconds between two looks at the directories. Without a running event loop, call `refresh()` instead.
        traits: what to show first, such as `figure="top5", log=False`.

    Errors: UserError for a bare checkpoint, which has no training to follow, or for an argument that is no trait.
    """

    shown = ("figure", "loss", "log", "epoch")
    linked = shown
    _esm = module("dashboard")
    _css = css("dashboard")
    _meta = traitlets.Dict().tag(sync=True)
    _runs = traitlets.List(traitlets.Dict()).tag(sync=True)  # what the log of each run says

    figure = traitlets.Unicode("", help="A figure, such as top5; empty for the one that ranks epochs.").tag(sync=True)
    loss = traitlets.Unicode("", help="One part of the loss, such as task.ce; empty for all.").tag(sync=True)
    log = traitlets.Bool(True, help="Draw losses on a logarithmic scale.").tag(sync=True)
    epoch = traitlets.Int(0, min=0, help="The epoch whose values and filters are shown; 0 for the newest.").tag(
        sync=True
    )

    _task: asyncio.Task | None = None

    def __init__(self, runs: Source | Sequence[Source], *, every: float = 2.0, **traits: Any):
        self.refuse_unknown(traits)
        self.followed = [_Followed(opened) for opened in open_all(runs)]
        if not self.followed:
            raise UserError("Name a run directory first: the list is empty.")
        self.every = every
        names = unique([each.name for each in self.followed])
        tables = colour_tables({"cividis": "cividis"})
        super().__init__(_meta={"runs": names, "tables": tables, "alone": False}, _runs=self._facts())
        for name, value in traits.items():
            setattr(self, name, value)
        self.on_msg(self._answer)
        with contextlib.suppress(RuntimeError):  # there is no event loop in a script
            self._task = asyncio.get_running_loop().create_task(self._follow())

    @property
    def runs(self) -> list[LoadedRun]:
        """The runs as they are now, with their filters."""
        return [open_runs(each.run) for each in self.followed]

    @property
    def finished(self) -> bool:
        """Whether the training of every run is over."""
        return all(each.facts["finished"] for each in self.followed)

    @property
    def following(self) -> bool:
        """Whether it still looks at the directories from time to time."""
        return self._task is not None and not self._task.done()

    def refresh(self) -> bool:
        """Look at the run directories now; returns whether there was anything new."""
        changed = [each.look() for each in self.followed]  # each is looked at
        if any(changed):
            self._runs = self._facts()
        return any(changed)

    def frame(self) -> Any:
        """A row for each run and epoch, as a pandas DataFrame, or as a list of dicts where pandas is not installed."""
        names = self._meta["runs"]
        return frame_of({"run": name, **row} for name, each in zip(names, self.followed) for row in each.run.metrics())

    def _facts(self) -> list[dict[str, Any]]:
        return [dict(each.facts) for each in self.followed]

    def close(self) -> None:
        """Stop following and remove the widget."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        super().close()

    async def _follow(self) -> None:
        while not self.finished:
            await asyncio.sleep(self.every)
            self.refresh()

    def filters(self, run: int, epochs: Sequence[int]) -> Message:
        """Root mean square of every level after some epochs, float32 (H, W // 2 + 1), those of one epoch in a row."""
        followed, kept, buffers = self.followed[run], [], []
        for epoch in epochs:
            pictures = followed.pictures(epoch)
            if pictures:
                kept.append(epoch)
                buffers += [picture.astype(np.float32).tobytes() for picture in pictures]
        missing = [epoch for epoch in epochs if epoch not in kept]
        return {"kind": "filters", "run": run, "epochs": kept, "missing": missing}, buffers

    def answer(self, question: dict[str, Any]) -> Message:
        """The pictures of the filters that the page asks for."""
        return self.filters(int(question["run"]), list(question["epochs"])[:AT_ONCE])

    @property
    def title(self) -> str:
        """The names of the runs."""
        return ", ".join(self._meta["runs"])

    def to_figure(self) -> Figure:
        """A matplotlib figure of curves and filters."""
        return progress_figure(self.runs)

    def to_fragment(self, budget: int = PAGE_BUDGET) -> str:
        """This dashboard as a part of a page: its data and its place, without module and style.

        Args:
            budget: bytes of pictures of filters; the page holds as many epochs, evenly spaced, as fit.
        """
        facts, messages = [], []
        share = budget // len(self.followed)
        for at, each in enumerate(self.followed):
            saved = each.fitting(share)
            facts.append({**each.facts, "saved": saved})
            if saved:
                messages.append(self.filters(at, saved))
        return fragment(
            "dashboard", {"_meta": {**self._meta, "alone": True}, "_runs": facts, **self.chosen()}, {}, messages
        )

    @traitlets.validate("figure", "loss")
    def _is_column(self, proposal: Any) -> str:
        name, value = proposal["trait"].name, proposal["value"]
        kind = "scores" if name == "figure" else "losses"
        known = sorted({each for facts in self._runs for each in facts[kind]})
        if value and known and value not in known:
            raise traitlets.TraitError(f"{name} must be one of {', '.join(known)}, not {value!r}")
        return value


class _Followed:
    """A run directory, and what was read of it last."""

    def __init__(self, opened: LoadedRun):
        if opened.run is None:
            raise UserError(f"{opened.name} is a bare checkpoint: a dashboard follows a run directory.")
        self.run, self.name = opened.run, opened.name
        self.filters = opened.filters
        self.seen = self._stamps()
        self.facts = self._read()

    def look(self) -> bool:
        """Read the directory if anything in it changed; whether what it says changed."""
        before, stamps = self.facts, self._stamps()
        if stamps == self.seen:
            return False
        # A file that is being replaced cannot be read for a moment; the next look reads it.
        with contextlib.suppress(UserError, OSError):
            self.facts, self.seen = self._read(), stamps
        return self.facts != before

    def _read(self) -> dict[str, Any]:
        if not self.filters and self.run.begun:
            self.filters = open_runs(self.run).filters
        facts = training_facts(LoadedRun(self.name, self.run, self.filters))
        facts["saved"] = self.run.filter_epochs() if self.filters else []
        levels = [{"index": each.index, "title": each.title, "size": list(each.size)} for each in self.filters]
        facts["levels"] = levels
        return facts

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        return tuple(map(self._stamp, WATCHED))

    def _stamp(self, name: str) -> tuple[int, int]:
        try:
            found = (self.run.path / name).stat()
        except OSError:
            return 0, 0
        return found.st_mtime_ns, found.st_size

    def pictures(self, epoch: int) -> list[np.ndarray]:
        """The amplitude of every level after an epoch; [] if it was not kept or cannot be read."""
        opened = LoadedRun(self.name, self.run, self.filters)
        with contextlib.suppress(UserError, OSError):
            found = [opened.summary(each, epoch) for each in self.filters]
            if all(found):
                return [summary["amplitude"] for summary in found if summary]
        return []

    def fitting(self, budget: int) -> Sequence[int]:
        """Epochs whose pictures fit into a number of bytes, evenly spaced, the first and the last among them."""
        size = sum(4 * each.size[0] * (each.size[1] // 2 + 1) for each in self.filters)
        return evenly(self.facts["saved"], max(2, budget // max(1, size)))
