"""Class activation maps: where a network sees evidence for a class, of any network, leaving it exactly as it was.

grad-cam's formulas make GradCAM, GradCAM++ and LayerCAM, from activations and gradients that are taken here: the
library never meets the caller's network, which it would leave in eval mode, with its gradients wiped. EigenCAM and
ScoreCAM are our own, whole batches at a time: the library's EigenCAM has a random sign, its ScoreCAM a loop over
images with a progress bar. Maps stay raw: scaled to 0..1, a network with a thousandth of the evidence looks the same.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from famkd.errors import UserError, nearest
from famkd.features.layout import as_maps, image_size, says_channels_last, says_prefix
from famkd.features.taps import default_taps, find_module
from famviz.networks import logits_of, untouched

METHODS = ("GradCAM", "GradCAM++", "LayerCAM", "EigenCAM", "ScoreCAM")
Target = Literal["predicted", "true"] | int | Tensor


@dataclass(frozen=True, eq=False)
class CamResult:
    """Maps of one network on a batch of images."""

    maps: np.ndarray  # (B, H, W) float32 at the images' size, not negative, in units of the class score
    evidence: np.ndarray  # (B, h, w) the same at the layer's size with its negative part
    classes: np.ndarray  # (B,) the class that each map is about
    predicted: np.ndarray  # (B,) the class with the highest score
    confidence: np.ndarray  # (B,) probability of the class that each map is about
    layer: str
    method: str
    words: list[str]  # per image "", or why its map says nothing


def cam(
    model: nn.Module, images: Tensor, target: Target = "predicted", method: str = "GradCAM",
    layer: str | nn.Module | None = None, labels: Tensor | None = None, batch_size: int = 64,
    names: Sequence[str] = (),
) -> CamResult:  # fmt: skip
    """Class activation maps of a network on normalised images (B, C, H, W).

    Works on frozen networks, under `torch.no_grad`, and on small images. The network's modes, gradients,
    `requires_grad` and hooks are afterwards what they were, whatever happens.

    Args:
        target: the class: `predicted`, `true` (needs `labels`), one index, or one for each image.
        method: GradCAM, GradCAM++, LayerCAM, EigenCAM (which knows no class) or ScoreCAM (which needs no gradient,
            and a forward pass for each channel).
        layer: module path as in taps (`layer3`, `layer3.-1.relu2:in`) or module; by itself the last stage.
        names: what to call the classes in words.

    Errors: UserError for an unknown method or layer, a layer that puts out no maps, or missing labels.
    """
    if method not in METHODS:
        raise UserError(f"There is no CAM {method!r}.{nearest(method, METHODS)} Take one of {', '.join(METHODS)}.")
    if isinstance(target, str) and target == "true":
        if labels is None:
            raise UserError("The true class needs labels: pass labels=, or target='predicted'.")
        target = labels
    elif isinstance(target, str) and target != "predicted":
        raise UserError(f"There is no target {target!r}: take predicted, true, or class indices.")
    with untouched(model), torch.inference_mode(False), torch.autocast(images.device.type, enabled=False):
        model.eval()
        images = images.detach().clone() if images.is_inference() else images.detach()
        with torch.no_grad():
            layer = layer or default_taps(model, "stages", images[:2])[-1]
        module, entering, name = _place(model, layer)
        parts = []
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            parts.append(_evidence(model, module, entering, images[part], _part(target, part), method))
    evidence, classes, logits = (torch.cat(each) for each in zip(*parts))
    probability = logits.softmax(1).gather(1, classes[:, None])[:, 0]
    maps = F.interpolate(evidence.relu()[:, None], images.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    words = [
        _words(e, method, name, names[c] if len(names) > c else f"class {c}")
        for e, c in zip(evidence, classes.tolist())
    ]
    arrays = (t.cpu().numpy() for t in (maps, evidence, classes, logits.argmax(1), probability))
    return CamResult(*arrays, name, method, words)


def _evidence(model, module, entering: bool, images: Tensor, target, method: str) -> tuple[Tensor, Tensor, Tensor]:
    """Signed maps (B, h, w) at the layer's size, the classes and the logits of one batch."""
    wants_gradient = method not in ("EigenCAM", "ScoreCAM")
    with torch.set_grad_enabled(wants_gradient), _caught(module, entering, wants_gradient) as seen:
        logits = logits_of(model(images))
    if not seen:
        raise UserError("The forward pass never reached the layer: name a module that it calls.")
    layout = image_size(images), says_prefix(model), says_channels_last(model)
    (activations,) = as_maps(seen[-1:], *layout)  # tokens fold into a map
    if activations.ndim != 4:
        raise UserError(f"The layer puts out {tuple(activations.shape)}, not maps (B, C, H, W): name a convolution.")
    classes = logits.argmax(1) if isinstance(target, str) else torch.as_tensor(target, device=logits.device)
    classes = classes.long().expand(len(images))
    scores = logits.gather(1, classes[:, None])[:, 0]
    if wants_gradient:
        (gradient,) = as_maps(torch.autograd.grad(scores.sum(), seen[-1]), *layout)
        evidence = _by_library(method, activations, gradient)
    elif method == "EigenCAM":
        evidence = _eigen(activations.float())
    else:
        evidence = _score(model, images, activations.float(), classes)
    return evidence, classes, logits.detach().float()


def _by_library(method: str, activations: Tensor, gradient: Tensor) -> Tensor:
    """grad-cam's formula, built round a stand-in, on arrays."""
    try:
        import pytorch_grad_cam
    except ImportError as error:
        raise UserError(f"{method} needs grad-cam: pip install famkd[viz].") from error
    kind = getattr(pytorch_grad_cam, method.replace("++", "PlusPlus"))
    engine = kind(nn.PReLU(), [])  # which draws no random number, as a linear layer would
    arrays = [t.detach().float().cpu().numpy() for t in (activations, gradient)]
    return torch.from_numpy(engine.get_cam_image(None, None, None, *arrays, False)).float().to(activations.device)


def _eigen(activations: Tensor) -> Tensor:
    """Projection on the first principal component of the channels, signed so that it grows with the activation."""
    flat = activations.flatten(2).transpose(1, 2)
    flat = flat - flat.mean(1, keepdim=True)
    direction = torch.linalg.svd(flat, full_matrices=False).Vh[:, 0]
    projection = (flat @ direction[:, :, None])[..., 0]
    with_activation = (projection * activations.flatten(2).mean(1)).sum(1)
    sign = torch.where(with_activation < 0, -1.0, 1.0)[:, None]
    return (sign * projection).view(len(activations), *activations.shape[2:])


@torch.no_grad()
def _score(model: nn.Module, images: Tensor, activations: Tensor, classes: Tensor, batch_size: int = 256) -> Tensor:
    """Channels weighed by the softmax of the class scores that the image gets when each masks it, scaled to 0..1."""
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
def _caught(module: nn.Module, entering: bool, wants_gradient: bool) -> Iterator[list[Tensor]]:
    """What a module puts out, or takes in, while inside; the network goes on from it as from a leaf.

    Gradients reach the activation and nothing before it, so frozen networks have them too and no parameter does; the
    network goes on with a copy, which a later activation in place may overwrite.
    """
    seen: list[Tensor] = []

    def catch(value):
        several = isinstance(value, tuple | list)
        seen.append((value[0] if several else value).detach().clone().requires_grad_(wants_gradient))
        copy = seen[-1].clone()
        return type(value)((copy, *value[1:])) if several else copy

    if entering:
        handle = module.register_forward_pre_hook(lambda _, args: catch(args))
    else:
        handle = module.register_forward_hook(lambda _, args, out: catch(out))
    try:
        yield seen
    finally:
        handle.remove()


def _place(model: nn.Module, layer: str | nn.Module) -> tuple[nn.Module, bool, str]:
    if isinstance(layer, nn.Module):
        names = {id(module): name for name, module in model.named_modules()}
        if id(layer) not in names:
            raise UserError("The layer is no module of this model.")
        return layer, False, names[id(layer)]
    return find_module(model, layer.removesuffix(":in")), layer.endswith(":in"), layer


def _part(target: Target, part: slice) -> Target:
    return target[part] if isinstance(target, Tensor) and target.ndim else target


def _words(evidence: Tensor, method: str, layer: str, called: str) -> str:
    """Why a map says nothing, or ""."""
    h, w = evidence.shape
    if h * w == 1:
        return f"{layer} is 1 x 1 here: a single value has no place to point at. Take an earlier layer."
    if evidence.amax() > 0:
        return "" if evidence.amax() > evidence.amin() else f"{layer} sees the same everywhere: no place stands out."
    if not evidence.any():
        return f"{layer} has no activation or no gradient for {called}: the map is zero."
    return f"All evidence at {layer} speaks against {called}: the positive part, which {method} shows, is zero."
