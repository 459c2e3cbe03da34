"""A dashboard that follows a run while it trains: losses, accuracy, and its filters as they form."""

import asyncio
import base64
import contextlib
import html

import ipywidgets

from famkd.errors import UserError
from famviz import figures as plots
from famviz.explorer.widget import close_parts
from famviz.figures import style
from famviz.load import LoadedRun, Source, open_runs

WIDTH = 7.4  # inches


class Dashboard(ipywidgets.VBox):
    """Figures of one run, drawn anew whenever an epoch is done, until the run is finished or the widget closed.

    Args:
        run: a run directory, or what `famviz.open` returned for one.
        every: seconds between two looks at the directory. Without a running event loop call `refresh()` yourself.

    Errors: UserError for a bare checkpoint, which has no training to follow.
    """

    def __init__(self, run: Source | LoadedRun, every: float = 2.0):
        opened = open_runs(run)
        if opened.run is None:
            raise UserError(f"{opened.name} is a bare checkpoint: a dashboard follows a run directory.")
        self.run, self.every, self.epoch = opened.run, every, -1
        self.status = ipywidgets.HTML()
        self.picture = ipywidgets.Image(format="png", width=round(WIDTH * style.RULES["figure.dpi"]))
        super().__init__([self.status, self.picture])
        self.refresh()
        self._task = None
        with contextlib.suppress(RuntimeError):  # no event loop: a script
            self._task = asyncio.get_running_loop().create_task(self._follow())

    def refresh(self) -> bool:
        """Look at the run directory now; True where it had something new."""
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
        """Whether it will still look by itself."""
        return self._task is not None and not self._task.done()

    def close(self) -> None:
        """Stop following and take the widget away."""
        if self._task is not None:
            self._task.cancel()
        super().close()
        close_parts(self)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self.every)
            with contextlib.suppress(UserError, OSError):  # a file between two states: the next look sees it whole
                finished = self.run.finished
                self.refresh()
                if finished:
                    return

    def _repr_mimebundle_(self, **kwargs):
        """The live widget, and its present picture for where nothing is live."""
        data = super()._repr_mimebundle_(**kwargs)
        if data is not None and self.picture.value:
            data["image/png"] = base64.b64encode(self.picture.value).decode()
        return data


def status(opened: LoadedRun) -> str:
    """One line of HTML: how far the run is, its last figures, how fast it goes."""
    metrics, timing, epochs = opened.run.metrics(), opened.run.timing(), opened.run.recipe.optim.epochs
    name = f"<b>{html.escape(opened.name)}</b>"
    if not metrics:
        return f"{name}: no epoch done yet, of {epochs}"
    last = metrics[-1]
    figures = ", ".join(f"{html.escape(key)} {value:.4g}" for key, value in last.items() if key != "epoch")
    seconds = sum(row["seconds"] for row in timing) / max(1, len(timing))
    left = (epochs - last["epoch"]) * seconds
    rest = "finished" if last["epoch"] >= epochs else f"about {left / 60:.1f} min left"
    return f"{name}: epoch {last['epoch']} of {epochs}, {rest}; {figures}"


@style.styled
def picture(opened: LoadedRun):
    """Losses and accuracy above, and for each level its RMS amplitude now beside its life so far."""
    levels = [each for each in opened.filters if opened.history(each)[0]]
    figure = style.figure(WIDTH, 2.3 * (1 + len(levels)))
    axes = figure.subplots(1 + len(levels), 2, squeeze=False)
    plots.training_curves(opened, axes[0])
    for row, each in zip(axes[1:], levels):
        plots.filter_amplitude(each, ax=row[0], reference=float(each.amplitude().max()) or None)
        row[0].set_title(f"{each.title}: all filters")
        plots.filter_life(opened, each.path, row[1])
    return figure
