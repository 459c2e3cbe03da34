"""Where to look at a model that nobody has described: its stages, embedding and head, from one probe forward."""

from collections import defaultdict
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor, nn

from famkd.errors import UserError
from famkd.features.layout import first_tensor, image_size, layout_of, says_prefix

DEEPEST = 4  # stages that are taken of a model that does not name its own


class ModuleOutput(NamedTuple):
    """What a module showed in a probe forward: a map of a size, between two ticks of a clock."""

    kind: str
    grid: tuple[int, int]
    start: int
    end: int


@torch.no_grad()
def discover(model: nn.Module, images: Tensor) -> tuple[dict[str, tuple[str, ...]], str]:
    """Taps of an unknown model, {"stages": ..., "embed": ...}, and its head, from one forward in eval mode.

    A stage is the last whole module that puts out maps of one spatial size; of a network that keeps one size
    throughout, as vision transformers do, four blocks evenly spread. Tokens count as the map that they fold into.
    The embedding is what enters the last linear layer. Maps of the deepest four sizes count.
    """
    size, prefix = image_size(images), says_prefix(model)
    places: dict[str, ModuleOutput] = {}  # by module path, in the order in which they ended
    started: dict[str, int] = {}
    linear: list[str] = []
    clock = count()

    def watch(name: str):
        def begin(module, args):
            started[name] = next(clock)

        def end(module, args, out):
            out = first_tensor(out)
            if isinstance(out, Tensor) and len(out) == len(images):
                kind, grid, _ = layout_of(out.shape, size, prefix)
                places.pop(name, None)
                if min(grid) > 1:
                    places[name] = ModuleOutput(kind, grid, started[name], next(clock))
            if isinstance(module, nn.Linear):
                linear.append(name)

        return begin, end

    handles = []
    for begin, end, module in [(*watch(name), module) for name, module in model.named_modules() if name]:
        handles += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
    training = model.training
    try:
        model.eval()(images)
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        reason, shape = " ".join(str(error).split())[:120], "x".join(map(str, getattr(images, "shape", ())[1:]))
        raise UserError(f"{type(model).__name__} does not run on images of {shape}: {reason}.") from error
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    stages = _stages(model, places)
    if not stages:
        raise UserError(
            f"{type(model).__name__} shows no feature maps: name its taps with --student.taps / --teacher.taps."
        )
    head = linear[-1] if linear else ""
    return {"stages": stages, "embed": (f"{head}:in",) if head else ()}, head


def _stages(model: nn.Module, places: dict[str, ModuleOutput]) -> tuple[str, ...]:
    """Paths of the stages among all places that showed a map."""
    blocks = tuple(f"{name}." for name, place in places.items() if place.kind == "tokens")
    sizes: dict[tuple[int, int], list[str]] = defaultdict(list)
    for name, place in places.items():
        if place.kind == "tokens" or not name.startswith(blocks):  # inside a block are heads and queries, not maps
            sizes[place.grid].append(name)
    if len(sizes) == 1:
        return _evenly_spread(model, *sizes.values())
    lasts = {_last_whole(model, names, places) for names in sizes.values()}
    return tuple(name for name in places if name in lasts)[-DEEPEST:]


def _last_whole(model: nn.Module, names: list[str], places: dict[str, ModuleOutput]) -> str:
    """The last of several places of one size that is not merely the start of a block which goes on to another size."""
    name = names[-1]
    ancestors = _ancestors(name)
    while ancestors:
        block = ancestors.pop(0)
        changes = block in places and places[block].grid != places[name].grid
        if changes and type(model.get_submodule(block)) is not nn.Sequential:
            earlier = [other for other in names if places[other].end < places[block].start]
            if earlier:
                name = earlier[-1]
                ancestors = _ancestors(name)
    return name


def _ancestors(name: str) -> list[str]:
    """Paths of the modules around a module, the nearest first."""
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(len(parts) - 1, 0, -1)]


def _evenly_spread(model: nn.Module, names: list[str]) -> tuple[str, ...]:
    """Four of the modules that repeat: siblings of one class, of all such the ones with most parameters."""
    families: dict[tuple[str, type], list[str]] = defaultdict(list)
    for name in names:
        families[name.rpartition(".")[0], type(model.get_submodule(name))].append(name)
    repeated = [family for family in families.values() if len(family) > 1] or [names[-1:]]

    def parameters(family: list[str]) -> int:
        return sum(p.numel() for name in family for p in model.get_submodule(name).parameters())

    family = max(repeated, key=parameters)
    wanted = min(DEEPEST, len(family))
    return tuple(family[(place + 1) * len(family) // wanted - 1] for place in range(wanted))
