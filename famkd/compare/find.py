"""Find finished runs and saved results, and read their figures."""

import glob
from collections.abc import Iterable
from pathlib import Path

from famkd.compare.groups import RunResult
from famkd.compare.saved import RUNS, read_results
from famkd.config.recipe import Recipe
from famkd.errors import UserError
from famkd.run.directory import Run
from famkd.run.scores import result


def find_runs(places: Iterable[str | Path]) -> list[Path]:
    """Run directories, and folders of saved results, at or below some paths, or matching some patterns.

    Errors: UserError for a path without any run.
    """
    found: dict[Path, None] = {}
    for place in map(str, places):
        matches = [Path(match) for match in sorted(glob.glob(place, recursive=True))] or [Path(place)]
        files = [file for match in matches for name in ("recipe.yaml", RUNS) for file in sorted(match.rglob(name))]
        inside = [file.parent for file in files]
        if not inside:
            raise UserError(f"There is no run at {place}: name run directories, folders of runs or a pattern.")
        found |= dict.fromkeys(inside)
    return list(found)


def read_scores(paths: Iterable[Path]) -> tuple[list[RunResult], list[str]]:
    """The results of the finished runs, and a sentence about each run that was skipped.

    Errors: UserError for saved results that are incomplete or damaged.
    """
    results: list[RunResult] = []
    skipped: list[str] = []
    run: Run | None = None
    for path in paths:
        if not Run(path).exists:
            results += read_results(path)
            continue
        run = Run(path, like=run)
        try:
            recipe, rows = run.recipe, run.metrics()
            done = rows[-1]["epoch"] if rows else 0
            if not run.finished:
                skipped.append(f"Unfinished: {path}, epoch {done} of {recipe.optim.epochs}.")
            else:
                results.append(_result(run, recipe))
        except Exception as error:  # a changed file can fail in any way, and the other runs are still compared
            skipped.append(f"Unreadable: {path}: {error}")
    return results, skipped


def _result(run: Run, recipe: Recipe) -> RunResult:
    found, timing = result(run), run.timing()
    seconds = [float(row["seconds"]) for row in timing]
    peaks = [float(row["peak_mib"]) for row in timing if row.get("peak_mib")]
    peak = max(peaks, default=None)
    return RunResult(run.path, recipe, found.figure, found.last, found.best, found.chosen_on, seconds, peak, found.ema)
