"""Built-in recipes and sweeps by name. This imports nothing heavy, so that a misspelt name fails immediately."""

import contextlib
import os
from importlib.resources import files
from pathlib import Path

from famkd.command_line.values import expanded
from famkd.errors import UserError, nearest


def builtin_recipes() -> dict[str, Path]:
    """Every built-in recipe: name to file."""
    root = Path(str(files("famkd") / "recipes"))
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.rglob("*.yaml"))}


def find_recipe(source: str) -> tuple[Path, str]:
    """File and name of a recipe given by built-in name, by path, or by the directory of a run made from it."""
    builtin = builtin_recipes()
    if source in builtin:
        return builtin[source], source
    path = Path(expanded(source))
    if os.path.isfile(path / "recipe.yaml"):  # unlike Path.is_file, it returns False for a name that is too long
        path = path / "recipe.yaml"
    if os.path.isfile(path):
        return path, path.stem
    if os.path.isdir(path):
        raise UserError(f"{source} is a folder without a recipe.yaml: name a recipe, a file or the folder of a run.")
    known = [*builtin, *_yaml_files(path)]
    raise UserError(f"There is no recipe or file {source!r}.{nearest(source, known)} See `famkd ls recipes`.")


def builtin_sweeps() -> dict[str, Path]:
    """Every built-in sweep: name to file."""
    return {path.stem: path for path in sorted(Path(str(files("famkd") / "sweep" / "grids")).glob("*.yaml"))}


def find_sweep(source: str) -> Path:
    """A built-in sweep by name, or a file."""
    builtin = builtin_sweeps()
    if not source:
        raise UserError("Name a sweep or a file: famkd sweep ablations, or one of `famkd ls sweeps`.")
    path = builtin.get(source, Path(expanded(source)))
    if not os.path.isfile(path):
        known = [*builtin, *_yaml_files(path)]
        raise UserError(f"There is no sweep or file {source!r}.{nearest(source, known)} See `famkd ls sweeps`.")
    return path


def _yaml_files(path: Path) -> list[str]:
    """The YAML files next to a path that does not exist, for a hint."""
    with contextlib.suppress(OSError, ValueError):
        return [str(file) for ending in ("yaml", "yml") for file in path.parent.glob(f"*.{ending}")]
    return []
