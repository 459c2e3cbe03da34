"""famkd ls: list recipes, models, methods, data sets, optimizers and sweeps.

The tables are read from the source files rather than imported, so that a listing does not wait for torch. Plug-ins may
change the tables, so with plug-ins they are imported.
"""

import ast
import json
import sys
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from famkd.cli.flags import Place, Positional
from famkd.command_line.parse import call
from famkd.config.builtin import builtin_recipes, builtin_sweeps
from famkd.config.plugins import import_plugins, plugins_in_use
from famkd.errors import UserError, nearest

KINDS = {
    "recipes": "trainings: famkd train NAME",
    "models": "networks: --student.model and --teacher.model",
    "methods": "distillation methods: --method",
    "data": "data sets: --data",
    "optimizers": "optimizers: --optim.name",
    "sweeps": "grids of trainings: famkd sweep NAME",
}
TABLES = {
    "methods": [("famkd.methods", "METHODS")],
    "models": [("famkd.models", "MODELS"), ("famkd.models.detection", "DETECTORS")],
    "data": [("famkd.data", "DATA")],
}


def ls_command(argv: list[str]) -> None:
    call(show, argv, prog="famkd ls")


def show(
    kind: Positional[str] = "",
    /,
    sizes: bool = False,
    format: Literal["text", "json"] = "text",
    plugins: tuple[Place, ...] = (),
) -> None:
    """List what is available: one name per line, followed by a description.

    Args:
        kind: What to list: recipes, models, methods, data, optimizers or sweeps. By default these words.
        sizes: Count the parameters of each model, which takes some seconds.
        format: Text, or a JSON list of objects with name and description.
        plugins: Python files that register your own models, methods or data sets. They are imported.
    """
    if kind and kind not in KINDS:
        raise UserError(f"There is no list {kind!r}.{nearest(kind, KINDS)} There are {', '.join(KINDS)}.")
    if sizes and kind != "models":
        raise UserError("--sizes counts the parameters of models: write famkd ls models --sizes.")
    lines = list(_lines(kind, sizes, plugins)) if kind else list(KINDS.items())
    if format == "json":
        print(json.dumps([{"name": name, "description": text} for name, text in lines], indent=1))
        return
    width = max(len(name) for name, _ in lines) + 2
    print("\n".join(f"{name:{width}}{text}".rstrip() for name, text in lines))
    if kind == "models" and sys.stdout.isatty():  # not where another command reads the names
        print("timm:NAME, torchvision:NAME and hf-hub:OWNER/NAME are models too.", file=sys.stderr)


def _lines(kind: str, sizes: bool, plugins: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Name and description of each entry."""
    if kind in ("recipes", "sweeps"):
        paths = builtin_recipes() if kind == "recipes" else builtin_sweeps()
        yield from ((name, _first_comment(path)) for name, path in paths.items())
    elif kind == "optimizers":
        from famkd.config.optimizers import optimizer_names

        yield from optimizer_names().items()
    elif plugins_in_use(plugins):
        import_plugins(plugins)
        yield from imported_table(kind)
    elif kind == "models" and sizes:
        from famkd.models import count_parameters

        yield from ((name, f"{count_parameters(name) / 1e6:.2f} M parameters") for name, _ in static_table(kind))
    else:
        yield from static_table(kind)


def imported_table(kind: str) -> Iterator[tuple[str, str]]:
    """Name and first line of the docstring of each entry of the imported tables."""
    from importlib import import_module

    for module, table in TABLES[kind]:
        for name, entry in getattr(import_module(module), table).items():
            yield name, _first_line(getattr(entry, "func", entry).__doc__)


def static_table(kind: str) -> Iterator[tuple[str, str]]:
    """The same as `imported_table`, read from the source files without importing them."""
    for module, table in TABLES[kind]:
        for name, value in _dictionary(module, table):
            yield name, _first_line(_docstring(module, _called_name(value)))


def _dictionary(module: str, table: str) -> Iterator[tuple[str, ast.expr]]:
    """Keys and values of a dictionary that a module defines as a literal."""
    for node in _tree(module).body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.value, ast.Dict):
            continue
        if isinstance(node.target, ast.Name) and node.target.id == table:
            for key, value in zip(node.value.keys, node.value.values):
                if isinstance(key, ast.Constant):
                    yield str(key.value), value


def _called_name(value: ast.expr) -> str:
    """The name of a class or function, or of the one that `partial` is called with."""
    if isinstance(value, ast.Call):
        value = value.args[0]
    return value.id if isinstance(value, ast.Name) else ""


def _docstring(module: str, name: str) -> str | None:
    """The docstring of a class or function that a module defines or imports."""
    for node in _tree(module).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return ast.get_docstring(node)
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _docstring(node.module, alias.name)
    return None


@cache
def _tree(module: str) -> ast.Module:
    package, *path = module.split(".")
    place: Any = files(package).joinpath(*path)
    file = place / "__init__.py" if place.is_dir() else place.parent / f"{place.name}.py"
    return ast.parse(file.read_text(encoding="utf-8"))


def _first_line(text: str | None) -> str:
    return next(iter((text or "").strip().splitlines()), "")


def _first_comment(path: Path) -> str:
    line = path.read_text(encoding="utf-8").splitlines()[0]
    return line.removeprefix("#").strip() if line.startswith("#") else ""
