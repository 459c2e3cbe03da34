"""What a run keeps of its methods for readers: small summaries of the filters, and notes."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


def summarise(methods: nn.Module) -> dict[str, Tensor]:
    """Summaries of the modules that have a `summary()`, as "module path/figure" to tensor.

    They are bfloat16, whose range keeps small energies above 0.
    """
    summaries: dict[str, Tensor] = {}
    for path, module in methods.named_modules():
        summary: Callable[[], dict[str, Tensor]] | None = getattr(module, "summary", None)
        if summary is not None:
            summaries |= {f"{path}/{key}": _compact(value) for key, value in summary().items()}
    return summaries


def _compact(value: Tensor) -> Tensor:
    return value.detach().bfloat16().cpu().contiguous()


def notes_of(methods: nn.Module) -> dict[str, Any]:
    """Notes of the modules whose `describe()` returns any, by module path."""
    notes: dict[str, Any] = {}
    for path, module in methods.named_modules():
        describe: Callable[[], dict[str, Any]] | None = getattr(module, "describe", None)
        note = describe() if describe is not None else None
        if note:
            notes[path] = note
    return notes
