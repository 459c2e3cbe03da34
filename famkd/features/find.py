"""Find the stages, the embedding and the classifier of a model that does not name them, in one forward pass."""

from collections import defaultdict
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from famkd.errors import UserError
from famkd.features.layout import first_tensor, layout_of, says_prefix
from famkd.features.prepare import network_size

DEEPEST = 4  # number of stages of a model that does not name its own


class ModuleOutput(NamedTuple):
    """The map that a module returned in a probe forward pass."""

    kind: str  # of its layout
    grid: tuple[int, int]  # height and width
    start: int  # of the module's call, counted in starts and ends of all calls
    end: int


@torch.no_grad()
def discover(model: nn.Module, images: Tensor) -> tuple[dict[str, tuple[str, ...]], str]:
    """Taps of a model, {"stages": ..., "embed": ...}, and the path of its classifier, from one forward pass.

    A stage is the last whole module that returns maps of one spatial size; the deepest four sizes count. Of a network
    that keeps one size, such as a vision transformer, the stages are four blocks at even distances. Tokens count as
    the map that they fold into. The embedding is the input of the last linear layer.

    The model runs in eval mode and gets its mode back. Errors: UserError if it cannot run on the images or returns no
    maps.
    """
    outputs, linear = _watch_forward(model, images)
    stages = _stages(model, outputs)
    if not stages:
        raise UserError(
            f"{type(model).__name__} shows no feature maps: name its taps with --student.taps / --teacher.taps."
        )
    if not linear:
        return {"stages": stages, "embed": ()}, ""
    head = linear[-1]
    return {"stages": stages, "embed": (f"{head}:in",)}, head


def _watch_forward(model: nn.Module, images: Tensor) -> tuple[dict[str, ModuleOutput], list[str]]:
    """Maps by module path, in the order in which the calls ended, and the paths of the linear layers called."""
    size, prefix = network_size(model, images), says_prefix(model)
    outputs: dict[str, ModuleOutput] = {}
    linear: list[str] = []
    started: dict[nn.Module, int] = {}
    paths = {module: path for path, module in model.named_modules() if path}
    clock = count()

    def begin(module: nn.Module, args: Any) -> None:
        started[module] = next(clock)

    def end(module: nn.Module, args: Any, out: Any) -> None:
        path, out = paths[module], first_tensor(out)
        if isinstance(out, Tensor) and len(out) == len(images):
            kind, grid, _ = layout_of(out.shape, size, prefix)
            outputs.pop(path, None)  # the last call of a module counts
            if min(grid) > 1:
                outputs[path] = ModuleOutput(kind, grid, started[module], next(clock))
        if isinstance(module, nn.Linear):
            linear.append(path)

    handles = []
    for module in paths:
        handles += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
    try:
        _run_in_eval_mode(model, images)
    finally:
        for handle in handles:
            handle.remove()
    return outputs, linear


def _run_in_eval_mode(model: nn.Module, images: Tensor) -> None:
    training = model.training
    try:
        model.eval()(images)
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        shape = "x".join(map(str, getattr(images, "shape", ())[1:]))
        raise UserError(f"{type(model).__name__} does not run on images of {shape}: {reason}.") from error
    finally:
        model.train(training)


def _stages(model: nn.Module, outputs: dict[str, ModuleOutput]) -> tuple[str, ...]:
    """Paths of the stages among all modules that returned a map."""
    blocks = tuple(f"{path}." for path, output in outputs.items() if output.kind == "tokens")
    by_size: dict[tuple[int, int], list[str]] = defaultdict(list)
    for path, output in outputs.items():
        inside_block = path.startswith(blocks)  # where heads and queries may look like maps
        if output.kind == "tokens" or not inside_block:
            by_size[output.grid].append(path)
    if len(by_size) == 1:
        (paths,) = by_size.values()
        return _evenly_spread(model, paths)
    lasts = {_last_whole(model, paths, outputs) for paths in by_size.values()}
    return tuple(path for path in outputs if path in lasts)[-DEEPEST:]


def _last_whole(model: nn.Module, paths: list[str], outputs: dict[str, ModuleOutput]) -> str:
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

    family = max(repeated or [paths[-1:]], key=parameters)
    wanted = min(DEEPEST, len(family))
    ends = [number * len(family) // wanted for number in range(1, wanted + 1)]
    return tuple(family[end - 1] for end in ends)
