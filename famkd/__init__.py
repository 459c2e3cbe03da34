"""famkd: frequency attention for knowledge distillation. The public names, each imported when it is first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from famkd.own_loop import distill as distill

_PARTS = ("distill", "losses")  # packages; `famkd.distill` can be called too
_HOMES = {
    "Batch": "famkd.distill.types",
    "DATA": "famkd.data",
    "Dataset": "famkd.distill.types",
    "Datasets": "famkd.data.torch_data",
    "Distillation": "famkd.own_loop",
    "Distiller": "famkd.distill.distiller",
    "FAM": "famkd.layers.fourier",
    "FourierFilter": "famkd.layers.fourier",
    "METHODS": "famkd.methods",
    "MODELS": "famkd.models",
    "Method": "famkd.distill.types",
    "Moment": "famkd.training.callbacks",
    "Probe": "famkd.distill.types",
    "Recipe": "famkd.config.recipe",
    "RecipeError": "famkd.errors",
    "Run": "famkd.run.directory",
    "Scores": "famkd.distill.types",
    "TASKS": "famkd.tasks",
    "Tapped": "famkd.features.taps",
    "Task": "famkd.distill.types",
    "UserError": "famkd.errors",
    "View": "famkd.distill.types",
    "build_model": "famkd.models",
    "load_recipe": "famkd.config.load",
    "train": "famkd.training.loop",
}

__all__ = [*_HOMES, *_PARTS]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _PARTS:
        return import_module(f"famkd.{name}")
    raise AttributeError(f"module 'famkd' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
