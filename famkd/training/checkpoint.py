"""Saving the state of a training after each epoch, and restoring it."""

from typing import Any

from famkd import distributed
from famkd.config.load import differences
from famkd.config.recipe import Recipe
from famkd.distill.distiller import Distiller
from famkd.errors import UserError, counted
from famkd.files import reading
from famkd.run.directory import FORMAT, LOG, Run
from famkd.run.kept import keep_best
from famkd.run.scores import best_row
from famkd.run.summaries import notes_of
from famkd.training.optimizer import load_state
from famkd.training.resume import refused_changes
from famkd.training.step import Step


class TrainingState:
    """The finished epochs of a run, in memory and in its directory. Rank 0 writes."""

    def __init__(self, run: Run, recipe: Recipe, distiller: Distiller, step: Step):
        self.run, self.recipe, self.distiller = run, recipe, distiller
        self.optimizer, self.averaged, self.scaler = step.optimizer, step.averaged, step.scaler
        self.metrics: list[dict[str, Any]] = []
        self.timing: list[dict[str, Any]] = []

    def restore(self) -> dict[str, Any] | None:
        """Load resume.pt, and rewrite the other files from it; returns the state of an interrupted epoch, if any.

        Errors: UserError where epochs were finished but no valid state is left to continue from.
        """
        saved = distributed.on_rank_zero(self.run.read_resume)
        if saved is None:
            distributed.on_rank_zero(self._check_empty)
            return None
        with reading(self.run.path / "resume.pt"):
            self.distiller.student.model.load_state_dict(saved["student"])
            self.distiller.methods.load_state_dict(saved["methods"])
            load_state(self.optimizer, saved["optimizer"])
            if self.averaged is not None:
                self.averaged.set_state(saved["ema"])
            if self.scaler is not None:
                self.scaler.load_state_dict(saved["scaler"])
            self.metrics, self.timing, partial = saved["metrics"], saved["timing"], saved["partial"]
        if not partial:
            distributed.on_rank_zero(self._write_run)
        return partial

    def save_epoch(self, row: dict[str, Any], timing: dict[str, Any]) -> None:
        """Save one more epoch. resume.pt is written before the files that others read, so it is never behind them."""
        self.metrics.append(row)
        self.timing.append(timing)
        if distributed.rank() == 0:
            self._write_resume(None)
            self._write_run()

    def save_partial(self, partial: dict[str, Any] | None) -> None:
        """Save the state of an epoch that was interrupted between two steps; no other file changes."""
        if partial and distributed.rank() == 0:
            self._write_resume(partial)
        distributed.barrier()

    def _write_resume(self, partial: dict[str, Any] | None) -> None:
        state = {
            "format": FORMAT,
            "metrics": self.metrics,
            "timing": self.timing,
            "partial": partial,
            "student": self.distiller.student.model.state_dict(),
            "methods": self.distiller.methods.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        if self.averaged is not None:
            state["ema"] = self.averaged.state()
        if self.scaler is not None:
            state["scaler"] = self.scaler.state_dict()
        self.run.write_resume(state)

    def _write_run(self) -> None:
        best = best_row(self.metrics) == len(self.metrics) - 1
        methods = self.distiller.methods
        taps = {name: dict(zip(("student", "teacher"), self.distiller.taps(name))) for name in methods}
        notes = {"taps": taps, "modules": notes_of(methods)}
        student, epochs = self.distiller.student.model, self.recipe.optim.epochs
        average = self.averaged.network if self.averaged is not None else None
        if self.recipe.keep > 1:
            keep_best(self.run.path, self.metrics, student.state_dict(), self.recipe.keep)
        self.run.write_epoch(self.metrics, self.timing, student, methods, notes, best, epochs, average)

    def _check_empty(self) -> None:
        epochs = len(self.run.metrics())
        if epochs:
            raise UserError(
                f"{self.run.path} holds {counted(epochs, 'epoch')} but no resume.pt to continue from: pass another "
                "--out, or move it away to start over."
            )


def needs_training(run: Run, recipe: Recipe, resume: bool) -> bool:
    """Whether a run directory needs training: it is new, or `resume` is set and it is unfinished or damaged.

    With `resume`, a finished run needs more training too if the recipe has more epochs, and a look at its files if they
    have moved.

    Errors: UserError where it holds something else, or an unfinished run without `resume`.
    """
    if not run.begun:
        _check_new(run)
        return True
    changed = differences(run.recipe, recipe)
    if refused := refused_changes(run, recipe) if resume else changed:
        raise UserError(
            f"{run.path} holds a run of another recipe ({', '.join(refused[:3])} differ): pass another --out or --name."
        )
    if resume:
        return bool(changed) or not (run.intact and run.finished)
    if not run.finished:
        raise UserError(f"{run.path} holds an unfinished run: pass --resume to continue, or another --out.")
    return False


def _check_new(run: Run) -> None:
    """UserError for a folder of other files, among which a run would be hard to find."""
    others = {path.name for path in run.path.glob("[!.]*")} - {LOG}
    if others and not run.exists:
        raise UserError(f"{run.path} is not a run but holds {min(others)}: pass another --out.")
