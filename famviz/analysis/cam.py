"""Class activation maps: where a network finds evidence for a class. The network is left exactly as it was.

GradCAM, GradCAM++ and LayerCAM are computed by grad-cam's formulas, from activations and gradients that are taken
here. grad-cam itself would leave the caller's network in eval mode and wipe its gradients, so it never gets that
network. EigenCAM and ScoreCAM are our own and run on whole batches: the sign of grad-cam's EigenCAM is random, and its
ScoreCAM is a loop over images with a progress bar. Maps are not scaled to 0..1: a network with a thousandth of the
evidence would then look the same.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from famkd.errors import UserError, nearest
from famkd.features.layout import as_maps, says_channels_last, says_prefix
from famkd.features.prepare import network_size
from famkd.features.taps import default_taps, find_module
from famviz.networks import logits_of, untouched

METHODS = ("GradCAM", "GradCAM++", "LayerCAM", "EigenCAM", "ScoreCAM")
WITHOUT_GRADIENT = ("EigenCAM", "ScoreCAM")
Target = Literal["predicted", "true"] | int | Tensor


@dataclass(frozen=True, eq=False)
class CamResult:
    """Maps of one network on a batch of images."""

    maps: np.ndarray  # (B, H, W) float32 at the size of the images, not negative, in units of the class score
    evidence: np.ndarray  # (B, h, w) the same at the size of the layer, with its negative part
    classes: np.ndarray  # (B,) the class that each map is about
    predicted: np.ndarray  # (B,) the class with the highest score
    confidence: np.ndarray  # (B,) probability of the class that each map is about
    layer: str
    method: str
    why_empty: list[str]  # for each image why its map shows nothing, or ""


def cam(
    model: nn.Module, images: Tensor, target: Target = "predicted", method: str = "GradCAM",
    layer: str | nn.Module | None = None, labels: Tensor | None = None, batch_size: int = 64,
    names: Sequence[str] = (),
) -> CamResult:  # fmt: skip
    """Class activation maps of a network on normalised images (B, C, H, W).

    Works on frozen networks, under `torch.no_grad`, and on small images. Afterwards the modes, gradients,
    `requires_grad` and hooks of the network are what they were before, also after an error.

    Args:
        target: the class: `predicted`, `true` (needs `labels`), one index, or one index for each image.
        method: GradCAM, GradCAM++, LayerCAM, EigenCAM (which does not depend on the class) or ScoreCAM (which needs no
            gradient, but a forward pass for each channel).
        layer: path of a module as in taps (`layer3`, `layer3.-1.relu2:in`), or a module; by default the last stage.
        names: names of the classes, for sentences.

    Errors: UserError for an unknown method or layer, a layer whose output is no map, or missing labels.
    """
    if method not in METHODS:
        raise UserError(f"There is no CAM {method!r}.{nearest(method, METHODS)} Pass one of {', '.join(METHODS)}.")
    target = _known_target(target, labels)
    with untouched(model), torch.inference_mode(False), torch.autocast(images.device.type, enabled=False):
        model.eval()
        images = images.detach().clone() if images.is_inference() else images.detach()
        place = _place(model, layer or _last_stage(model, images))
        parts = []
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            parts.append(_evidence(model, place, images[part], _part(target, part), method))
    return _result(parts, images, place.name, method, names)


def _known_target(target: Any, labels: Tensor | None) -> Target:
    """The target, with the labels in place of `true`."""
    if not isinstance(target, str) or target == "predicted":
        return target
    if target != "true":
        raise UserError(f"There is no target {target!r}: pass predicted, true, or class indices.")
    if labels is None:
        raise UserError("The true class needs labels: pass labels=, or target='predicted'.")
    return labels


@torch.no_grad()
def _last_stage(model: nn.Module, images: Tensor) -> str:
    return default_taps(model, "stages", images[:2])[-1]


class _Place(NamedTuple):
    """Where the activations of a map are taken: the output of a module, or its input."""

    module: nn.Module
    entering: bool
    name: str


class _Evidence(NamedTuple):
    """Maps of one batch at the size of the layer, signed."""

    maps: Tensor  # (B, h, w)
    classes: Tensor  # (B,)
    logits: Tensor  # (B, classes)


def _evidence(model: nn.Module, place: _Place, images: Tensor, target: Target, method: str) -> _Evidence:
    """Evidence of one batch."""
    wants_gradient = method not in WITHOUT_GRADIENT
    with torch.set_grad_enabled(wants_gradient), _caught(place, wants_gradient) as seen:
        logits = logits_of(model(images))
    if not seen:
        raise UserError("The forward pass never calls this layer: name a module that it calls.")
    taken = seen[-1]
    activations = _as_map(taken, model, images)
    if activations.ndim != 4:
        raise UserError(
            f"The output of this layer is {tuple(activations.shape)}, not maps (B, C, H, W): name a convolution."
        )
    classes = _classes(target, logits)
    if method == "EigenCAM":
        maps = _eigen(activations.float())
    elif method == "ScoreCAM":
        maps = _score(model, images, activations.float(), classes)
    else:
        scores = logits.gather(1, classes[:, None]).sum()
        (gradient,) = torch.autograd.grad(scores, taken)
        maps = _by_library(method, activations, _as_map(gradient, model, images))
    return _Evidence(maps, classes, logits.detach().float())


def _as_map(activations: Tensor, model: nn.Module, images: Tensor) -> Tensor:
    """Activations as (B, C, H, W): tokens are folded to a map."""
    (maps,) = as_maps([activations], network_size(model, images), says_prefix(model), says_channels_last(model))
    return maps


def _classes(target: Target, logits: Tensor) -> Tensor:
    """The class (B,) that each map is about."""
    if isinstance(target, str):
        return logits.argmax(1)
    classes = torch.as_tensor(target, device=logits.device)
    return classes.long().expand(len(logits))


def _result(parts: Sequence[_Evidence], images: Tensor, layer: str, method: str, names: Sequence[str]) -> CamResult:
    """Maps of all batches, enlarged to the size of the images."""
    evidence = torch.cat([part.maps for part in parts])
    classes = torch.cat([part.classes for part in parts])
    logits = torch.cat([part.logits for part in parts])
    size = images.shape[-2:]
    maps = F.interpolate(evidence.relu()[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    confidence = logits.softmax(1).gather(1, classes[:, None])[:, 0]
    why_empty = []
    for each, label in zip(evidence, classes.tolist()):
        called = str(names[label]) if len(names) > label else f"class {label}"
        why_empty.append(_why_empty(each, method, layer, called))
    return CamResult(
        maps.cpu().numpy(),
        evidence.cpu().numpy(),
        classes.cpu().numpy(),
        logits.argmax(1).cpu().numpy(),
        confidence.cpu().numpy(),
        layer,
        method,
        why_empty,
    )


def _by_library(method: str, activations: Tensor, gradient: Tensor) -> Tensor:
    """Maps by grad-cam's formula, from arrays. The library gets a dummy network in place of the caller's."""
    try:
        import pytorch_grad_cam
    except ImportError as error:
        raise UserError(f"{method} needs grad-cam: pip install famkd[viz].") from error
    kind = getattr(pytorch_grad_cam, method.replace("++", "PlusPlus"))
    engine = kind(nn.PReLU(), [])  # a PReLU draws no random number, unlike a linear layer
    arrays = [tensor.detach().float().cpu().numpy() for tensor in (activations, gradient)]
    maps = engine.get_cam_image(None, None, None, *arrays, False)
    return torch.from_numpy(maps).float().to(activations.device)


def _eigen(activations: Tensor) -> Tensor:
    """Projection on the first principal component of the channels, with the sign that grows with the activation."""
    flat = activations.flatten(2).transpose(1, 2)
    flat = flat - flat.mean(1, keepdim=True)
    direction = torch.linalg.svd(flat, full_matrices=False).Vh[:, 0]
    projection = (flat @ direction[:, :, None])[..., 0]
    with_activation = (projection * activations.flatten(2).mean(1)).sum(1)
    sign = torch.where(with_activation < 0, -1.0, 1.0)[:, None]
    return (sign * projection).view(len(activations), *activations.shape[2:])


@torch.no_grad()
def _score(model: nn.Module, images: Tensor, activations: Tensor, classes: Tensor, batch_size: int = 256) -> Tensor:
    """Sum of the channels, each weighted by the class score of the image masked by that channel.

    A mask is the channel scaled to 0..1 at the size of the image; the weights are the softmax of the scores.
    """
    b, c = activations.shape[:2]
    masks = F.interpolate(activations, images.shape[-2:], mode="bilinear", align_corners=False)
    low, high = masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True)
    masks = (masks - low) / (high - low + 1e-8)
    scores = []
    for row in torch.arange(b * c, device=images.device).split(batch_size):
        image, channel = row // c, row % c
        logits = logits_of(model(images[image] * masks[image, channel][:, None]))
        scores.append(logits.gather(1, classes[image][:, None])[:, 0])
    weights = torch.cat(scores).float().view(b, c).softmax(1)
    return (weights[:, :, None, None] * activations).sum(1)


@contextmanager
def _caught(place: _Place, wants_gradient: bool) -> Iterator[list[Tensor]]:
    """Keep the output of a module, or its input, from each call inside the block, as a leaf of the graph.

    Gradients reach that leaf and nothing before it, so frozen networks have them too and no parameter gets one. The
    network continues with a copy, because a later activation in place may overwrite it.
    """
    seen: list[Tensor] = []

    def catch(value):
        several = isinstance(value, tuple | list)
        first = value[0] if several else value
        leaf = first.detach().clone().requires_grad_(wants_gradient)
        seen.append(leaf)
        copy = leaf.clone()
        return type(value)((copy, *value[1:])) if several else copy

    if place.entering:
        handle = place.module.register_forward_pre_hook(lambda module, args: catch(args))
    else:
        handle = place.module.register_forward_hook(lambda module, args, out: catch(out))
    try:
        yield seen
    finally:
        handle.remove()


def _place(model: nn.Module, layer: str | nn.Module) -> _Place:
    if isinstance(layer, str):
        return _Place(find_module(model, layer.removesuffix(":in")), layer.endswith(":in"), layer)
    for name, module in model.named_modules():
        if module is layer:
            return _Place(layer, False, name)
    raise UserError("This layer is not a module of this model.")


def _part(target: Target, part: slice) -> Target:
    return target[part] if isinstance(target, Tensor) and target.ndim else target


def _why_empty(evidence: Tensor, method: str, layer: str, called: str) -> str:
    """Why a map shows nothing, or ""."""
    height, width = evidence.shape
    if height * width == 1:
        return f"{layer} is 1 x 1 here: one value cannot show a place. Choose an earlier layer."
    if evidence.amax() > 0:
        same = bool(evidence.amax() == evidence.amin())
        return f"{layer} has the same evidence everywhere: no place stands out." if same else ""
    if not evidence.any():
        return f"{layer} has no activation or no gradient for {called}: the map is zero."
    return f"All evidence at {layer} speaks against {called}: the positive part, which {method} shows, is zero."
