"""A data set with further augmentation, which runs inside the training step; its draws follow from (seed, epoch)."""

from collections import namedtuple
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from famkd import distributed
from famkd.data import draws
from famkd.data.augment import Augment
from famkd.data.policies import WHITE, augmix, in_turn, jittered, resized_crop
from famkd.data.views import Views
from famkd.distill.types import Batch, Dataset, Mixed
from famkd.errors import UserError


def augmented(data: Dataset, augment: Augment, seed: int, views: Views | None = None) -> Dataset:
    """A data set with further augmentation.

    Images that worker processes read are cropped and recoloured there. All else runs on the device, a batch at a time.

    Args:
        views: the augmentations that the data set repeats, if it does. Draws of single images are repeated too.

    Errors: UserError where the images do not allow it.
    """
    images = data.probe().images
    if not isinstance(images, Tensor) or data.size is None:
        raise UserError("--augment takes images of one size: leave it out for this data set.")
    if augment.recolours and images.shape[1] != 3:
        raise UserError(
            f"--augment.policy and --augment.jitter take images with 3 channels, not {images.shape[1]}: leave them out."
        )
    if augment.crop_ratio and not augment.crop_scale and not data.streamed:
        raise UserError("--augment.crop_ratio has no effect on images held in memory: pass --augment.crop_scale too.")
    if augment.crops or (data.streamed and augment.recolours):
        if not hasattr(data, "augment_by"):
            raise UserError("This data set has a crop of its own: leave --augment.crop_scale out.")
        cast(Any, data).augment_by(augment)
    return cast(Dataset, Augmented(data, augment, seed, views))


class Augmented:
    """A data set whose batches are augmented further; all else is that of the data set itself.

    A piece of an epoch has the draws of its images as further columns, so that it can be cut into parts.
    """

    def __init__(self, data: Dataset, augment: Augment, seed: int, views: Views | None = None):
        self._data, self._augment, self._seed, self._views = data, augment, seed, views
        self._kind: Any = None  # of a piece
        device = data.device
        self._mean, self._std = (torch.tensor(each, device=device)[:, None, None] for each in (data.mean, data.std))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def draws(self, epoch: int) -> dict[str, Tensor]:
        """All draws of an epoch, a row for each image in its order; with views, in order of the images' positions."""
        if self._views:
            return self._drawn_by((self._views.seed, self._views.of_epoch(epoch)), self._data.n_train)
        return self._drawn_by((self._seed, epoch), self._data.steps * self._data.batch_size)

    def _drawn_by(self, seed: tuple[int, int], images: int) -> dict[str, Tensor]:
        data, augment = self._data, self._augment
        size = data.size
        assert size is not None
        columns: dict[str, Tensor] = {}
        if augment.crops and not data.streamed:
            columns |= draws.crops(augment, size, images, *seed)
        if augment.recolours and not data.streamed:
            columns |= draws.colours(augment, size, images, *seed)
        if augment.erase:
            columns |= draws.erasures(augment, size, images, *seed)
        if augment.mixes:
            columns |= draws.mixtures(augment, size, data.steps, data.batch_size, *seed)
        return {name: column.to(data.device, non_blocking=True) for name, column in columns.items()}

    def epoch(self, number: int, done: int = 0) -> Iterator[Any]:
        """This process's pieces of an epoch, counted from 1, without the first `done` steps."""
        columns = self.draws(number)
        batch = self._data.batch_size
        for step, inner in enumerate(self._data.epoch(number, done), done):
            if self._kind is None:
                self._kind = namedtuple("Piece", [*inner._fields, *columns])
            part = inner.index if self._views else distributed.shard(step * batch, (step + 1) * batch)
            yield self._kind(*inner, *(column[part] for column in columns.values()))

    def take(self, piece: Any) -> Batch:
        """The batch of a piece, on the device."""
        return self._further(self._data.take(piece), piece._asdict())

    def view(self, number: int, positions: Iterable[int], batch_size: int = 0) -> Iterator[Batch]:
        """Training images at some positions under a view; view 0 is not augmented."""
        columns = self.draws(number) if number else {}
        for batch in self._data.view(number, positions, batch_size):
            rows = {name: column[batch.index] for name, column in columns.items()}
            yield self._further(batch, rows) if number else batch

    def _further(self, batch: Batch, columns: Mapping[str, Tensor]) -> Batch:
        """A batch after the augmentation that its columns say."""
        images = self._drawn(batch.images, columns)
        if "erased" in columns:
            noise = self._augment.erase_with == "noise"
            fill = torch.randn_like(images) if noise else torch.zeros_like(images)
            images = erased(images, columns["erased"], fill)
        batch = batch._replace(images=images)
        if "share" in columns:
            batch = mixed(batch, columns["share"], columns["blend"], columns["pasted"])
        return batch._replace(images=batch.images.contiguous(memory_format=torch.channels_last))

    def _drawn(self, images: Tensor, columns: Mapping[str, Tensor]) -> Tensor:
        """The images cropped and recoloured."""
        if not {"box", "factor", "op"} & columns.keys():
            return images
        pixels = ((images * self._std + self._mean) * WHITE).round()
        if "box" in columns:
            pixels = resized_crop(pixels, columns["box"])
        if "factor" in columns:
            pixels = jittered(pixels, columns["factor"])
        if "weight" in columns:
            pixels = augmix(pixels, columns["op"], columns["amount"], columns["weight"])
        elif "op" in columns:
            pixels = in_turn(pixels, columns["op"], columns["amount"])
        return (pixels / WHITE - self._mean) / self._std


def erased(images: Tensor, rectangle: Tensor, fill: Tensor) -> Tensor:
    """Images (B, C, H, W) with a rectangle of each replaced by the same part of `fill`.

    Args:
        rectangle: (B, 4), top, left, bottom and right.
    """
    return torch.where(_inside(images, rectangle), fill, images)


def mixed(batch: Batch, share: Tensor, blend: Tensor, pasted: Tensor) -> Batch:
    """A batch mixed with itself in reverse order.

    Args:
        share: (B,) of the first image in the labels, equal for the whole batch.
        blend: (B,) of the first image in the pixels outside of the pasted rectangle.
        pasted: (B, 4) rectangle of the second image: top, left, bottom and right.
    """
    other = batch.images.flip(0)
    weight = blend[:, None, None, None]
    images = torch.where(_inside(other, pasted), other, batch.images * weight + other * (1 - weight))
    own, others = batch.targets, batch.targets.flip(0)
    larger = (share >= 0.5).reshape(-1, *[1] * (own.ndim - 1))
    first, second = torch.where(larger, own, others), torch.where(larger, others, own)
    return batch._replace(images=images, targets=first, mixed=Mixed(second, torch.maximum(share, 1 - share)[0]))


def _inside(images: Tensor, rectangle: Tensor) -> Tensor:
    """(B, 1, H, W) whether a pixel lies in its image's rectangle."""
    height, width = images.shape[2:]
    top, left, bottom, right = rectangle[:, :, None].unbind(1)
    rows, columns = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    tall = (rows >= top) & (rows < bottom)
    wide = (columns >= left) & (columns < right)
    return (tall[:, :, None] & wide[:, None, :])[:, None]
