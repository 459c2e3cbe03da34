"""Python files of one's own that register models, methods or data: imported when their user names them, never else.

What a run or a recipe says of its plug-ins is only compared with what was imported: a name in a stranger's file runs
nothing. They are told apart by file name, so that a run may be taken up from another folder.
"""

import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from famkd.errors import UserError

TRUSTED = "FAMKD_PLUGINS"  # files to import, in the environment, joined as those of PATH are

_imported: dict[Path, str] = {}  # file to the name of its module


def import_plugins(names: Iterable[str] = ()) -> None:
    """Import some files and those of FAMKD_PLUGINS, each once; UserError for one that is none or fails."""
    for name in [*filter(None, os.environ.get(TRUSTED, "").split(os.pathsep)), *names]:
        path = Path(os.path.abspath(name))
        if path in _imported:
            continue
        if path.suffix != ".py" or not os.path.isfile(path):
            raise UserError(f"The plug-in {name} is no Python file: name one such as mine.py, and plug-ins last.")
        _imported[path] = _import(path, name)


def must_be_imported(names: list[str]) -> None:
    """UserError where a recipe uses plug-ins that nobody here has named."""
    known = {path.name for path in _imported}
    if any(_file_name(name) not in known for name in names):
        told = " ".join(names)
        raise UserError(f"This run uses {told}: pass --plugins {told} (or set {TRUSTED}) if you trust it.")


def plugins_named(flags: Iterable[str]) -> list[str]:
    """What stands behind `--plugins` on a command line, up to the next flag."""
    found, inside = [], False
    for flag in flags:
        if flag.startswith("-"):
            name, _, value = flag.partition("=")
            inside = name == "--plugins"
            found += [value] if inside and value else []
        elif inside:
            found.append(flag)
    return found


def for_processes() -> dict[str, str]:
    """The environment in which another process imports what this one did."""
    return {TRUSTED: os.pathsep.join(map(str, _imported))} if _imported else {}


def _import(path: Path, name: str) -> str:
    module_name = f"famkd_plugin_{len(_imported)}_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # where pickle and dataclasses look for what it defines
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # it is anybody's code
        del sys.modules[module_name]
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"The plug-in {name} cannot be imported: {type(error).__name__}: {reason}.") from error
    return module_name


def _file_name(name: str) -> str:
    """The last part of a path of any system."""
    return name.replace("\\", "/").rpartition("/")[2]
