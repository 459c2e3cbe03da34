"""Classes with different numbers of images: draw each equally often, or weigh its images in the loss."""

from typing import Literal

import torch
from torch import Tensor

from famkd.errors import UserError

Balance = Literal["none", "sample", "loss"]


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """A weight for each class, inverse to its number of images; the mean over all images with labels (N,) is 1."""
    counts = labels.bincount(minlength=classes)
    present = counts > 0
    weights = len(labels) / (present.sum() * counts.clamp(min=1))
    return torch.where(present, weights, torch.zeros_like(weights))


def drawn(count: int, draw: torch.Generator, weights: Tensor | None = None) -> Tensor:
    """Order of `count` images in an epoch: any permutation, or so many draws with probabilities like weights (N,)."""
    if weights is None:
        return torch.randperm(count, generator=draw)
    return torch.multinomial(weights.double(), count, replacement=True, generator=draw)


def must_have_classes(labels: Tensor | None) -> None:
    """UserError where an image has no single class."""
    if labels is None:
        raise UserError("--data.balance needs one class for each image: leave it out.")
