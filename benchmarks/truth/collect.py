"""Write the figures of finished runs as CSV files that can be committed.

python benchmarks/truth/collect.py RUNS OUT

RUNS is a folder of run directories, such as runs/methods. OUT then holds runs.csv (a row per run), epochs.csv (a row
per epoch) and the recipe of each group under recipes/.
"""

import csv
import re
import sys
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from famkd.command_line.parse import call
from famkd.compare.groups import RunResult, SeedGroup, find_runs, group_scores, read_scores
from famkd.errors import UserError
from famkd.run.directory import Run
from famkd.run.scores import result


def collect(runs: Positional[str], out: Positional[str]) -> None:
    """Read every finished run under `runs` and write the CSV files to `out`."""
    scores, skipped = read_scores(find_runs([runs]))
    if not scores:
        raise UserError(f"No finished run under {runs}. {' '.join(skipped)}")
    groups, repeated = group_scores(scores)
    run_rows, epoch_rows = [], []
    for group in sorted(groups, key=lambda group: (group.recipe.name, group.label)):
        write_recipe(group, Path(out) / "recipes")
        for seed, score in group.scores.items():
            name = {"recipe": group.recipe.name, "group": group.label, "seed": seed}
            run_rows.append(name | run_row(score))
            epoch_rows += [name | row for row in epoch_rows_of(Run(score.path))]
    write_csv(Path(out) / "runs.csv", run_rows)
    write_csv(Path(out) / "epochs.csv", epoch_rows)
    print(f"{len(run_rows)} runs in {len(groups)} groups written to {out}")
    for line in (*skipped, *repeated):
        print(line)


def run_row(score: RunResult) -> dict[str, Any]:
    """The figures of one run, and what it ran on."""
    run, found = Run(score.path), result(Run(score.path))
    machine = run.machine
    return {
        "method": score.recipe.method,
        "epochs": score.recipe.optim.epochs,
        "figure": found.figure,
        "last": found.last,
        "best": found.best,
        "best_epoch": found.best_epoch,
        "chosen_on": found.chosen_on,
        "teacher": run.teacher.get(found.figure, ""),
        "hours": round(sum(score.seconds) / 3600, 4),
        "device": machine["device"],
        "torch": machine["torch"],
        "commit": machine.get("commit", ""),
    }


def epoch_rows_of(run: Run) -> list[dict[str, Any]]:
    """Metrics and seconds of each epoch."""
    return [row | {"seconds": timing["seconds"]} for row, timing in zip(run.metrics(), run.timing())]


def write_recipe(group: SeedGroup, folder: Path) -> None:
    """The resolved recipe of a group's first run."""
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^\w.+=-]+", "_", f"{group.recipe.name}-{group.label}")
    (folder / f"{name}.yaml").write_text(group.recipe.to_yaml())


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rows under the union of their columns."""
    columns = dict.fromkeys(key for row in rows for key in row)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(columns), restval="")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    call(collect, sys.argv[1:], prog="python benchmarks/truth/collect.py")
