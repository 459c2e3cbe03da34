"""A dashboard that follows a run while it trains: losses, accuracy, and its filters as they form."""

import asyncio
import base64
import contextlib
import html
from typing import Any

import ipywidgets
from matplotlib.figure import Figure

from famkd.errors import UserError
from famkd.run.directory import Run
from famviz import figures as plots
from famviz.explorer.base import close_parts
from famviz.figures import style
from famviz.load import LoadedRun, Source, open_runs

WIDTH = 7.4  # inches


class Dashboard(ipywidgets.VBox):
    """Figures of one run, drawn again after every epoch, until the run is finished or the widget is closed.

    Args:
        run: a run directory, or what `famviz.open` returned for one.
        every: seconds between two looks at the directory. Without a running event loop, call `refresh()` instead.

    Errors: UserError for a bare checkpoint, which has no training to follow.
    """

    def __init__(self, run: Source | LoadedRun, every: float = 2.0):
        opened = open_runs(run)
        if opened.run is None:
            raise UserError(f"{opened.name} is a bare checkpoint: a dashboard follows a run directory.")
        self.run: Run = opened.run
        self.every = every
        self.epoch = -1
        self.status = ipywidgets.HTML()
        self.picture = ipywidgets.Image(format="png", width=round(WIDTH * style.RULES["figure.dpi"]))
        super().__init__([self.status, self.picture])
        self.refresh()
        self._task: asyncio.Task | None = None
        with contextlib.suppress(RuntimeError):  # there is no event loop in a script
            self._task = asyncio.get_running_loop().create_task(self._follow())

    def refresh(self) -> bool:
        """Look at the run directory now; returns whether there was a new epoch."""
        epoch = len(self.run.metrics())
        if epoch == self.epoch:
            return False
        opened = open_runs(self.run)
        self.status.value = status(opened)
        if epoch:
            self.picture.value = style.to_bytes(picture(opened))
        self.epoch = epoch
        return True

    @property
    def following(self) -> bool:
        """Whether it still looks at the directory from time to time."""
        return self._task is not None and not self._task.done()

    def close(self) -> None:
        """Stop following and remove the widget."""
        if self._task is not None:
            self._task.cancel()
        super().close()
        close_parts(self)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self.every)
            with contextlib.suppress(UserError, OSError):  # a file that is being replaced; the next look reads it
                finished = self.run.finished
                self.refresh()
                if finished:
                    return

    def _repr_mimebundle_(self, **kwargs: Any):
        """The live widget, and its present picture for places where nothing is live."""
        data = super()._repr_mimebundle_(**kwargs)
        if data is not None and self.picture.value:
            data["image/png"] = base64.b64encode(self.picture.value).decode()
        return data


def status(opened: LoadedRun) -> str:
    """One line of HTML: the epoch, the last figures, and the time that is left."""
    name = f"<b>{html.escape(opened.name)}</b>"
    epochs = opened.run.recipe.optim.epochs if opened.run else 0
    metrics = opened.metrics()
    if not metrics:
        return f"{name}: epoch 0 of {epochs}"
    last = metrics[-1]
    shown = [f"{key} {value:.4g}" for key, value in last.items() if key != "epoch"]
    figures = html.escape(", ".join(shown))
    rest = "finished" if opened.run and opened.run.finished else f"about {_minutes_left(opened, epochs):.1f} min left"
    return f"{name}: epoch {last['epoch']} of {epochs}, {rest}; {figures}"


def _minutes_left(opened: LoadedRun, epochs: int) -> float:
    timing = opened.timing()
    seconds = sum(row["seconds"] for row in timing) / max(1, len(timing))
    return (epochs - opened.metrics()[-1]["epoch"]) * seconds / 60


@style.styled
def picture(opened: LoadedRun) -> Figure:
    """Losses and accuracy above; below, for each level, its RMS amplitude now and its history."""
    levels = [each for each in opened.filters if opened.history(each)[0]]
    figure = style.figure(WIDTH, 2.3 * (1 + len(levels)))
    axes = figure.subplots(1 + len(levels), 2, squeeze=False)
    plots.training_curves(opened, axes[0])
    for row, each in zip(axes[1:], levels):
        plots.filter_amplitude(each, ax=row[0], reference=float(each.amplitude().max()) or None)
        row[0].set_title(f"{each.title}: all filters")
        plots.filter_life(opened, each.path, row[1])
    return figure
