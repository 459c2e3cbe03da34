"""The methods of class activation maps: activations (B, C, H, W) in, signed maps (B, H, W) out.

GradCAM, GradCAM++, HiResCAM and LayerCAM are computed by grad-cam's formulas, from activations and gradients that are
taken by famviz. grad-cam itself would leave the caller's network in eval mode and wipe its gradients, so it never gets
that network. EigenCAM, ScoreCAM and AblationCAM are our own and run on whole batches: the sign of grad-cam's EigenCAM
is random, its ScoreCAM and AblationCAM are loops over images with a progress bar, and its AblationCAM replaces a layer
of the caller's network.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from famkd.errors import UserError
from famkd.features.layout import Layout
from famviz.analysis.cam_place import Place, layout_at, replaced
from famviz.networks import logits_of

MOST_ABLATED = 64  # channels that are set to zero in one forward pass
MOST_VALUES = 1 << 24  # of the activations in one forward pass


def by_library(method: str, activations: Tensor, gradient: Tensor) -> Tensor:
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


def eigen(activations: Tensor) -> Tensor:
    """Projection on the first principal component of the channels, with the sign that grows with the activation."""
    flat = activations.flatten(2).transpose(1, 2)
    flat = flat - flat.mean(1, keepdim=True)
    direction = torch.linalg.svd(flat, full_matrices=False).Vh[:, 0]
    projection = (flat @ direction[:, :, None])[..., 0]
    with_activation = (projection * activations.flatten(2).mean(1)).sum(1)
    sign = torch.where(with_activation < 0, -1.0, 1.0)[:, None]
    return (sign * projection).view(len(activations), *activations.shape[2:])


@torch.no_grad()
def score(model: nn.Module, images: Tensor, activations: Tensor, classes: Tensor, batch_size: int = 256) -> Tensor:
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


@torch.no_grad()
def ablation(
    model: nn.Module, place: Place, images: Tensor, taken: Tensor, maps: Tensor, classes: Tensor, scores: Tensor
) -> Tensor:
    """Sum of the channels, each weighted by how much the class score falls if that channel is set to zero.

    Source: Desai and Ramaswamy, Ablation-CAM, WACV 2020. The paper divides the fall by the score, which would turn the
    sign of the map where the score is negative; here the weight is the fall itself.

    Args:
        taken: activations as the layer returns them; `maps` are the same as (B, C, H, W).
        scores: of the classes (B,), with all channels.
    """
    layout = layout_at(taken, model, images)
    alone = _tail_alone(model, place, images[:1], taken[:1])
    weights = []
    for n in range(len(images)):
        present = maps[n].flatten(1).any(1).nonzero()[:, 0]  # a channel that is zero loses nothing
        weight = torch.zeros(maps.shape[1], device=maps.device)
        for channels in present.split(_ablated_at_once(taken[n])):
            variants = _without(taken[n : n + 1], channels, layout, maps.shape[1])
            batch = images[n : n + 1] if alone else images[n : n + 1].expand(len(channels), -1, -1, -1)
            with replaced(place, variants):
                logits = logits_of(model(batch))
            weight[channels] = (scores[n] - logits[:, classes[n]]).float()
        weights.append(weight)
    return (torch.stack(weights)[:, :, None, None] * maps).sum(1)


def _ablated_at_once(taken: Tensor) -> int:
    return max(1, min(MOST_ABLATED, MOST_VALUES // taken.numel()))


def _without(taken: Tensor, channels: Tensor, layout: Layout, count: int) -> Tensor:
    """Copies of the activations of one image, each with one channel set to zero. Tokens in front keep theirs."""
    variants = taken.repeat(len(channels), *[1] * (taken.ndim - 1))
    channels_last = taken.shape[-1] == count and (layout.kind != "map" or taken.shape[1] != count)
    for row, channel in enumerate(channels.tolist()):
        if layout.kind == "tokens":
            variants[row, layout.prefix :, channel] = 0
        elif channels_last:
            variants[row, ..., channel] = 0
        else:
            variants[row, channel] = 0
    return variants


def _tail_alone(model: nn.Module, place: Place, image: Tensor, taken: Tensor) -> bool:
    """Whether the part behind a layer takes more images than the part before it was given.

    It does in nearly every network. The part before the layer then runs once for many variants of its output.
    """
    variants = torch.cat((taken, taken * 0.5))
    with replaced(place, variants):
        wanted = logits_of(model(image.expand(2, -1, -1, -1)))
        try:
            found = logits_of(model(image))
        except (RuntimeError, ValueError):  # a network that reshapes by the batch size of its input
            return False
    return found.shape == wanted.shape and torch.allclose(found, wanted, rtol=1e-3, atol=1e-5)
