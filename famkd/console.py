"""Show the progress of a run on standard error: a live bar on a terminal, one line per epoch elsewhere."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from famkd.errors import inert

TITLE = 32  # characters of a title next to a bar; narrow terminals have room for these
REFRESH = 0.1  # seconds between two updates of the bar


class PlainConsole(Console):
    """A console that prints text as it is: no markup, and control characters written as escape sequences."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(inert(each) if isinstance(each, str) else each for each in objects), **options)

    def on_broken_pipe(self) -> None:
        raise  # the BrokenPipeError, which ends every command quietly


def _console(stderr: bool) -> PlainConsole:
    """A console on one of the two streams.

    A notebook is no terminal, although its kernel asks for colours. Neither is a dumb one, which cannot move a bar and
    for which rich would wrap every line at 80 characters.
    """
    terminal = (sys.stderr if stderr else sys.stdout).isatty() and os.environ.get("TERM") != "dumb"
    return PlainConsole(
        stderr=stderr,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=not terminal,
        force_terminal=terminal,
        force_jupyter=False,
    )


# Progress. A notebook shows standard error as a warning, so there it goes to standard output.
console = _console(stderr="ipykernel" not in sys.modules)
output = _console(stderr=False)  # results


class Reporter:
    """Shows the steps and epochs of one run."""

    def __init__(self, title: str, epochs: int, steps: int, bar: Progress):
        self.title, self.epochs, self.steps = title, epochs, steps
        self._bar = bar
        self._task = bar.add_task(escape(_short(inert(title))), total=epochs * steps)
        self._shown = time.monotonic()
        self._pending = 0  # steps that the bar does not show yet

    def resume(self, epoch: int) -> None:
        self._bar.update(self._task, completed=epoch * self.steps)

    def step(self) -> None:
        self._pending += 1
        if time.monotonic() - self._shown > REFRESH:
            self._flush()

    def epoch(self, row: dict[str, Any], seconds: float) -> None:
        """Print an epoch's figures; on a terminal the line appears above the bar."""
        self._flush()
        figures = [f"{key} {value:.4g}" for key, value in row.items() if isinstance(value, float)]
        console.print(f"{self.title}  epoch {row['epoch']}/{self.epochs}  {'  '.join(figures)}  {seconds:.1f} s")

    def _flush(self) -> None:
        self._bar.advance(self._task, self._pending)
        self._pending, self._shown = 0, time.monotonic()


@contextlib.contextmanager
def reporting(title: str, epochs: int, steps: int) -> Iterator[Reporter]:
    """A reporter for one run, with a bar and the remaining time on a terminal."""
    whole = Column(no_wrap=True, min_width=min(TITLE, len(title)))
    columns = (
        TextColumn("{task.description}", table_column=whole),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        yield Reporter(title, epochs, steps, bar)


def _short(title: str) -> str:
    return title if len(title) <= TITLE else f"{title[: TITLE - 1]}…"
