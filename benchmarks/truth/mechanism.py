"""Measure how near each student of a study came to its teacher, and whether nearer students are more accurate.

python benchmarks/truth/mechanism.py RUNS OUT [--images 500] [--cams 100]
python benchmarks/truth/mechanism.py OUT                 # prints what was measured before

RUNS is a folder of run directories of one teacher. OUT then holds mechanism.csv, a row per run: accuracy, agreement
with the teacher, RMS difference of the amplitude spectra per stage in dB, and how the Grad-CAM maps of student and
teacher agree. shares.csv has a row per level of each run by fam or fam_review: the share of the global branch. Runs
that OUT holds already are not measured again.
"""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scipy.stats import spearmanr
from torch import nn
from tyro.conf import Positional

from famkd.command_line.main import run_script
from famkd.compare.find import find_runs, read_scores
from famkd.compare.groups import RunResult, group_scores
from famkd.compare.stats import spread
from famkd.errors import UserError
from famkd.files import read_csv, write_csv
from famviz.analysis.compare_networks import compare_networks
from famviz.analysis.effect import effect_table
from famviz.networks import networks, run_images

MEASURED, SHARES = "mechanism.csv", "shares.csv"
Row = dict[str, Any]


def mechanism(runs: Positional[str], out: Positional[str] = "", images: int = 500, cams: int = 100) -> None:
    """Measure every finished run, write the CSV files, and print what they show.

    Args:
        images: test images for agreement and spectra.
        cams: test images for Grad-CAM.
    """
    if out:
        measure(runs, Path(out), images, cams)
    folder = Path(out or runs)
    measured = read_csv(folder / MEASURED)
    print("\n".join([*means(measured), *share_lines(read_csv(folder / SHARES)), *correlations(measured)]))


def measure(runs: str, out: Path, images: int, cams: int) -> None:
    """Measure the runs that the CSV files do not hold yet."""
    scores, skipped = read_scores(find_runs([runs]))
    groups, _ = group_scores(scores)
    taught = next((score for score in scores if score.recipe.method_names), None)
    if taught is None:
        raise UserError(f"No finished run with a teacher under {runs}. {' '.join(skipped)}".strip())
    teacher = networks(taught.path)["teacher"]
    measured: list[Row] = [*read_csv(out / MEASURED)] if (out / MEASURED).is_file() else []
    shares: list[Row] = [*read_csv(out / SHARES)] if (out / SHARES).is_file() else []
    known = {name_of(row) for row in measured}
    for group in groups:
        for seed, score in group.scores.items():
            name = {"recipe": group.recipe.name, "group": group.label, "seed": str(seed)}
            if name_of(name) in known:
                continue
            measured.append(name | {"accuracy": score.last} | distances(score, teacher, images, cams))
            shares += [name | row for row in effect_table(score.path, count=images)]
            write_csv(out / SHARES, shares, digits=4)
            write_csv(out / MEASURED, measured, digits=4)
            print(f"{group.label}, seed {seed}: accuracy {score.last:.2f}", file=sys.stderr, flush=True)


def name_of(row: Row) -> tuple[str, ...]:
    return row["recipe"], row["group"], row["seed"]


def distances(score: RunResult, teacher: nn.Module, images: int, cams: int) -> Row:
    """How far a run's student is from the teacher, on the first test images."""
    shown = run_images(score.path, images)
    both = {"teacher": teacher, "student": networks(score.path)["student"]}
    comparison = compare_networks(both, shown.images, shown.labels, shown.classes)
    row: Row = {"agreement": agreement(comparison.summary())}
    for number, stage in enumerate(comparison.spectra(None), 1):
        row[f"spectrum {number} dB"] = stage.rms_db("student")
    found = next(row for row in comparison.cams(cams, steps=16).rows() if row["network"] == "student")
    row["CAM rank correlation"] = found["rank correlation"]
    row["CAM IoU"] = found["IoU"]
    row["insertion minus chance"] = found["insertion minus chance"]
    return row


def agreement(summary: Iterable[Mapping[str, Any]]) -> Any:
    """The share of images on which student and teacher predict the same class."""
    return next(row for row in summary if row["network"] == "student")["same class"]


def means(rows: list[Row]) -> list[str]:
    """The mean and standard deviation of each figure over the seeds of a group."""
    return [
        f"{group} (n = {len(some)}): " + ", ".join(f"{key} {spread(column(some, key))}" for key in figures_of(rows))
        for group, some in by(rows, "group").items()
    ]


def share_lines(rows: list[Row]) -> list[str]:
    """The share of the global branch in what a level adds up, for each seed."""
    lines = []
    for group, some in by(rows, "group").items():
        for level, seeds in by(some, "level").items():
            shares = column(seeds, "global on these features")
            if shares:
                lines.append(f"{group}, {level}: global branch {', '.join(f'{100 * each:.1f}' for each in shares)} %")
    return lines


def correlations(rows: list[Row]) -> list[str]:
    """The rank correlation of each figure with accuracy: over all runs, and over the students with a teacher."""
    lines = []
    for title, some in (("all runs", rows), ("runs with a teacher", [row for row in rows if row["group"] != "none"])):
        for key in figures_of(rows)[1:]:
            have = [row for row in some if row.get(key)]
            values, accuracy = column(have, key), column(have, "accuracy")
            if len(values) > 3 and len(set(values)) > 1:
                test: Any = spearmanr(values, accuracy)
                lines.append(
                    f"{key} and accuracy, {title} (n = {len(values)}): {test.statistic:+.2f}, p {test.pvalue:.3f}"
                )
    return lines


def figures_of(rows: list[Row]) -> list[str]:
    """The names of the figures, accuracy first."""
    return [key for key in rows[0] if key not in ("recipe", "group", "seed")]


def column(rows: list[Row], key: str) -> list[float]:
    return [float(row[key]) for row in rows if row.get(key)]


def by(rows: list[Row], key: str) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row)
    return found


if __name__ == "__main__":
    run_script(mechanism)
