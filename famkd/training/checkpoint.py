"""What a training has come to: on disk after every epoch, and taken up again from there."""

from math import inf
from typing import Any

from torch.optim import Optimizer

from famkd import distributed
from famkd.config.load import Recipe, differences
from famkd.distill.distiller import Distiller
from famkd.errors import UserError
from famkd.files import reading
from famkd.run.directory import FORMAT, LOG, Run, leading, notes_of


class TrainingState:
    """The finished epochs of a run, in memory as in its directory; of several processes the first writes."""

    def __init__(self, run: Run, recipe: Recipe, distiller: Distiller, optimizer: Optimizer):
        self.run, self.recipe, self.distiller, self.optimizer = run, recipe, distiller, optimizer
        self.metrics: list[dict[str, Any]] = []
        self.timing: list[dict[str, Any]] = []

    def reopen(self) -> dict[str, Any] | None:
        """Take up what resume.pt holds, and write anew what it tells of the rest; what an unfinished epoch had come to.

        UserError where epochs were finished but nothing sound is left to go on from.
        """
        saved = distributed.on_rank_zero(self.run.read_resume)
        if saved is None:
            distributed.on_rank_zero(self._must_be_empty)
            return None
        with reading(self.run.path / "resume.pt"):
            self.distiller.student.model.load_state_dict(saved["student"])
            self.distiller.methods.load_state_dict(saved["methods"])
            rates = [group["lr"] for group in self.optimizer.param_groups]
            self.optimizer.load_state_dict(saved["optimizer"])
            for group, rate in zip(self.optimizer.param_groups, rates):
                group["lr"] = rate  # on a GPU the very tensor that a captured step reads; each epoch writes it anyway
            self.metrics, self.timing, partial = saved["metrics"], saved["timing"], saved["partial"]
        if not partial:
            distributed.on_rank_zero(self._publish)
        return partial

    def add(self, row: dict[str, Any], clock: dict[str, Any]) -> None:
        """One more epoch: first what --resume needs, then what readers see, so that the one is never behind."""
        self.metrics.append(row)
        self.timing.append(clock)
        if distributed.rank() == 0:
            self._keep(None)
            self._publish()

    def pause(self, partial: dict[str, Any] | None) -> None:
        """Keep what an epoch that was stopped between two steps had come to; readers see none of it."""
        if partial and distributed.rank() == 0:
            self._keep(partial)
        distributed.barrier()

    def _keep(self, partial: dict[str, Any] | None) -> None:
        self.run.write_resume({
            "format": FORMAT, "metrics": self.metrics, "timing": self.timing, "partial": partial,
            "student": self.distiller.student.model.state_dict(), "methods": self.distiller.methods.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        })  # fmt: skip

    def _publish(self) -> None:
        scores = [row[leading(row)] for row in self.metrics]
        best = scores[-1] > max(scores[:-1], default=-inf)
        distiller, epochs = self.distiller, self.recipe.optim.epochs
        taps = {name: dict(zip(("student", "teacher"), distiller.taps(name))) for name in distiller.methods}
        notes = {"taps": taps, "modules": notes_of(distiller.methods)}
        model, methods = distiller.student.model, distiller.methods
        self.run.write_epoch(self.metrics, self.timing, model, methods, notes, best, epochs)

    def _must_be_empty(self) -> None:
        if self.run.metrics():
            raise UserError(
                f"{self.run.path} holds {len(self.run.metrics())} epochs but no resume.pt to go on from: "
                "pass another --out, or move it away to start over."
            )


def must_train(run: Run, recipe: Recipe, resume: bool) -> bool:
    """Whether anything is left to do in a run directory; UserError where it holds something else.

    With `resume`, what was damaged is left to do.
    """
    if not run.begun:
        _must_be_new(run)
        return True
    changed = differences(run.recipe, recipe)
    if changed:
        raise UserError(
            f"{run.path} holds a run of another recipe ({', '.join(changed[:3])} differ): pass another --out or --name."
        )
    if resume:
        return not (run.intact and run.finished)
    if not run.finished:
        raise UserError(f"{run.path} holds an unfinished run: pass --resume to go on, or another --out.")
    return False


def _must_be_new(run: Run) -> None:
    """UserError for a folder of other things, among which a run would get lost."""
    others = {path.name for path in run.path.glob("[!.]*")} - {LOG}
    if others and not (run.path / "recipe.yaml").is_file():
        raise UserError(f"{run.path} is no run but holds {min(others)}: pass another --out.")
