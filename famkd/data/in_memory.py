"""A data set that lives on the device as bytes and is augmented there, a batch at a time: no worker processes."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from famkd import distributed
from famkd.data.small import Images
from famkd.distill.types import Batch


class Draws(NamedTuple):
    """Which images one epoch shows in which order, and how each is cropped and flipped."""

    index: Tensor  # (N,)
    top: Tensor  # (N,) rows cut off the padded image
    left: Tensor
    flip: Tensor  # (N,) bool


class InMemory:
    """Training and test images on a device; of several processes each goes through its share of every step.

    Order and augmentation of an epoch follow from (seed, epoch) alone, so a resumed run sees what it would have seen.
    A step always holds `batch_size` images; those left over wait for another epoch's order.
    """

    def __init__(
        self, images: Images, batch_size: int, device: torch.device | str = "cpu", seed: int = 0, augment=True
    ):
        self.classes, self.device, self.seed = images.classes, torch.device(device), seed
        self.batch_size = min(batch_size, len(images.x_train))
        self.pad, self.flips = (images.pad, images.flip) if augment else (0, False)
        self.size = tuple(images.x_train.shape[1:3])
        self.mean, self.std = images.mean, images.std
        p = self.pad
        train = torch.nn.functional.pad(torch.from_numpy(images.x_train), (0, 0, p, p, p, p))
        self._train, self._test = train.to(self.device), torch.from_numpy(images.x_test).to(self.device)
        self.labels = torch.from_numpy(images.y_train).to(self.device)
        self._test_labels = torch.from_numpy(images.y_test).to(self.device)
        scale = 1 / (255 * torch.tensor(images.std))
        self._scale = scale.to(self.device)
        self._shift = (-torch.tensor(images.mean) * 255 * scale).to(self.device)

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return len(self.labels) // self.batch_size

    def plan(self, epoch: int) -> Draws:
        """The whole epoch's draws, made at once on the CPU so that every device sees the same."""
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        n, room = len(self.labels), 2 * self.pad + 1
        index = torch.randperm(n, generator=draw)
        top, left = (torch.randint(room, (n,), generator=draw) for _ in range(2))
        flip = torch.rand(n, generator=draw) < (0.5 if self.flips else 0.0)
        return Draws(*(t.to(self.device, non_blocking=True) for t in (index, top, left, flip)))

    def epoch(self, number: int, done: int = 0) -> Iterator[Draws]:
        """The pieces of one epoch's plan, counted from 1, after the `done` first ones.

        `take` makes the batch, inside the training step.
        """
        plan = self.plan(number)
        for start in range(done * self.batch_size, self.steps * self.batch_size, self.batch_size):
            yield Draws(*(t[distributed.shard(start, start + self.batch_size)] for t in plan))

    def take(self, plan: Draws) -> Batch:
        """Cut, flip and normalise the images of a piece of a plan."""
        h, w = self.size
        rows = plan.top[:, None] + torch.arange(h, device=self.device)
        across = torch.arange(w, device=self.device)
        cols = plan.left[:, None] + torch.where(plan.flip[:, None], w - 1 - across, across)
        pixels = self._train[plan.index[:, None, None], rows[:, :, None], cols[:, None, :]]
        return Batch(self._normalised(pixels), self.labels[plan.index], plan.index)

    def probe(self) -> Batch:
        """One real batch as it is, for shapes and first statistics."""
        index = torch.arange(min(self.batch_size, len(self.labels)), device=self.device)
        still = torch.full_like(index, self.pad)
        return self.take(Draws(index, still, still, torch.zeros_like(index, dtype=torch.bool)))

    def test(self, batch_size: int = 0) -> Iterator[Batch]:
        """All test images in order, of several processes each a share; the last batch as short as it comes.

        By itself 500 at once, on a GPU 2500, which then computes for longer than it takes to be told what.
        """
        batch_size = batch_size or (2500 if self.device.type == "cuda" else 500)
        share = distributed.shard(0, len(self._test_labels))
        for start in range(share.start, share.stop, batch_size):
            part = slice(start, min(start + batch_size, share.stop))
            index = torch.arange(part.start, part.stop, device=self.device)
            yield Batch(self._normalised(self._test[part]), self._test_labels[part], index)

    def _normalised(self, pixels: Tensor) -> Tensor:
        """(B, H, W, 3) bytes to (B, 3, H, W) floats, channels last in memory."""
        return torch.addcmul(self._shift, pixels.float(), self._scale).permute(0, 3, 1, 2)
