"""Plug-ins: Python files that register your own models, methods or data sets.

A plug-in is imported only when its user names it, on the command line or in the environment variable FAMKD_PLUGINS.
The plug-ins that a run or a recipe file asks for are compared with the imported ones and never imported themselves, so
that a recipe from somebody else cannot run code. They are compared by file name, so that a run can be resumed from
another folder.
"""

import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path, PureWindowsPath

from famkd.command_line.values import expanded
from famkd.errors import UserError, one_line

VARIABLE = "FAMKD_PLUGINS"  # files to import, separated as in PATH

_imported: dict[Path, str] = {}  # file to the name of its module


def import_plugins(names: Iterable[str] = ()) -> None:
    """Import the named files and those of FAMKD_PLUGINS, each once; UserError for a file that cannot be imported."""
    from_environment = filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))
    for name in [*from_environment, *names]:
        path = Path(os.path.abspath(expanded(name)))
        if path in _imported:
            continue
        if not path.exists():
            raise UserError(f"There is no plug-in {name}: name a Python file such as mine.py, after the recipe.")
        if path.suffix != ".py" or not os.path.isfile(path):
            raise UserError(f"The plug-in {name} is not a Python file: name one such as mine.py, after the recipe.")
        _imported[path] = _import(path, name)


def plugins_in_use(names: Iterable[str] = ()) -> bool:
    """Whether any plug-in is named here or in FAMKD_PLUGINS."""
    return bool(os.environ.get(VARIABLE) or list(names))


def require_imported(names: list[str]) -> None:
    """UserError where a recipe uses plug-ins that were not imported."""
    known = {path.name for path in _imported}  # a Windows path takes both kinds of slash as separators
    if any(PureWindowsPath(name).name not in known for name in names):
        listed = " ".join(names)
        raise UserError(f"This run uses {listed}: pass --plugins {listed} (or set {VARIABLE}) if you trust it.")


def for_processes() -> dict[str, str]:
    """Environment variables with which another process imports the same plug-ins."""
    return {VARIABLE: os.pathsep.join(map(str, _imported))} if _imported else {}


def _import(path: Path, name: str) -> str:
    module_name = f"famkd_plugin_{len(_imported)}_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # pickle and dataclasses look here for what the file defines
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a user's file can raise anything
        del sys.modules[module_name]
        reason = one_line(error)
        raise UserError(f"The plug-in {name} cannot be imported: {type(error).__name__}: {reason}.") from error
    return module_name
