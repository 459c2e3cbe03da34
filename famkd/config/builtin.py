"""Recipes and sweeps of the package by name; it imports nothing heavy, so that a misspelt name is told at once."""

import os
from importlib.resources import files
from pathlib import Path

from famkd.errors import UserError, nearest


def builtin_recipes() -> dict[str, Path]:
    """Every recipe in the package: name to file."""
    root = Path(str(files("famkd") / "recipes"))
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.rglob("*.yaml"))}


def find_recipe(source: str) -> tuple[Path, str]:
    """File and name of a recipe given by shipped name, by path, or by the directory of a run made from it."""
    shipped = builtin_recipes()
    if source in shipped:
        return shipped[source], source
    path = Path(source)
    if os.path.isfile(path / "recipe.yaml"):  # unlike Path's own, it takes a name that is too long as missing
        path = path / "recipe.yaml"
    if os.path.isfile(path):
        return path, path.stem
    raise UserError(f"There is no recipe or file {source!r}.{nearest(source, shipped)} See `famkd ls recipes`.")


def builtin_sweeps() -> dict[str, Path]:
    """Every sweep in the package: name to file."""
    return {path.stem: path for path in sorted(Path(str(files("famkd") / "sweep" / "grids")).glob("*.yaml"))}


def find_sweep(source: str) -> Path:
    """A sweep of the package by name, or a file."""
    shipped = builtin_sweeps()
    path = shipped.get(source, Path(source))
    if not os.path.isfile(path):
        raise UserError(f"There is no sweep or file {source!r}.{nearest(source, shipped)} See `famkd ls sweeps`.")
    return path
