"""A data set too large to hold: read, decoded and cut by worker processes, normalised on the device."""

import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from famkd import distributed
from famkd.data.augment import Augment
from famkd.data.balance import Balance, class_weights, must_have_classes
from famkd.data.jpeg import decoded_or_none, device_decodes, turned, with_channels
from famkd.data.loader import (
    TRIES,
    DecodedBatch,
    FileImages,
    Key,
    Source,
    Subset,
    TrainTest,
    count_workers,
    local_processes,
    make_loader,
)
from famkd.data.pixels import WHITE, Colour
from famkd.data.seeded import generator_of
from famkd.data.split import read_split
from famkd.data.targets import one_class_each
from famkd.data.transforms import USUAL_PREPROCESSING, Preprocessing, Size, as_rgb, normalised
from famkd.data.views import Views, batches_of
from famkd.distill.types import Batch, Pictures
from famkd.errors import UserError

# Of ImageNet's training images, by number of channels. Grey has the means of the three colours; alpha is in 0..1.
MEAN = {1: (0.449,), 3: (0.485, 0.456, 0.406), 4: (0.485, 0.456, 0.406, 0.5)}
STD = {1: (0.226,), 3: (0.229, 0.224, 0.225), 4: (0.229, 0.224, 0.225, 0.5)}
SIZE = 224  # pixels
PROBE = 64  # most images in a probe
TEST_BATCH = 250


class _Piece(NamedTuple):
    """One process's part of a step, ready to be normalised."""

    pixels: Tensor  # (B, H, W, C) uint8
    targets: Tensor  # (B,), or (B, labels)
    index: Tensor  # (B,)


class Streamed:
    """Training and test images read from files as they are needed.

    Order and augmentation of an epoch follow from (seed, epoch, index) alone. A step holds `batch_size` images over all
    processes. Images that do not fill a last step are left out of that epoch.

    Args:
        size: height and width of the images.
        workers: processes that decode; -1 for one per core, 0 to decode in this process.
        gpu_decode: decode JPEGs on the GPU, and other files on the CPU.
        background: colour behind transparent pixels.
        skip: go on with the next image where one turns out to be unreadable; otherwise raise UserError.
        channels: 1 for grey, 3 for RGB, 4 for RGBA.
        mean, std: of each channel, for pixels in 0..1; by default those of ImageNet.
        preprocessing: how images are scaled, cropped and recoloured.
    """

    task: ClassVar[str] = "classification"
    streamed: bool = True

    def __init__(
        self,
        splits: TrainTest,
        batch_size: int,
        device: torch.device | str = "cpu",
        seed: int = 0,
        augment: bool = True,
        *,
        size: Size = (SIZE, SIZE),
        workers: int = -1,
        gpu_decode: bool = False,
        background: Colour = WHITE,
        skip: bool = False,
        channels: int = 3,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
        preprocessing: Preprocessing = USUAL_PREPROCESSING,
    ):
        self.device = torch.device(device)
        self.mean, self.std = tuple(mean or MEAN[channels]), tuple(std or STD[channels])
        self.seed = seed
        self.classes = splits.classes
        self.size, self.skip = size, skip
        self._raw = gpu_decode and device_decodes(self.device)
        self._splits, self._asked, self._augment = splits, batch_size, augment
        self._views: Views | None = None
        self._background, self._channels, self._preprocessing = background, channels, preprocessing
        self._test = self._files(splits.test)
        self._val: FileImages | None = None
        self._workers = count_workers(workers, local_processes())
        self._batches: list[list[Key]] = []  # of the epoch that the training loader reads
        self._failed: dict[FileImages, set[int]] = defaultdict(set)
        self._warned: dict[FileImages, int] = defaultdict(int)  # how many unreadable images a warning has named
        self._probe: Batch | None = None
        self._balance: Balance = "none"
        self._class_weights: Tensor | None = None  # (classes,) in the student's own loss
        self._train_on(splits.train)
        scale = 1 / (255 * torch.tensor(self.std))
        self._scale = scale.repeat(self.size[1]).to(self.device)  # (W * C,), a row of pixels
        self._shift = (-torch.tensor(self.mean) * 255 * scale).repeat(self.size[1]).to(self.device)

    def _files(self, source: Source) -> FileImages:
        seed = self._views.seed if self._views else self.seed
        settings = (self._raw, self._background, self._channels, self._preprocessing)
        return FileImages(source, self.size, seed, self._augment, *settings)

    def _train_on(self, source: Source) -> None:
        self.batch_size = min(self._asked, len(source))
        self._targets = torch.from_numpy(source.labels).to(self.device)
        self.n_train = len(source)
        self._train = self._files(source)
        self._loader = make_loader(self._train, self._batches, self._workers, self.device, keep_workers=True)

    def augment_by(self, augment: Augment) -> None:
        """Crop and recolour training images by these options, in the worker processes."""
        self._preprocessing = replace(self._preprocessing, training=augment)
        self._train_on(self._train.source)

    def hold_out(self, val: str, seed: int = 0) -> None:
        """Keep a held-out split out of training: a fraction of the training images, or a folder next to theirs."""
        split, source = read_split(val, seed), self._splits.train
        if split.name:
            assert self._splits.read_split is not None  # folders and shards have it
            self._val = self._files(self._splits.read_split(split.name))
            return
        held_out = split.draw(source.labels)
        self._val = self._files(Subset(source, held_out))
        self._train_on(Subset(source, np.delete(np.arange(len(source)), held_out)))

    def balance(self, how: Balance) -> None:
        """Show each class equally often, or weigh the images' own loss, by the classes' numbers of training images."""
        must_have_classes(self.labels)
        self._balance = how
        self._class_weights = class_weights(self._targets, len(self.classes)) if how == "loss" else None

    def repeat_views(self, count: int, seed: int = 0) -> None:
        """Augment each image in `count` ways, drawn by a seed of their own, which the epochs use in turn."""
        self._views = Views(count, seed)
        self._train_on(self._train.source)

    def view(self, number: int, positions: Iterable[int], batch_size: int = 0) -> Iterator[Batch]:
        """Training images at some positions under a view; view 0 is the image as it is.

        The next readable image replaces an unreadable one; in view 0 it is left out.
        """
        batches = [[(number, row) for row in rows] for rows in batches_of(positions, batch_size or TEST_BATCH)]
        for loaded in make_loader(self._train, batches, self._workers, self.device, keep_workers=False):
            piece = self._piece(loaded, self._train, number)
            if len(piece.index):
                yield self.take(piece)

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return self.n_train // self.batch_size

    @property
    def labels(self) -> Tensor | None:
        """(N,) class of every training image; None where an image has no single class."""
        return one_class_each(self._targets)

    @property
    def n_val(self) -> int:
        """Number of held-out images, unreadable ones included."""
        return len(self._val.source) if self._val else 0

    @property
    def n_test(self) -> int:
        """Number of test images, unreadable ones included."""
        return len(self._test.source)

    def plan(self, epoch: int) -> Tensor:
        """The order of an epoch's images; how each is cut follows from (seed, epoch, index)."""
        draw = generator_of(self.seed, epoch)
        labels = torch.from_numpy(self._train.source.labels)
        weights = class_weights(labels, len(self.classes))[labels] if self._balance == "sample" else None
        return self._train.source.order(draw, weights)

    def epoch(self, number: int, done: int = 0) -> Iterator[_Piece]:
        """This process's pieces of an epoch, counted from 1, without the first `done` steps."""
        plan = self.plan(number).tolist()
        view = self._views.of_epoch(number) if self._views else number
        batches = []
        for step in range(done, self.steps):
            start = step * self.batch_size
            part = distributed.shard(start, start + self.batch_size)
            batches.append([(view, index) for index in plan[part]])
        self._batches[:] = batches
        for loaded in self._loader:
            piece = self._piece(loaded, self._train, view)
            if len(piece.index) < len(batches[0]):
                name = self._train.source.name(loaded.failed[0])
                raise UserError(f"{TRIES} training images in a row cannot be read, the first {name}.")
            yield piece
        self._warn(self._train, "training")

    def take(self, piece: _Piece) -> Batch:
        """Normalise a piece: (B, H, W, C) bytes to (B, C, H, W) floats, channels last in memory."""
        return Batch(self._normalised(piece.pixels), piece.targets, piece.index, class_weights=self._class_weights)

    def probe(self) -> Batch:
        """The first training images without augmentation, at most 64, for shapes and first statistics."""
        if self._probe is None:
            keys = [(0, index) for index in range(min(PROBE, self.batch_size))]
            loaded = self._train.__getitems__(keys)
            self._probe = self.take(self._piece(loaded, self._train, 0))
            if not len(self._probe.index):
                raise UserError(f"None of the first images can be read, {self._train.source.name(0)} among them.")
        return self._probe

    def test(self, batch_size: int = 0) -> Iterator[Batch]:
        """This process's share of the test images, in order, without unreadable ones; 250 a batch by default."""
        return self._in_order(self._test, "test", batch_size or TEST_BATCH)

    def val(self, batch_size: int = 0) -> Iterator[Batch]:
        """This process's share of the held-out images, as `test` yields test images."""
        assert self._val is not None, "call hold_out first"
        return self._in_order(self._val, "held-out", batch_size or TEST_BATCH)

    def _in_order(self, items: FileImages, part: str, batch_size: int) -> Iterator[Batch]:
        share = distributed.shard(0, len(items.source))
        batches = [[(0, row) for row in rows] for rows in batches_of(range(share.start, share.stop), batch_size)]
        for loaded in make_loader(items, batches, self._workers, self.device, keep_workers=False):
            piece = self._piece(loaded, items, 0)
            if len(piece.index):
                yield Batch(self._normalised(piece.pixels), piece.targets, piece.index)
        self._warn(items, part)

    def file(self, index: int, split: str = "test") -> str:
        """Path of a test image, or with `val` of a held-out one."""
        return (self._val if split == "val" and self._val else self._test).source.name(index)

    def pictures(self, index: Iterable[int]) -> Pictures:
        """Test images at some positions, read in this process, without unreadable ones."""
        loaded = self._test.__getitems__([(0, int(i)) for i in index])
        piece = self._piece(loaded, self._test, 0)
        return Pictures(self._normalised(piece.pixels), piece.targets, as_rgb(piece.pixels))

    def _normalised(self, pixels: Tensor) -> Tensor:
        return normalised(pixels, self._scale, self._shift)

    def _piece(self, loaded: DecodedBatch | UserError, items: FileImages, epoch: int) -> _Piece:
        if isinstance(loaded, UserError):
            raise loaded
        if self._raw:
            loaded = self._decoded(loaded, items, epoch)
        if loaded.failed and not self.skip:
            raise UserError(
                f"{items.source.name(loaded.failed[0])} cannot be read: restore it and go on with --resume, or pass "
                "--data.unreadable skip."
            )
        self._failed[items].update(loaded.failed)
        targets = torch.from_numpy(items.source.labels)[loaded.index]
        tensors = (loaded.pixels, targets, loaded.index)
        return _Piece(*(each.to(self.device, non_blocking=True) for each in tensors))

    def _decoded(self, loaded: DecodedBatch, items: FileImages, epoch: int) -> DecodedBatch:
        """Decode files on the device; one that it does not decode as the CPU does is decoded on the CPU."""
        options = (False, items.background, items.channels, items.settings)
        reader = FileImages(items.source, items.size, items.seed, items.augment, *options)
        files = loaded.pixels.split(loaded.lengths)
        own = [file for file, turn in zip(files, loaded.turns) if turn]
        images = iter(decoded_or_none(own, self.device))
        shown: list[Tensor] = []
        numbers: list[int] = []
        failed = list(loaded.failed)
        for turn, index in zip(loaded.turns, loaded.index.tolist()):
            image = next(images) if turn else None
            if image is not None:
                pixels = reader.view(with_channels(turned(image, turn), items.channels), epoch, index)
            else:
                pixels, index, unreadable = reader.one(epoch, index)
                failed += unreadable
            if pixels is not None:
                shown.append(pixels.to(self.device))
                numbers.append(index)
        pixels = torch.stack(shown) if shown else torch.empty(0, *self.size, items.channels, dtype=torch.uint8)
        return DecodedBatch(pixels, torch.tensor(numbers, dtype=torch.int64), (), tuple(failed))

    def _warn(self, items: FileImages, part: str) -> None:
        """Warn of images that could not be read, if they are more than at the last warning."""
        failed = self._failed[items]
        if len(failed) <= self._warned[items]:
            return
        self._warned[items] = len(failed)
        name = items.source.name(min(failed))
        warnings.warn(f"{len(failed)} {part} images cannot be read and are skipped, the first {name}.", stacklevel=2)
