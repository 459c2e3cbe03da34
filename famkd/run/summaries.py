"""What a run keeps of its methods for readers: small summaries of the filters, and notes."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

KEPT_BYTES = 8 << 20  # of single filters in a run; a short training keeps more of them after each epoch


def summarise(methods: nn.Module, epochs: int = 1) -> dict[str, Tensor]:
    """Summaries of the modules that have a `summary(room)`, as "module path/figure" to tensor.

    Real numbers are bfloat16, whose range keeps small energies above 0.

    Args:
        epochs: how many epochs keep a summary. They and the modules share the bytes for single filters.
    """
    found: list[tuple[str, Any]] = [each for each in methods.named_modules() if hasattr(each[1], "summary")]
    room = KEPT_BYTES // max(1, epochs * len(found))
    summaries: dict[str, Tensor] = {}
    for path, module in found:
        summaries |= {f"{path}/{key}": _compact(value) for key, value in module.summary(room).items()}
    return summaries


def _compact(value: Tensor) -> Tensor:
    small = value.detach().bfloat16() if value.is_floating_point() else value
    return small.cpu().contiguous()


def notes_of(methods: nn.Module) -> dict[str, Any]:
    """Notes of the modules whose `describe()` returns any, by module path."""
    notes: dict[str, Any] = {}
    for path, module in methods.named_modules():
        describe: Callable[[], dict[str, Any]] | None = getattr(module, "describe", None)
        note = describe() if describe is not None else None
        if note:
            notes[path] = note
    return notes
