"""The trials of a search, kept in a file of Optuna's that several processes and machines can share."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import filelock

from famkd.errors import UserError, counted, nearest
from famkd.sweep.space import Space, whole_numbers

FILE = "trials.log"
PRUNERS = ("median", "hyperband", "none")
WHY = "why"  # attribute of a trial that failed
EPOCH = "epoch"  # attribute of a trial: epochs that it has trained


class Study:
    """The trials of a search in a folder. One process works on a trial at a time; it holds a lock of the trial's.

    Args:
        epochs: of a whole training.
        grace: epochs that every trial trains before it may be pruned.
        trials: the number of trials of the whole study.
    """

    def __init__(self, folder: Path, space: Space, pruner: str, epochs: int, grace: int, trials: int, seed: int):
        optuna = _optuna()
        self.folder, self.trials, self.seed = folder, trials, seed
        self._distributions = _distributions(optuna, space)
        self._asking = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        backend = optuna.storages.journal.JournalFileBackend(str(folder / FILE))
        self.optuna = optuna.create_study(
            study_name=folder.name,
            storage=optuna.storages.JournalStorage(backend),
            pruner=_pruner(optuna, pruner, epochs, grace),
            direction="maximize",
            load_if_exists=True,
        )
        self._must_be_of_these(self.optuna.get_trials(deepcopy=False))

    def take(self) -> "Trial | None":
        """A trial to work on: one that no process works on any more, else a new one. None when there are enough."""
        with self._asking, filelock.FileLock(self.folder / ".asking.lock"):
            known = self.optuna.get_trials(deepcopy=False)
            for old in known:
                if not old.state.is_finished() and (lock := self._locked(old.number)):
                    return Trial(_optuna().trial.Trial(self.optuna, old._trial_id), self, lock)
            if len(known) >= self.trials:
                return None
            # A generator of its own for each trial: a search that is continued, or shared, draws no settings twice.
            draws = 1_000_003 * self.seed + len(known)
            self.optuna.sampler = _optuna().samplers.TPESampler(seed=draws % (1 << 32), constant_liar=True)
            new = self.optuna.ask(self._distributions)
            lock = self._locked(new.number)
            assert lock is not None  # nobody knew this trial before
            return Trial(new, self, lock)

    def _locked(self, number: int) -> filelock.BaseFileLock | None:
        lock = filelock.FileLock(self.folder / f".trial-{number:04d}.lock", is_singleton=False)
        try:
            return lock.acquire(timeout=0).lock
        except filelock.Timeout:
            return None

    def _must_be_of_these(self, known: list[Any]) -> None:
        """UserError where the folder holds trials of another search."""
        for trial in known:
            if trial.distributions != self._distributions:
                raise UserError(
                    f"{self.folder} holds trials of other settings or ranges: rename the search file, or pass another "
                    "--runs."
                )


class Trial:
    """One training of a search, and what it has reported."""

    def __init__(self, trial: Any, study: Study, lock: filelock.BaseFileLock):
        self.number: int = trial.number
        self.values: Mapping[str, Any] = trial.params
        self._trial, self._study, self._lock = trial, study, lock
        self._reported = max(trial.storage.get_trial(trial._trial_id).intermediate_values, default=0)
        self._best: float | None = None
        self.ended = ""  # how, in words

    def report(self, epoch: int, value: float) -> bool:
        """Report the held-out figure of an epoch; returns whether the trial should be pruned."""
        self._best = value if self._best is None else max(self._best, value)
        if epoch <= self._reported:
            return False
        self._reported = epoch
        self._trial.report(value, epoch)
        self._trial.set_user_attr(EPOCH, epoch)
        return self._trial.should_prune()

    def finish(self, pruned: bool, why: str) -> None:
        """Record how the trial ended: with its best held-out figure, pruned, or for a reason that it failed."""
        states = _optuna().trial.TrialState
        how = "pruned" if pruned else "finished"
        self.ended = (
            why or f"{how} after {counted(self._reported, 'epoch')}, {self._best or 0:.2f} % on held-out images"
        )
        if why or self._best is None:
            self._trial.set_user_attr(WHY, why or "no epoch was measured")
            self._study.optuna.tell(self._trial, state=states.FAIL)
        elif pruned:
            self._study.optuna.tell(self._trial, state=states.PRUNED)
        else:
            self._study.optuna.tell(self._trial, self._best)

    def leave(self) -> None:
        """Let go of the trial. If it has not ended, whoever asks next continues it."""
        self._lock.release()


def _optuna() -> Any:
    try:
        import optuna
        import optuna.storages.journal
    except ImportError:
        raise UserError("famkd tune needs the package optuna: pip install 'famkd[tune]'.") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _pruner(optuna: Any, name: str, epochs: int, grace: int) -> Any:
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=grace)
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=max(1, grace), max_resource=epochs)
    if name == "none":
        return optuna.pruners.NopPruner()
    raise UserError(f"There is no pruner {name!r}.{nearest(name, PRUNERS)} There are {', '.join(PRUNERS)}.")


def _distributions(optuna: Any, space: Space) -> dict[str, Any]:
    kinds, whole = optuna.distributions, whole_numbers(space)
    found = {name: kinds.CategoricalDistribution(tuple(values)) for name, values in space.choices.items()}
    for name, (low, high, log) in space.ranges.items():
        if name in whole:
            found[name] = kinds.IntDistribution(int(low), int(high), log=log)
        else:
            found[name] = kinds.FloatDistribution(low, high, log=log)
    return found
