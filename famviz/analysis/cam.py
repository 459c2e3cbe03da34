"""Class activation maps: where a network finds evidence for a class. The network is left exactly as it was.

Maps are not scaled to 0..1: a network with a thousandth of the evidence would then look the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from famkd.errors import UserError, nearest
from famviz.analysis.cam_methods import ablation, by_library, eigen, score
from famviz.analysis.cam_place import (
    Place,
    as_map,
    caught,
    default_layer,
    find_place,
    first_norm,
    last_of,
    layout_at,
    only_class_token,
)
from famviz.analysis.cam_rollout import rollout
from famviz.analysis.predictions import called
from famviz.networks import logits_of, returning_logits, untouched

METHODS = ("GradCAM", "GradCAM++", "HiResCAM", "LayerCAM", "EigenCAM", "ScoreCAM", "AblationCAM")
ROLLOUT = "AttentionRollout"  # for vision transformers only
WITHOUT_GRADIENT = ("EigenCAM", "ScoreCAM", "AblationCAM")
OTHER_METHODS = "choose another class, or method='LayerCAM', which leaves such evidence out"
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
    why_empty: list[str]  # for each image why its map shows nothing and what to do, or ""

    def __repr__(self) -> str:
        b, height, width = self.evidence.shape
        return f"CamResult({self.method} at {self.layer}: {b} maps of {height} x {width})"


def cam(
    model: nn.Module, images: Tensor, target: Target = "predicted", method: str = "GradCAM",
    layer: str | nn.Module | None = None, labels: Tensor | None = None, batch_size: int = 64,
    names: Sequence[str] = (), output: str = "",
) -> CamResult:  # fmt: skip
    """Class activation maps of a network on normalised images (B, C, H, W).

    Works on frozen networks, under `torch.no_grad`, and on small images. Afterwards the modes, gradients,
    `requires_grad` and hooks of the network are what they were before, also after an error.

    Args:
        target: the class: `predicted`, `true` (needs `labels`), one index, or one index for each image.
        method: GradCAM, GradCAM++, HiResCAM, LayerCAM, EigenCAM (which does not depend on the class), ScoreCAM or
            AblationCAM (which need no gradient, but a forward pass for each channel). For vision transformers also
            AttentionRollout, which depends on no class and takes all layers; its values are shares of attention.
        layer: path of a module as in taps (`layer3`, `layer3.-1.relu2:in`), or a module; by default the last stage,
            and in a vision transformer with a class token the input of the first norm of the last block.
        names: names of the classes, for sentences.
        output: where the logits are in what the network returns, such as `logits` or `1`; found automatically where
            only one part can be the logits.

    Errors: UserError for an unknown method or layer, a layer whose output is no map, missing labels, or
    AttentionRollout of a network without attention between all tokens or with a `layer`.
    """
    known = (*METHODS, ROLLOUT)
    if method not in known:
        raise UserError(f"There is no CAM {method!r}.{nearest(method, known)} Pass one of {', '.join(known)}.")
    if method == ROLLOUT and layer:
        raise UserError(f"{ROLLOUT} takes all layers: pass it without layer=, or pass another method.")
    target = _known_target(target, labels)
    with untouched(model), torch.inference_mode(False), torch.autocast(images.device.type, enabled=False):
        model.eval()
        images = images.detach().clone() if images.is_inference() else images.detach()
        parts = []
        with returning_logits(model, output):
            place = None if method == ROLLOUT else find_place(model, layer or default_layer(model, images))
            for start in range(0, len(images), batch_size):
                part = slice(start, start + batch_size)
                parts.append(_evidence(model, place, images[part], _part(target, part), method))
    return _result(parts, images, method, names)


def _known_target(target: Any, labels: Tensor | None) -> Target:
    """The target, with the labels in place of `true`."""
    if not isinstance(target, str) or target == "predicted":
        return target
    if target != "true":
        raise UserError(f"There is no target {target!r}: pass predicted, true, or class indices.")
    if labels is None:
        raise UserError("The true class needs labels: pass labels=, or target='predicted'.")
    return labels


class _Evidence(NamedTuple):
    """Maps of one batch at the size of the layer, signed."""

    maps: Tensor  # (B, h, w)
    classes: Tensor  # (B,)
    logits: Tensor  # (B, classes)
    layer: str
    remedy: str = ""  # if the patch tokens have no gradient


def _evidence(model: nn.Module, place: Place | None, images: Tensor, target: Target, method: str) -> _Evidence:
    """Evidence of one batch; the place is None for attention rollout."""
    if place is None:
        maps, logits, layers = rollout(model, images)
        return _Evidence(maps, _classes(target, logits), logits.float(), f"all {layers} attention layers")
    wants_gradient = method not in WITHOUT_GRADIENT
    with torch.set_grad_enabled(wants_gradient), caught(place, wants_gradient) as seen:
        logits = logits_of(model(images))
    taken = last_of(seen)
    activations = as_map(taken, model, images)
    if activations.ndim != 4:
        raise UserError(
            f"The output of this layer is {tuple(activations.shape)}, not maps (B, C, H, W): name a convolution."
        )
    classes = _classes(target, logits)
    scores = logits.gather(1, classes[:, None])
    remedy = ""
    if method == "EigenCAM":
        maps = eigen(activations.float())
    elif method == "ScoreCAM":
        maps = score(model, images, activations.float(), classes)
    elif method == "AblationCAM":
        maps = ablation(model, place, images, taken, activations.float(), classes, scores[:, 0])
    else:
        (gradient,) = torch.autograd.grad(scores.sum(), taken, allow_unused=True)
        gradient = torch.zeros_like(taken) if gradient is None else gradient  # nothing behind the layer uses it
        maps = by_library(method, activations, as_map(gradient, model, images))
        remedy = _remedy(model, place, gradient, images)
    return _Evidence(maps, classes, logits.detach().float(), place.name, remedy)


def _remedy(model: nn.Module, place: Place, gradient: Tensor, images: Tensor) -> str:
    """What to do if only the class token has a gradient, or ""."""
    if not only_class_token(gradient, layout_at(gradient, model, images)):
        return ""
    norm = "" if place.entering else first_norm(model, place.name)
    instead = f"pass layer={norm!r}" if norm else "choose an earlier layer"
    return f"the classifier reads only the class token there, so the patch tokens have no gradient: {instead}."


def _classes(target: Target, logits: Tensor) -> Tensor:
    """The class (B,) that each map is about."""
    if isinstance(target, str):
        return logits.argmax(1)
    classes = torch.as_tensor(target, device=logits.device).long()
    wrong = classes[(classes < 0) | (classes >= logits.shape[1])].tolist()
    if wrong:
        raise UserError(f"There is no class {wrong[0]}: the network has {logits.shape[1]}, counted from 0.")
    return classes.expand(len(logits))


def _result(parts: Sequence[_Evidence], images: Tensor, method: str, names: Sequence[str]) -> CamResult:
    """Maps of all batches, enlarged to the size of the images."""
    evidence = torch.cat([part.maps for part in parts])
    classes = torch.cat([part.classes for part in parts])
    logits = torch.cat([part.logits for part in parts])
    confidence = logits.softmax(1).gather(1, classes[:, None])[:, 0]
    first = parts[0]
    why_empty = []
    for each, label in zip(evidence, classes.tolist()):
        why_empty.append(_why_empty(each, method, first.layer, called(names, label), first.remedy))
    return CamResult(
        enlarged(evidence.cpu().numpy(), (images.shape[-2], images.shape[-1])),
        evidence.cpu().numpy(),
        classes.cpu().numpy(),
        logits.argmax(1).cpu().numpy(),
        confidence.cpu().numpy(),
        first.layer,
        method,
        why_empty,
    )


def enlarged(evidence: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The positive part of evidence (B, h, w) at a size (H, W), bilinear."""
    positive = torch.from_numpy(evidence).relu()[:, None]
    return F.interpolate(positive, size, mode="bilinear", align_corners=False)[:, 0].numpy()


def _part(target: Target, part: slice) -> Target:
    return target[part] if isinstance(target, Tensor) and target.ndim else target


def _why_empty(evidence: Tensor, method: str, layer: str, called: str, remedy: str) -> str:
    """Why a map shows nothing and what to do, or ""."""
    height, width = evidence.shape
    if height * width == 1:
        return f"{layer} is 1 x 1 here, and one value cannot show a place: choose an earlier layer."
    if evidence.amax() > 0:
        same = bool(evidence.amax() == evidence.amin())
        return f"{layer} has the same evidence everywhere: choose an earlier layer." if same else ""
    if remedy:
        return f"{layer} has no evidence for {called}: {remedy}"
    if not evidence.any():
        return f"{layer} has no activation or no gradient for {called}: choose an earlier layer or another class."
    return f"All evidence at {layer} speaks against {called}: {OTHER_METHODS}."
