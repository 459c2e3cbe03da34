"""Similarity of what two networks compute: CKA between their stages, and maps of their embeddings in the plane."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.linalg import orthogonal_procrustes
from torch import Tensor, nn

from famkd.errors import UserError
from famkd.features.taps import default_taps
from famviz.networks import tapping
from famviz.tables import Rows

GRID = 7  # pixels of the side that maps are averaged to
CHUNK = 32  # images in one forward pass
FEWEST = 4  # images that an unbiased estimate needs


@dataclass(frozen=True, eq=False)
class Similarity(Rows):
    """CKA between the stages of two networks on the same images: 1 for equal up to rotation and scale, 0 by chance."""

    one: str
    other: str
    values: np.ndarray  # (stages of one, stages of the other)
    stages: tuple[list[str], list[str]]
    images: int

    def rows(self) -> list[dict[str, object]]:
        return [
            {self.one: first, self.other: second, "CKA": float(self.values[i, j])}
            for i, first in enumerate(self.stages[0])
            for j, second in enumerate(self.stages[1])
        ]

    def __repr__(self) -> str:
        sizes = " x ".join(map(str, self.values.shape))
        return f"Similarity({self.one} and {self.other}: {sizes} stages, CKA on {self.images} images)"


def stage_features(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Features (N, D) of each stage; maps are averaged to at most 7 x 7 pixels. The network is left as it was."""
    stages = default_taps(model, "stages", images[:2])
    with tapping(model, stages) as tapped:
        chunks = [[_pooled(each) for each in tapped(part)[1]] for part in images.split(CHUNK)]
    return {stage: torch.cat(parts) for stage, parts in zip(stages, zip(*chunks))}


def _pooled(features: Tensor) -> Tensor:
    if features.ndim == 4:
        height, width = features.shape[-2:]
        features = F.adaptive_avg_pool2d(features, (min(height, GRID), min(width, GRID)))
    return features.flatten(1).float().cpu()


def cka(one: Tensor, other: Tensor) -> float:
    """Linear CKA of features (N, D) and (N, E) of the same images, by the unbiased estimate of HSIC.

    The plain estimate is near 1 for any features with more dimensions than images. Source: Kornblith et al., ICML
    2019; Nguyen et al., ICLR 2021. Errors: UserError for fewer than 4 images.
    """
    if len(one) < FEWEST:
        raise UserError(f"CKA needs at least {FEWEST} images, not {len(one)}.")
    a, b = (each.double() @ each.double().T for each in (one, other))
    scale = (_hsic(a, a) * _hsic(b, b)).clamp_min(0).sqrt()
    return float(_hsic(a, b) / scale) if scale > 0 else float("nan")


def _hsic(a: Tensor, b: Tensor) -> Tensor:
    """Unbiased HSIC of two Gram matrices (N, N). Source: Song et al., JMLR 2012."""
    n = len(a)
    a, b = (each - torch.diag(each.diag()) for each in (a, b))
    total = (a * b).sum() + a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 * (a.sum(0) @ b.sum(0)) / (n - 2)
    return total / (n * (n - 3))


def plane(embeddings: np.ndarray) -> np.ndarray:
    """The first two principal components (N, 2) of embeddings (N, D), scaled to a mean square of 1."""
    centred = embeddings - embeddings.mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    found = np.zeros((len(embeddings), 2))
    found[:, : min(2, len(s))] = (u * s)[:, :2]
    size = np.sqrt(np.square(found).sum(1).mean())
    return found / size if size > 0 else found


def turned_to(points: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Points (N, 2) after the rotation or reflection that brings them nearest to those of the reference.

    Principal components have no sign and may swap, so maps of two networks compare only after this.
    """
    turn, _ = orthogonal_procrustes(points, reference)
    return points @ turn
