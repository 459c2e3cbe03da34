"""Where runs are, and the files of weights that recipes name."""

from pathlib import Path

from famkd.config.load import load_recipe
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


def run_of(file: Path) -> Run | None:
    """The run whose weights a file is; None for a file of another origin."""
    folder = file if file.is_dir() else file.parent
    ours = file.is_dir() or file.suffix == ".safetensors"
    return Run(folder) if ours and (folder / "metrics.jsonl").is_file() else None
