"""Search for settings: trainings that Optuna chooses, judged by held-out images and pruned when they fall behind."""

import threading
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

from famkd.config.load import load_recipe
from famkd.config.recipe import Recipe
from famkd.config.validate import validated
from famkd.console import console
from famkd.errors import TrainingStopped, UserError
from famkd.run.directory import Run
from famkd.run.scores import leading
from famkd.sweep.grid import teacher_jobs
from famkd.sweep.jobs import Job, one_per_gpu, places, plugin_flags, run_job, train_command
from famkd.sweep.results import Tuned, results
from famkd.sweep.space import Space, read_space
from famkd.sweep.study import Study, Trial
from famkd.training.rehearse import rehearse
from famkd.training.stop import stop_requests

GRACE = 10  # per cent of the epochs that every trial trains before it may be pruned, unless the user says otherwise


def tune(
    source: str | Path,
    *,
    trials: int = 50,
    jobs: int = 0,
    pruner: str = "median",
    grace: int = 0,
    seed: int = 0,
    runs: str | Path = "runs",
    plugins: Iterable[str] = (),
) -> Tuned:
    """Run the trials of a search file until there are `trials` of them; returns what was found.

    Several processes may do this at once with the same file and the same folder of runs, also on several machines.

    Args:
        jobs: trainings at once; by default one per GPU, or one on a machine without a GPU.
        pruner: median stops a trial that is worse than the median of the others at the same epoch; hyperband; none.
        grace: epochs before a trial may be pruned; by default a tenth of the training.
        seed: of the choice of settings, not of the trainings.

    Errors: UserError where the file cannot be read, or no trial has finished; TrainingStopped after SIGTERM or SIGUSR1,
    once every training has saved its state.
    """
    path, runs = Path(source), Path(runs)
    space, plugins = read_space(path), list(plugins)
    example = _recipe(space, space.flags(space.example()), plugins)
    if not example.data.val:
        raise UserError(f"famkd tune chooses on held-out images: add `data.val: 0.1` to {path}.")
    rehearse(validated(example), runs / path.stem / "rehearsal", runs)  # a folder that is never made
    grace = grace or -(-example.optim.epochs * GRACE // 100)
    study = Study(runs / path.stem, space, pruner, example.optim.epochs, grace, trials, seed)
    _Search(study, space, runs, plugins).run(jobs or one_per_gpu())
    return results(study, path)


def _recipe(space: Space, flags: list[str], plugins: list[str]) -> Recipe:
    return load_recipe(space.recipe, *plugin_flags(plugins), *flags, "--no_baseline")


class _Search:
    """The trainings of a search that run in this process's children."""

    def __init__(self, study: Study, space: Space, runs: Path, plugins: list[str]):
        self.study, self.space, self.runs, self.plugins = study, space, runs, plugins
        self.stopping = threading.Event()
        self.preparing = threading.Lock()  # one trial at a time reads its recipe and trains its teacher

    def run(self, at_once: int) -> None:
        """Work on trials, several at once, until there are enough or a signal comes."""
        pool = ThreadPoolExecutor(at_once)
        try:
            with stop_requests() as requested:
                running = {pool.submit(self._work, variables) for variables in places(at_once)}
                while running:
                    ended, running = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
                    for worker in ended:
                        worker.result()
                    if reason := requested():
                        raise TrainingStopped(
                            f"stopped by {reason}; every training has saved its state, the same command continues"
                        )
        finally:
            self.stopping.set()  # every training is told within a second
            pool.shutdown()

    def _work(self, variables: dict[str, str]) -> None:
        """Train one trial after another on one GPU or a share of the cores."""
        while not self.stopping.is_set() and (trial := self.study.take()):
            try:
                with self.preparing:
                    job, why = self._prepared(trial, variables)
                if self.stopping.is_set():
                    return  # the teacher may have been told to stop too
                if job is None:
                    trial.finish(False, why)
                else:
                    self._train(trial, job, variables)
            finally:
                trial.leave()

    def _prepared(self, trial: Trial, variables: dict[str, str]) -> tuple[Job | None, str]:
        """The training of a trial, once its teacher is trained; or None, and why it cannot be trained."""
        flags = self.space.flags(trial.values)
        out = self.study.folder / f"trial-{trial.number:04d}"
        try:
            recipe = validated(_recipe(self.space, flags, self.plugins))
        except UserError as error:
            return None, str(error)
        command = [*train_command(self.space.recipe, self.runs), "--out", str(out), *plugin_flags(self.plugins)]
        job = Job(f"trial {trial.number}", recipe, out, [*command, *flags, "--no_baseline"])
        for teacher in teacher_jobs([job], self.runs, self.plugins):
            if why := run_job(teacher.command, str(teacher.out), variables, enough=self.stopping.is_set).why:
                return None, f"its teacher failed: {why}"
        return job, ""

    def _train(self, trial: Trial, job: Job, variables: dict[str, str]) -> None:
        """Train a trial to its end, or until it is pruned."""
        pruned = False

        def enough() -> bool:
            nonlocal pruned
            pruned = pruned or _reported(trial, Run(job.out))
            return pruned or self.stopping.is_set()

        ended = run_job(job.command, str(job.out), variables, enough=enough)
        if ended.stopped and not pruned:
            return  # it is continued later
        _reported(trial, Run(job.out))
        trial.finish(pruned and bool(ended.why), "" if pruned else ended.why)
        console.print(f"[{trial.number + 1}/{self.study.trials}] {job.title}: {trial.ended}")


def _reported(trial: Trial, run: Run) -> bool:
    """Report the epochs that a run has finished; returns whether the trial should be pruned."""
    pruned = False
    for row in run.metrics():
        pruned = trial.report(row["epoch"], row[leading(row)]) or pruned
    return pruned
