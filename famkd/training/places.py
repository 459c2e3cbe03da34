"""Where runs are, and the files of weights that recipes name."""

import hashlib
from pathlib import Path

from famkd.config.load import differences, load_recipe, without_teacher
from famkd.config.recipe import Net, Recipe
from famkd.run.directory import Run


def default_run(recipe: Recipe, runs: str | Path = "runs") -> Run:
    """The run that a recipe leaves by default."""
    return Run(Path(runs) / recipe.name / f"{recipe.method}-seed{recipe.seed}")


def recipe_run(name: str, runs: str | Path = "runs") -> Run:
    """The run that a recipe, given by the name of a built-in one or by its file, leaves by default."""
    return default_run(load_recipe(name), runs)


def weights_file(net: Net, runs: str | Path = "runs") -> tuple[Path, str]:
    """The file or folder that the weights of a network name, and which of its copies: FILE:ema names the copy ema."""
    name = net.weights.removeprefix("recipe:")
    if name != net.weights:
        return recipe_run(name, runs).path / "student.safetensors", ""
    path, part = Path(name), ""
    before, colon, after = name.rpartition(":")
    if colon and not path.exists() and Path(before).exists():
        path, part = Path(before), after
    if (path / "recipe.yaml").is_file() or (path / "student.safetensors").is_file():
        return path / f"{part or 'student'}.safetensors", ""
    return path, part


def weights_digest(net: Net, runs: str | Path = "runs") -> str:
    """SHA-256 of the file of a network's weights, or of all files of a folder; "" where there is neither."""
    if net.weights.partition(":")[0] == "pretrained":
        return ""  # a library brings them
    path, part = weights_file(net, runs)
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256(part.encode())
    for file in files:
        if not file.is_file():
            return ""
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def student_alone(recipe: Recipe, folder: Path) -> Run | None:
    """The finished run in a folder that trained the same student by the same protocol without a teacher."""
    alone = Run(folder / f"none-seed{recipe.seed}")
    if not recipe.method_names or not alone.finished or differences(alone.recipe, without_teacher(recipe)):
        return None
    return alone


def run_of(file: Path) -> Run | None:
    """The run whose weights a file is; None for a file of another origin."""
    folder = file if file.is_dir() else file.parent
    ours = file.is_dir() or file.suffix == ".safetensors"
    return Run(folder) if ours and (folder / "metrics.jsonl").is_file() else None
