"""Run directories with given figures, written without training."""

from functools import cache
from pathlib import Path

from famkd.config.load import load_recipe
from famkd.files import write_rows

FAM = ("--method", "fam_review", "--teacher.model", "resnet8", "--teacher.weights", "teacher.pt")  # for fixture `pair`


def write_run(path: Path, *flags: str, recipe="quickstart", last=50.0, best=60.0, epochs=5, figure="top1") -> Path:
    """A finished run whose first epoch is the best one."""
    path.mkdir(parents=True)
    (path / "recipe.yaml").write_text(_text(recipe, flags))
    scores = [best, *[last] * (epochs - 1)]
    rows = [{"epoch": n + 1, "task.ce": 1.0, figure: score, "top5": 99.0, "lr": 0.1} for n, score in enumerate(scores)]
    clocks = [{"epoch": n + 1, "seconds": 2.0 + n, "images_per_s": 1.0, "peak_mib": None} for n in range(epochs)]
    write_rows(path / "metrics.jsonl", rows)
    write_rows(path / "timing.jsonl", clocks)
    return path


@cache
def _text(recipe: str, flags: tuple[str, ...]) -> str:
    return load_recipe(recipe, *flags).to_yaml()
