"""Where the activations of a class activation map are taken, and which place is right by default."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from famkd.errors import UserError
from famkd.features.layout import Layout, as_maps, layout_of, says_channels_last, says_prefix
from famkd.features.prepare import network_size
from famkd.features.taps import default_taps, find_module
from famviz.networks import logits_of


class Place(NamedTuple):
    """The output of a module, or its input."""

    module: nn.Module
    entering: bool
    name: str


def find_place(model: nn.Module, layer: str | nn.Module) -> Place:
    """The place that a path as in taps (`layer3`, `blocks.11.norm1:in`) or a module names."""
    if isinstance(layer, str):
        return Place(find_module(model, layer.removesuffix(":in")), layer.endswith(":in"), layer)
    for name, module in model.named_modules():
        if module is layer:
            return Place(layer, False, name)
    raise UserError("This layer is not a module of this model.")


def default_layer(model: nn.Module, images: Tensor) -> str:
    """The deepest stage that can show where the evidence is: larger than 1 x 1 pixel, and with a gradient.

    Of a vision transformer whose classifier reads only the class token, the patch tokens of the last block have no
    gradient. There it is the input of the first norm of that block, `blocks.11.norm1:in`.
    """
    stages = default_taps(model, "maps", images[:2])
    for layer in reversed(stages):
        layout, gradient = _probe(model, layer, images[:1])
        if min(layout.grid) <= 1:
            continue
        if not only_class_token(gradient, layout):
            return layer
        norm = first_norm(model, layer)
        if norm:
            return norm
    return stages[-1]


def _probe(model: nn.Module, layer: str, image: Tensor) -> tuple[Layout, Tensor]:
    """Layout of the activations at a layer, and the gradient of the highest class score there."""
    place = find_place(model, layer)
    with torch.enable_grad(), caught(place, True) as seen:
        logits = logits_of(model(image))
    taken = last_of(seen)
    (gradient,) = torch.autograd.grad(logits.amax(1).sum(), taken, allow_unused=True)
    gradient = torch.zeros_like(taken) if gradient is None else gradient
    return layout_at(taken, model, image), gradient


def layout_at(activations: Tensor, model: nn.Module, images: Tensor) -> Layout:
    """How the activations of a model are read as a map."""
    return layout_of(activations.shape, network_size(model, images), says_prefix(model))


def only_class_token(gradient: Tensor, layout: Layout) -> bool:
    """Whether the tokens in front of those of the image have a gradient, and those of the image have none."""
    if layout.kind != "tokens" or not layout.prefix:
        return False
    in_front, of_image = gradient[:, : layout.prefix], gradient[:, layout.prefix :]
    return bool(in_front.any()) and not bool(of_image.any())


def first_norm(model: nn.Module, layer: str) -> str:
    """The input of the first normalisation inside a block, as a tap; "" if the block has none."""
    block = find_module(model, layer.removesuffix(":in"))
    for name, module in block.named_modules():
        if name and "norm" in type(module).__name__.lower():
            return f"{layer}.{name}:in"
    return ""


def as_map(activations: Tensor, model: nn.Module, images: Tensor) -> Tensor:
    """Activations as (B, C, H, W): tokens are folded to a map."""
    (maps,) = as_maps([activations], network_size(model, images), says_prefix(model), says_channels_last(model))
    return maps


def last_of(seen: list[Tensor]) -> Tensor:
    """What the last call of a layer was given or returned."""
    if not seen:
        raise UserError("The forward pass never calls this layer: name a module that it calls.")
    return seen[-1]


@contextmanager
def caught(place: Place, wants_gradient: bool) -> Iterator[list[Tensor]]:
    """Keep the output of a module, or its input, from each call inside the block, as a leaf of the graph.

    Gradients reach that leaf and nothing before it, so frozen networks have them too and no parameter gets one. The
    network continues with a copy, because a later activation in place may overwrite it.
    """
    seen: list[Tensor] = []

    def catch(first: Tensor) -> Tensor:
        leaf = first.detach().clone().requires_grad_(wants_gradient)
        seen.append(leaf)
        return leaf.clone()

    with _hooked(place, catch):
        yield seen


@contextmanager
def replaced(place: Place, value: Tensor) -> Iterator[None]:
    """Inside the block the network goes on with `value` in place of the output of a module, or of its input."""
    with _hooked(place, lambda first: value.clone()):
        yield


@contextmanager
def _hooked(place: Place, use: Any) -> Iterator[None]:
    """Inside the block a function changes the output of a module, or its input; of several tensors the first one."""

    def change(value):
        if isinstance(value, tuple | list):
            return type(value)((use(value[0]), *value[1:]))
        return use(value)

    if place.entering:
        hook = place.module.register_forward_pre_hook(lambda module, args: change(args))
    else:
        hook = place.module.register_forward_hook(lambda module, args, out: change(out))
    with hook:
        yield
