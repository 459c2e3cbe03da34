"""The tensors in whatever a network returns: tuples, dictionaries and objects, and the way to each tensor."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

DEEPEST = 4  # containers within containers that are searched
MOST_LISTED = 6  # tensors that a sentence lists


class Step(NamedTuple):
    """One step into a container: `out[name]` or `out.name`."""

    how: Literal["item", "attribute"]
    name: Any


class Part(NamedTuple):
    """A tensor in what a network returned."""

    steps: tuple[Step, ...]  # the way to it
    name: str  # the same as text, such as `out.logits` or `1`
    value: Tensor


def take(out: Any, steps: tuple[Step, ...]) -> Any:
    """What lies at the end of a way."""
    for how, name in steps:
        out = out[name] if how == "item" else getattr(out, name)
    return out


def tensors(out: Any, depth: int = DEEPEST) -> Iterator[Part]:
    """Every tensor in what a network returned, in order."""
    if isinstance(out, Tensor):
        yield Part((), "", out)
    elif depth:
        for step, names, value in _inside(out):
            for part in tensors(value, depth - 1):
                name = f"{names[0]}.{part.name}" if part.name else names[0]
                yield Part((step, *part.steps), name, part.value)


def way_to(out: Any, path: str) -> tuple[Step, ...] | None:
    """The way along a dotted path of keys, attributes and indices; None if there is no such part."""
    if not path:
        return ()
    for step, names, value in _inside(out):
        for name in names:
            if path == name or path.startswith(f"{name}."):
                rest = way_to(value, path[len(name) + 1 :])
                if rest is not None:
                    return (step, *rest)
    return None


def described(out: Any, batch: int) -> str:
    """What a network returned for a batch of images, in words: its type, and names and shapes of its tensors."""
    if isinstance(out, Tensor):
        return f"a tensor {_shape(out, batch)}"
    kind = "None" if out is None else f"a {type(out).__name__}"
    listed = [f"{part.name} {_shape(part.value, batch)}" for part in tensors(out)]
    if not listed:
        return kind if out is None else f"{kind} without tensors"
    more = f" and {len(listed) - MOST_LISTED} more" if len(listed) > MOST_LISTED else ""
    return f"{kind} of {', '.join(listed[:MOST_LISTED])}{more}"


def _shape(tensor: Tensor, batch: int) -> str:
    sizes = [str(size) for size in tensor.shape]
    if tensor.ndim and tensor.shape[0] == batch:
        sizes[0] = "batch"
    return f"({', '.join(sizes)}) {str(tensor.dtype).removeprefix('torch.')}"


def _inside(out: Any) -> list[tuple[Step, list[str], Any]]:
    """The things in a container: the step to each, the names it goes by, and the thing."""
    if isinstance(out, Mapping):
        return [(Step("item", key), [str(key)], value) for key, value in out.items()]
    if isinstance(out, tuple | list):
        own_names = getattr(out, "_fields", ())  # of a named tuple
        found = []
        for place, value in enumerate(out):
            names = [*own_names[place : place + 1], str(place), str(place - len(out))]
            found.append((Step("item", place), names, value))
        return found
    if isinstance(out, Tensor | nn.Module | type | str) or out is None:
        return []
    return [(Step("attribute", name), [name], getattr(out, name)) for name in _attributes(out)]


def _attributes(out: Any) -> list[str]:
    names = [each.name for each in fields(out)] if is_dataclass(out) else list(getattr(out, "__dict__", {}))
    if "logits" not in names and hasattr(out, "logits"):  # a property or a slot
        names.append("logits")
    return [name for name in names if not name.startswith("_") and hasattr(out, name)]
