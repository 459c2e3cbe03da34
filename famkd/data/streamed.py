"""A data set too large to hold: read, decoded and cut by worker processes, normalised on the device."""

import os
import warnings
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from famkd import distributed
from famkd.data.loader import TRIES, DecodedBatch, FileImages, TrainTest, count_workers, loader
from famkd.data.transforms import decoded_on
from famkd.distill.types import Batch
from famkd.errors import UserError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's training images
SIZE = 224
PROBE = 64  # images


class Piece(NamedTuple):
    """One process's part of a step, ready but for arithmetic."""

    pixels: Tensor  # (B, H, W, 3) uint8
    targets: Tensor  # (B,)
    index: Tensor  # (B,)


class Streamed:
    """Training and test images of `TrainTest`, with the interface of `InMemory`.

    Args:
        size: height and width of what the networks see; 0 for 224.
        workers: processes that decode; -1 for one per core that is ours, 0 to decode in this process.
        gpu_decode: decode JPEGs on the device, and here what it cannot decode.

    A step always holds `batch_size` images over all processes; those left over wait for another epoch's order.
    """

    mean, std = MEAN, STD

    def __init__(
        self, splits: TrainTest, batch_size: int, device: torch.device | str = "cpu", seed: int = 0,
        augment: bool = True, *, size: int = 0, workers: int = -1, gpu_decode: bool = False,
    ):  # fmt: skip
        self.device, self.seed, self.classes = torch.device(device), seed, splits.classes
        self.batch_size = min(batch_size, len(splits.train))
        self.size = (size or SIZE, size or SIZE)
        self.labels = torch.from_numpy(splits.train.labels).to(self.device)
        self.test_labels = torch.from_numpy(splits.test.labels).to(self.device)
        self._raw = gpu_decode and _device_decodes(self.device)
        self._train, self._test = (FileImages(source, self.size[0], seed, augment, self._raw) for source in splits[:2])
        self._workers = count_workers(workers, int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
        self._order: list[list[tuple[int, int]]] = []  # the next epoch's batches, read by the training loader
        self._loader = loader(self._train, self._order, self._workers, self.device, stays=True)
        self._failed: dict[FileImages, set[int]] = {self._train: set(), self._test: set()}
        self._told = dict.fromkeys(self._failed, 0)
        self._probe: Batch | None = None
        scale = 1 / (255 * torch.tensor(STD))
        self._scale, self._shift = scale.to(self.device), (-torch.tensor(MEAN) * 255 * scale).to(self.device)

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return len(self.labels) // self.batch_size

    def plan(self, epoch: int) -> Tensor:
        """Which images an epoch shows, in order; how each is cut follows from (seed, epoch, index)."""
        return self._train.source.order(torch.Generator().manual_seed(self.seed * 1_000_003 + epoch))

    def epoch(self, number: int, done: int = 0) -> Iterator[Piece]:
        """This process's pieces of one epoch, counted from 1, after the `done` first ones.

        `take` makes the batch, inside the training step.
        """
        plan, b = self.plan(number).tolist(), self.batch_size
        starts = range(done * b, self.steps * b, b)
        self._order[:] = [[(number, i) for i in plan[distributed.shard(start, start + b)]] for start in starts]
        for loaded in self._loader:
            piece = self._piece(loaded, self._train, number)
            if len(piece.index) < len(self._order[0]):
                bad = self._train.source.name(loaded.failed[0])
                raise UserError(f"{TRIES} training images in a row cannot be read, the first {bad}.")
            yield piece
        self._warn(self._train, "training")

    def take(self, piece: Piece) -> Batch:
        """Normalise a piece: (B, H, W, 3) bytes to (B, 3, H, W) floats, channels last in memory."""
        images = torch.addcmul(self._shift, piece.pixels.float(), self._scale).permute(0, 3, 1, 2)
        return Batch(images, piece.targets, piece.index)

    def probe(self) -> Batch:
        """The first training images as they are, for shapes and first statistics."""
        if self._probe is None:
            keys = [(0, i) for i in range(min(PROBE, self.batch_size))]
            self._probe = self.take(self._piece(self._train.__getitems__(keys), self._train, 0))
            if not len(self._probe.index):
                raise UserError(f"None of the first images can be read, {self._train.source.name(0)} among them.")
        return self._probe

    def test(self, batch_size: int = 0) -> Iterator[Batch]:
        """This process's share of the test images in order, unreadable ones left out, the last batch as it comes."""
        batch_size = batch_size or 250
        share = distributed.shard(0, len(self._test.source))
        starts = range(share.start, share.stop, batch_size)
        order = [[(0, i) for i in range(start, min(start + batch_size, share.stop))] for start in starts]
        for loaded in loader(self._test, order, self._workers, self.device, stays=False):
            piece = self._piece(loaded, self._test, 0)
            if len(piece.index):
                yield self.take(piece)
        self._warn(self._test, "test")

    def pictures(self, index: Iterable[int]) -> Piece:
        """Test images at some positions, read here and now; unreadable ones are left out."""
        return self._piece(self._test.__getitems__([(0, int(i)) for i in index]), self._test, 0)

    def _piece(self, loaded: DecodedBatch, items: FileImages, epoch: int) -> Piece:
        if self._raw:
            loaded = self._decoded(loaded, items, epoch)
        self._failed[items].update(loaded.failed)
        targets = torch.from_numpy(items.source.labels)[loaded.index]
        return Piece(*(t.to(self.device, non_blocking=True) for t in (loaded.pixels, targets, loaded.index)))

    def _decoded(self, loaded: DecodedBatch, items: FileImages, epoch: int) -> DecodedBatch:
        """Files to pixels on the device; what its decoder refuses is read again and decoded here."""
        here = FileImages(items.source, items.size, items.seed, items.augment)
        files, failed, shown = loaded.pixels.split(loaded.lengths), list(loaded.failed), []
        try:
            images = decoded_on(list(files), self.device)
        except RuntimeError:  # one of them is damaged or no JPEG
            images = [None] * len(files)
        for image, file, index in zip(images, files, loaded.index.tolist()):
            pixels = None if image is None else here.view(image, epoch, index)
            if pixels is None:
                try:
                    pixels = here.view(decoded_on([file], self.device)[0], epoch, index)
                except RuntimeError:
                    pixels, index, bad = here.one(epoch, index)
                    failed += bad
            if pixels is not None:
                shown.append((pixels.to(self.device), index))
        pixels = torch.stack([p for p, _ in shown]) if shown else torch.empty(0, *self.size, 3, dtype=torch.uint8)
        return DecodedBatch(pixels, torch.tensor([i for _, i in shown], dtype=torch.int64), (), tuple(failed))

    def _warn(self, items: FileImages, part: str) -> None:
        """Say how many images could not be read, when they have become more."""
        failed = self._failed[items]
        if len(failed) > self._told[items]:
            self._told[items] = len(failed)
            name = items.source.name(min(failed))
            warnings.warn(
                f"{len(failed)} {part} images cannot be read and are skipped, the first {name}.", stacklevel=2
            )


def _device_decodes(device: torch.device) -> bool:
    """Whether a device can decode JPEGs, said where it cannot."""
    if device.type != "cuda":
        warnings.warn(f"--data.gpu_decode needs a CUDA device: the {device.type} decodes as usual.", stacklevel=3)
    return device.type == "cuda"
