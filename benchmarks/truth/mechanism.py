"""Measure how near each student of a study came to its teacher, and whether nearer students are more accurate.

python benchmarks/truth/mechanism.py RUNS OUT [--images 500] [--cams 100]

RUNS is a folder of run directories of one teacher. OUT then holds mechanism.csv, a row per run: accuracy, agreement
with the teacher, RMS difference of the amplitude spectra per stage in dB, and how the Grad-CAM maps of student and
teacher agree. shares.csv has a row per level of each run by fam or fam_review: the share of the global branch.
"""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scipy.stats import spearmanr
from torch import nn
from tyro.conf import Positional

from famkd.command_line.parse import call
from famkd.compare.find import find_runs, read_scores
from famkd.compare.groups import RunResult, group_scores
from famkd.errors import UserError
from famkd.files import write_csv
from famviz.analysis.compare_networks import compare_networks
from famviz.analysis.effect import effect_table
from famviz.networks import networks, run_images

Row = dict[str, Any]


def mechanism(runs: Positional[str], out: Positional[str], images: int = 500, cams: int = 100) -> None:
    """Measure every finished run and write the CSV files.

    Args:
        images: test images for agreement and spectra.
        cams: test images for Grad-CAM.
    """
    scores, skipped = read_scores(find_runs([runs]))
    groups, _ = group_scores(scores)
    taught = next((score for score in scores if score.recipe.method_names), None)
    if taught is None:
        raise UserError(f"No finished run with a teacher under {runs}. {' '.join(skipped)}".strip())
    teacher = networks(taught.path)["teacher"]
    measured, shares = [], []
    for group in groups:
        for seed, score in group.scores.items():
            name = {"recipe": group.recipe.name, "group": group.label, "seed": seed}
            measured.append(name | {"accuracy": score.last} | distances(score, teacher, images, cams))
            shares += [name | row for row in effect_table(score.path, count=images)]
            print(f"{group.label}, seed {seed}: accuracy {score.last:.2f}", flush=True)
    write_csv(Path(out) / "mechanism.csv", measured, digits=4)
    write_csv(Path(out) / "shares.csv", shares, digits=4)
    print("\n".join(correlations(measured)))


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


def correlations(rows: list[Row]) -> list[str]:
    """The rank correlation of each figure with accuracy: over all runs, and over the students with a teacher."""
    lines = []
    figures = [key for key in rows[0] if key not in ("recipe", "group", "seed", "accuracy")]
    for title, some in (("all runs", rows), ("runs with a teacher", [row for row in rows if row["group"] != "none"])):
        for key in figures:
            pairs = [(row[key], row["accuracy"]) for row in some if key in row]
            if len(pairs) > 3 and len({value for value, _ in pairs}) > 1:
                test: Any = spearmanr([value for value, _ in pairs], [accuracy for _, accuracy in pairs])
                lines.append(
                    f"{key} and accuracy, {title} (n = {len(pairs)}): {test.statistic:+.2f}, p {test.pvalue:.3f}"
                )
    return lines


if __name__ == "__main__":
    call(mechanism, sys.argv[1:], prog="python benchmarks/truth/mechanism.py")
