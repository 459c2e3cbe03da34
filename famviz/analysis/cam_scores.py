"""Scores of activation maps: agreement of two maps, faithfulness to the network, and the place that they find.

Maps are (B, H, W) arrays as `famviz.cam` returns them: raw, not negative, at the size of the images. Every score is
(B,), one for each image, and NaN if a map is constant, so that it can be left out of a mean.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from famviz.networks import logits_of, untouched

TOP = 0.2  # share of the pixels that an IoU is about


def rank_correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Spearman's correlation over pixels, -1..1; equal values share their mean rank."""
    a, b = _centred_ranks(one), _centred_ranks(other)
    scale = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return np.divide((a * b).sum(1), scale, out=np.full(len(a), np.nan), where=scale > 0)


def _centred_ranks(maps: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    ranks = rankdata(maps.reshape(len(maps), -1), axis=1)
    return ranks - ranks.mean(1, keepdims=True)


def top_pixels(maps: np.ndarray, share: float = TOP) -> np.ndarray:
    """The pixels (B, H, W) bool in the top `share` by value, and above 0."""
    flat = maps.reshape(len(maps), -1)
    count = max(1, round(share * flat.shape[1]))
    least = np.partition(flat, -count, axis=1)[:, -count]
    return (maps >= least[:, None, None]) & (maps > 0)


def top_iou(one: np.ndarray, other: np.ndarray, share: float = TOP) -> np.ndarray:
    """Intersection over union of the top `share` of the pixels, 0..1."""
    a, b = top_pixels(one, share), top_pixels(other, share)
    both = (a & b).sum((1, 2))
    either = (a | b).sum((1, 2))
    empty = _constant(one) | _constant(other)
    return np.where(empty, np.nan, both / np.maximum(either, 1))


def energy_inside(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Share 0..1 of the sum of a map inside its mask (B, H, W) bool; by chance it is the mask's share of the image."""
    total = maps.sum((1, 2))
    inside = (maps * masks).sum((1, 2))
    return np.divide(inside, total, out=np.full(len(maps), np.nan), where=total > 0)


def pointing_hits(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The pointing game: 1 if the largest value is inside the mask, or the share of ties inside; 0 for a constant."""
    top = maps == maps.max((1, 2), keepdims=True)
    return np.where(_constant(maps), 0.0, (top & masks).sum((1, 2)) / top.sum((1, 2)))


def agreement(maps: np.ndarray, first: np.ndarray | None, masks: np.ndarray | None) -> dict[str, np.ndarray]:
    """`rank correlation` and `IoU` with other maps, if there are any, and `energy inside` and `pointing` with masks."""
    found = {}
    if first is not None:
        found |= {"rank correlation": rank_correlation(maps, first), "IoU": top_iou(maps, first)}
    if masks is not None:
        found |= {"energy inside": energy_inside(maps, masks), "pointing": pointing_hits(maps, masks)}
    return found


def masks_of_boxes(boxes: Sequence[Sequence[float]], size: tuple[int, int]) -> np.ndarray:
    """A mask (B, H, W) of each box (x0, y0, x1, y1), in pixels of a (H, W) image; the pixels x1 and y1 are outside."""
    y, x = np.mgrid[: size[0], : size[1]]
    x0, y0, x1, y1 = np.asarray(boxes, float).T[:, :, None, None]
    return (x >= x0) & (x < x1) & (y >= y0) & (y < y1)


@torch.no_grad()
def insertion_deletion(
    model: nn.Module, images: Tensor, maps: np.ndarray, classes: Tensor, *, steps: int = 16, seed: int = 0,
    batch_size: int = 256,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Areas under the class probability while pixels are inserted, and while they are deleted, highest value first.

    Insertion starts from the blurred image, deletion ends at the mean colour (0 of a normalised image); both in
    `steps` equal steps. Faithful maps have high insertion and low deletion. Pixels of equal value come in a random
    order, so that a constant map gets the score of chance. Source: Petsiuk et al., RISE, BMVC 2018.

    Returns two (B,) arrays in 0..1.
    """
    height, width = images.shape[-2:]
    noise = np.random.default_rng(seed).random((len(maps), height * width))
    order = np.lexsort((noise, -maps.reshape(len(maps), -1)), axis=1)
    rank = torch.from_numpy(order.argsort(1)).view(-1, 1, height, width).to(images.device)
    blurred = _blur(images, max(height, width) / 8)

    def area(start: Tensor, end: Tensor) -> np.ndarray:
        """Area while the pixels of `end` replace those of `start` in the order of their rank."""
        probability = []
        for step in range(steps + 1):
            mixed = torch.where(rank < step * height * width / steps, end, start)
            parts = [logits_of(model(part)).softmax(1) for part in mixed.split(batch_size)]
            probability.append(torch.cat(parts).gather(1, classes[:, None])[:, 0])
        curve = torch.stack(probability).cpu().double()
        return (torch.trapezoid(curve, dim=0) / steps).numpy()

    with untouched(model):
        model.eval()
        return area(blurred, images), area(images, torch.zeros_like(images))


def mean(scores: np.ndarray) -> float:
    """Mean over the images that have a score; NaN if none has."""
    known = scores[~np.isnan(scores)]
    return float(known.mean()) if len(known) else float("nan")


def standard_error(scores: np.ndarray) -> float:
    """Standard error of the mean over the images that have a score; NaN for fewer than two."""
    known = scores[~np.isnan(scores)]
    return float(known.std(ddof=1) / len(known) ** 0.5) if len(known) > 1 else float("nan")


def _constant(maps: np.ndarray) -> np.ndarray:
    return np.ptp(maps.reshape(len(maps), -1), axis=1) == 0


def _blur(images: Tensor, sigma: float) -> Tensor:
    """A Gaussian blur with a standard deviation of `sigma` pixels; edges are reflected.

    torchvision's blur convolves once with a kernel of both dimensions, here up to 169 x 169 pixels.
    """
    radius = min(int(3 * sigma), min(images.shape[-2:]) - 1)
    line = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=images.device) / sigma) ** 2)
    line = (line / line.sum()).to(images.dtype).expand(images.shape[1], 1, -1)
    padded = F.pad(images, (radius,) * 4, mode="reflect")
    across = F.conv2d(padded, line[:, :, None, :], groups=images.shape[1])
    return F.conv2d(across, line[:, :, :, None], groups=images.shape[1])
