"""Choose the stages of a model that does not name them, from the maps that its modules returned in one forward pass."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn

DEEPEST = 4  # number of stages of a model that does not name its own


class ModuleOutput(NamedTuple):
    """The map that a module returned in a probe forward pass."""

    kind: str  # of its layout
    grid: tuple[int, int]  # height and width
    entered: tuple[int, int]  # height and width of the map that the module was given; (0, 0) for none
    start: int  # of the module's call, counted in starts and ends of all calls
    end: int


def find_stages(model: nn.Module, outputs: Mapping[str, ModuleOutput]) -> tuple[str, ...]:
    """Paths of the stages, shallow to deep, among all modules that returned a map.

    Models of timm declare them in `feature_info`. In other models they are the `last_maps`. In both cases the deepest
    four sizes count. Of a network that keeps one size, such as a vision transformer, the stages are four blocks at
    even distances.
    """
    return _declared(model, outputs) or last_maps(model, outputs)


def _declared(model: nn.Module, outputs: Mapping[str, ModuleOutput]) -> tuple[str, ...]:
    """The stages that a model of timm declares; () if it declares none, or modules that do not exist."""
    declared: Any = getattr(model, "feature_info", None)
    if not isinstance(declared, list):
        return ()
    names = dict.fromkeys(str(each.get("module", "")) for each in declared if isinstance(each, dict))
    known = {path for path, _ in model.named_modules()}
    paths = [path for path in names if path in outputs and min(outputs[path].grid) > 1]
    if len(paths) < 2 or len(names.keys() - known) > 1:
        return ()
    if len(paths) <= DEEPEST:
        return tuple(paths)
    last_of_size = {outputs[path].grid: path for path in paths}
    return tuple(last_of_size.values())[-DEEPEST:] if len(last_of_size) > 1 else _spread(paths)


def _spread(paths: list[str]) -> tuple[str, ...]:
    """Four of the paths, at even distances, the last one among them."""
    wanted = min(DEEPEST, len(paths))
    ends = [number * len(paths) // wanted for number in range(1, wanted + 1)]
    return tuple(paths[end - 1] for end in ends)


def last_maps(model: nn.Module, outputs: Mapping[str, ModuleOutput]) -> tuple[str, ...]:
    """The last whole module that returns maps of a size, for each of the deepest four sizes."""
    blocks = tuple(f"{path}." for path, output in outputs.items() if output.kind == "tokens")
    by_size: dict[tuple[int, int], list[str]] = defaultdict(list)
    for path, output in outputs.items():
        inside_block = path.startswith(blocks)  # where heads and queries may look like maps
        if min(output.grid) < 2 or (inside_block and output.kind != "tokens"):
            continue
        if not _is_detour(path, outputs) and not _enlarges(model, path, outputs):
            by_size[output.grid].append(path)
    if not by_size:
        return ()
    if len(by_size) == 1:
        (paths,) = by_size.values()
        return _evenly_spread(model, paths)
    lasts = {_last_whole(model, paths, outputs) for paths in by_size.values()}
    return tuple(path for path in outputs if path in lasts)[-DEEPEST:]


def _is_detour(path: str, outputs: Mapping[str, ModuleOutput]) -> bool:
    """Whether the module has a size that a block around it neither starts nor ends with, as in an attention window."""
    around = [outputs[block] for block in _ancestors(path) if block in outputs]
    return any(block.entered == block.grid != outputs[path].grid for block in around)


def _enlarges(model: nn.Module, path: str, outputs: Mapping[str, ModuleOutput]) -> bool:
    """Whether the module only repeats pixels, as an adaptive pooling of a small map does."""
    output = outputs[path]
    larger = 0 < min(output.entered) < min(output.grid)
    return larger and not list(model.get_submodule(path).parameters())


def _last_whole(model: nn.Module, paths: list[str], outputs: Mapping[str, ModuleOutput]) -> str:
    """The last of the modules with maps of one size that is not the beginning of a block which changes the size."""
    path = paths[-1]
    ancestors = _ancestors(path)
    while ancestors:
        block = ancestors.pop(0)
        changes = block in outputs and outputs[block].grid != outputs[path].grid
        if changes and type(model.get_submodule(block)) is not nn.Sequential:
            earlier = [other for other in paths if outputs[other].end < outputs[block].start]
            if earlier:
                path = earlier[-1]
                ancestors = _ancestors(path)
    return path


def _ancestors(path: str) -> list[str]:
    """Paths of the modules around a module, the nearest first."""
    parts = path.split(".")
    return [".".join(parts[:length]) for length in range(len(parts) - 1, 0, -1)]


def _evenly_spread(model: nn.Module, paths: list[str]) -> tuple[str, ...]:
    """Four of the modules that repeat: siblings of one class. Of several such groups the one with most parameters."""
    families: dict[tuple[str, type], list[str]] = defaultdict(list)
    for path in paths:
        parent = path.rpartition(".")[0]
        families[parent, type(model.get_submodule(path))].append(path)
    repeated = [family for family in families.values() if len(family) > 1]

    def parameters(family: list[str]) -> int:
        return sum(p.numel() for path in family for p in model.get_submodule(path).parameters())

    return _spread(max(repeated or [paths[-1:]], key=parameters))
