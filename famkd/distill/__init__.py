"""What distillation is made of: batches, views, methods, and the module where student and teacher meet.

The package can be called: `famkd.distill(student, teacher, ...)` is `famkd.own_loop.distill`.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    """A package and a function of one name: importing any module of the package would hide the function."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return import_module("famkd.own_loop").distill(*arguments, **options)


sys.modules[__name__].__class__ = _CallablePackage
