"""famkd: frequency attention for knowledge distillation. The public names, each imported when it is first used."""

from importlib import import_module
from typing import Any

_HOMES = {
    "Batch": "famkd.method",
    "DATA": "famkd.data",
    "Distiller": "famkd.distiller",
    "FAM": "famkd.layers.fourier",
    "FourierFilter": "famkd.layers.fourier",
    "METHODS": "famkd.methods",
    "MODELS": "famkd.models",
    "Method": "famkd.method",
    "Probe": "famkd.method",
    "Recipe": "famkd.recipe",
    "Run": "famkd.run",
    "Tapped": "famkd.taps",
    "UserError": "famkd.errors",
    "View": "famkd.method",
    "build_model": "famkd.models",
    "load_recipe": "famkd.recipe",
    "train": "famkd.training",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'famkd' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
