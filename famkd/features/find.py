"""Find the stages, the embedding and the classifier of a model that does not name them, in one forward pass."""

from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from famkd.errors import UserError
from famkd.features.answer import Answer
from famkd.features.layout import NO_MAP, Layout, first_tensor, layout_of, says_prefix
from famkd.features.prepare import network_size
from famkd.features.run_once import run_in_eval_mode
from famkd.features.stages import ModuleOutput, find_stages, last_maps


def discover(model: nn.Module, images: Tensor, answer: Answer | None = None) -> tuple[dict[str, tuple[str, ...]], str]:
    """Taps of a model, {"stages": ..., "embed": ..., "maps": ...}, and the path of its classifier, by one forward pass.

    The stages are those that a model of timm declares, or else those that `find_stages` finds. Tokens count as the map
    that they fold into. The classifier is the layer that returns the logits, the embedding is its input.

    The model runs in eval mode and gets its mode back. Errors: UserError if it cannot run on the images or returns no
    maps.

    Args:
        answer: how to read the logits in what the model returns; None if it returns them.
    """
    watched = _watch_forward(model, images)
    head = _classifier(watched, answer)
    before_head = {
        path: output for path, output in watched.maps.items() if _comes_before(output, watched.maps.get(head))
    }
    stages = find_stages(model, before_head)
    if not stages:
        raise UserError(
            f"{type(model).__name__} shows no feature maps: name its taps with --student.taps / --teacher.taps."
        )
    places = {"stages": stages, "embed": (f"{head}:in",) if head else (), "maps": last_maps(model, before_head)}
    return places, head


def find_classifier(model: nn.Module, images: Tensor, answer: Answer | None = None) -> str:
    """Path of the layer that returns the logits, or ""; arguments as for `discover`. The model may have no maps."""
    return _classifier(_watch_forward(model, images), answer)


class Watched(NamedTuple):
    """What the modules of a model returned in one forward pass, in the order in which their calls ended."""

    maps: dict[str, ModuleOutput]
    linear: dict[str, Tensor]  # outputs of linear layers and of 1x1 convolutions
    returned: Any  # by the model


def _watch_forward(model: nn.Module, images: Tensor) -> Watched:
    size, prefix = network_size(model, images), says_prefix(model)
    outputs: dict[str, ModuleOutput] = {}
    linear: dict[str, Tensor] = {}
    started: dict[nn.Module, tuple[int, tuple[int, int]]] = {}
    paths = {module: path for path, module in model.named_modules() if path}
    clock = count()

    def layout(value: Any) -> Layout:
        is_batch = isinstance(value, Tensor) and value.ndim > 0 and len(value) == len(images)
        return layout_of(value.shape, size, prefix) if is_batch else NO_MAP

    def begin(module: nn.Module, args: Any) -> None:
        started[module] = next(clock), layout(first_tensor(args, len(images))).grid

    def end(module: nn.Module, args: Any, out: Any) -> None:
        path, out = paths[module], first_tensor(out, len(images))
        if isinstance(out, Tensor):
            outputs.pop(path, None)  # the last call of a module counts
            kind, grid, _ = layout(out)
            if min(grid) > 0:
                start, entered = started[module]
                outputs[path] = ModuleOutput(kind, grid, entered, start, next(clock))
        if _may_be_classifier(module):
            linear.pop(path, None)
            linear[path] = out

    handles = []
    for module in paths:
        handles += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
    try:
        returned = run_in_eval_mode(model, images)
    finally:
        for handle in handles:
            handle.remove()
    return Watched(outputs, linear, returned)


def _comes_before(output: ModuleOutput, head: ModuleOutput | None) -> bool:
    """Whether a module was called before a classifier that returns maps."""
    return head is None or output.end < head.start


def _may_be_classifier(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1))


def _are_close(out: Tensor, logits: Tensor) -> bool:
    """Whether two tensors differ by the rounding of bfloat16 at most: a network may return its logits in it."""
    return torch.allclose(out.float(), logits.float(), rtol=1e-2, atol=1e-3)


def _classifier(watched: Watched, answer: Answer | None) -> str:
    """Path of the layer whose output are the logits, or of the last linear layer with as many outputs; or ""."""
    logits = answer.read(watched.returned, training=False) if answer else watched.returned
    if not isinstance(logits, Tensor):
        return ""
    vectors = {path: out.flatten(2).mean(2) if out.ndim == 4 else out for path, out in watched.linear.items()}
    same = [path for path, out in vectors.items() if out.shape == logits.shape and _are_close(out, logits)]
    alike = [path for path, out in watched.linear.items() if out.shape == logits.shape]
    as_wide = [path for path, out in watched.linear.items() if out.ndim < 4 and out.shape[-1] == logits.shape[-1]]
    return (same or alike or as_wide or [""])[-1]
