"""Showing a run while it goes: a live bar on a terminal, one line per epoch elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from torch import nn

from famkd.errors import inert

TITLE = 32  # characters of a title beside a bar, for which narrow terminals have room too


class PlainConsole(Console):
    """A console that shows texts as they are: no markup, and nothing in them that a terminal would obey."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(inert(each) if isinstance(each, str) else each for each in objects), **options)


# a notebook is no terminal, although its kernel asks for colours
TERMINAL = sys.stdout.isatty()
console = PlainConsole(
    highlight=False, markup=False, emoji=False, soft_wrap=not TERMINAL, force_terminal=TERMINAL, force_jupyter=False
)


class Reporter:
    """Told of every step and epoch; what becomes of it depends on where the output goes."""

    def __init__(self, title: str, epochs: int, steps: int, bar: Progress | None):
        self.title, self.epochs, self.steps, self.bar = title, epochs, steps, bar
        self.task = bar and bar.add_task(escape(_short(inert(title))), total=epochs * steps)
        self._shown = time.monotonic()
        self._pending = 0

    def resume(self, epoch: int) -> None:
        if self.bar:
            self.bar.update(self.task, completed=epoch * self.steps)

    def step(self) -> None:
        self._pending += 1
        if self.bar and time.monotonic() - self._shown > 0.1:
            self._flush()

    def epoch(self, row: dict, seconds: float) -> None:
        figures = "  ".join(f"{key} {value:.4g}" for key, value in row.items() if isinstance(value, float))
        if self.bar:
            self._flush()
        console.print(f"{self.title}  epoch {row['epoch']}/{self.epochs}  {figures}  {seconds:.1f} s")  # above the bar

    def _flush(self) -> None:
        self.bar.advance(self.task, self._pending)
        self._pending, self._shown = 0, time.monotonic()


@contextlib.contextmanager
def reporting(title: str, epochs: int, steps: int) -> Iterator[Reporter]:
    """A reporter for one run; the bar goes with ETA on a terminal."""
    if not console.is_terminal:
        yield Reporter(title, epochs, steps, None)
        return
    whole = Column(no_wrap=True, min_width=min(TITLE, len(title)))
    columns = (TextColumn("{task.description}", table_column=whole), BarColumn(bar_width=24))
    with Progress(*columns, TextColumn("{task.percentage:>3.0f}%"), TimeRemainingColumn(), console=console) as bar:
        yield Reporter(title, epochs, steps, bar)


def _short(title: str) -> str:
    return title if len(title) <= TITLE else f"{title[: TITLE - 1]}…"


def table(title: str, header: list[str], rows: list[list[str]]) -> None:
    """A small table, figures to the right."""
    grid = Table(title=inert(title), title_justify="left")
    for place, name in enumerate(header):
        grid.add_column(inert(name), justify="left" if place == 0 else "right", overflow="fold")
    for row in rows:
        grid.add_row(*map(inert, row))
    console.print(grid)


def size_of(method: nn.Module, momentum: float = 0.9) -> str:
    """What a method's parameters, filters foremost, take of the memory: "method: N parameters, M MiB with ..."."""
    sizes = [(p.numel(), p.element_size()) for p in method.parameters() if p.requires_grad]
    mib = (3 if momentum else 2) * sum(n * size for n, size in sizes) / 2**20
    kept = "gradient and momentum" if momentum else "gradient"
    return f"method: {sum(n for n, _ in sizes):,} parameters, {mib:,.1f} MiB with {kept}"
