"""A data set held on the device as bytes and augmented there, a batch at a time: it needs no worker processes."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from famkd import distributed
from famkd.data.augment import Augment
from famkd.data.balance import Balance, class_weights, drawn, must_have_classes
from famkd.data.seeded import generator_of
from famkd.data.small import Images
from famkd.data.split import read_split
from famkd.data.targets import checked_targets, one_class_each, without_labels
from famkd.data.transforms import as_rgb
from famkd.data.views import Views, batches_of
from famkd.distill.types import Batch, Pictures
from famkd.errors import UserError


class Draws(NamedTuple):
    """Which images an epoch, or a part of it, shows in which order, and how each is cropped and flipped."""

    index: Tensor  # (N,)
    top: Tensor  # (N,) first row of the crop in the padded image
    left: Tensor  # (N,) its first column
    flip: Tensor  # (N,) bool


class InMemory:
    """Training and test images on one device; each of several processes takes its share of every step.

    Order and augmentation of an epoch follow from (seed, epoch) alone, so that a resumed run sees the same images.
    A step always holds `batch_size` images. Images that do not fill a last step are left out of that epoch.
    """

    task: ClassVar[str] = "classification"
    streamed: bool = False

    def __init__(
        self,
        images: Images,
        batch_size: int,
        device: torch.device | str = "cpu",
        seed: int = 0,
        augment: bool = True,
    ):
        self.classes, self.mean, self.std = images.classes, images.mean, images.std
        self.device = torch.device(device)
        self.seed = seed
        self._asked = batch_size
        self._views: Views | None = None
        self.pad, self.flips = (images.pad, images.flip) if augment else (0, False)
        height, width = images.x_train.shape[1:3]
        self.size = (height, width)
        self._test, self._test_labels = self._on_device(images.x_test, images.y_test)
        self._val, self._val_labels = self._test[:0], self._test_labels[:0]
        self._read_split, self._test_files = images.read_split, images.test_files
        self._balance: Balance = "none"
        self._class_weights: Tensor | None = None  # (classes,) in the student's own loss
        self._train_on(*self._on_device(images.x_train, images.y_train))
        scale = 1 / (255 * torch.tensor(images.std))
        self._scale = scale.to(self.device)
        self._shift = (-torch.tensor(images.mean) * 255 * scale).to(self.device)

    def _on_device(self, pixels: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(pixels).to(self.device), torch.from_numpy(labels).to(self.device)

    def _train_on(self, pixels: Tensor, labels: Tensor) -> None:
        p = self.pad
        self._train = torch.nn.functional.pad(pixels, (0, 0, p, p, p, p))
        self._targets = labels
        self.n_train = len(labels)
        self.batch_size = min(self._asked, len(labels))

    def hold_out(self, val: str, seed: int = 0) -> None:
        """Keep a held-out split out of training: a fraction of the training images, or a split of its own by name."""
        split = read_split(val, seed)
        if split.name:
            if self._read_split is None:
                raise UserError(f"--data.val {val}: this data set has no further split: pass a fraction such as 0.1.")
            self._val, self._val_labels = self._on_device(*self._read_split(split.name))
            return
        held_out = torch.from_numpy(split.draw(self._targets.cpu().numpy())).to(self.device)
        kept = torch.ones(self.n_train, dtype=torch.bool, device=self.device).index_fill(0, held_out, False)
        pixels = self._train_pixels()
        self._val, self._val_labels = pixels[held_out], self._targets[held_out]
        self._train_on(pixels[kept], self._targets[kept])

    def balance(self, how: Balance) -> None:
        """Show each class equally often, or weigh the images' own loss, by the classes' numbers of training images."""
        must_have_classes(self.labels)
        self._balance = how
        self._class_weights = class_weights(self._targets, len(self.classes)) if how == "loss" else None

    def augment_by(self, augment: Augment) -> None:
        """Leave the border around training images out: a random resized crop of the image itself follows."""
        pixels, self.pad = self._train_pixels(), 0
        self._train_on(pixels.contiguous(), self._targets)

    def _train_pixels(self) -> Tensor:
        """(N, H, W, 3) training images without their border."""
        height, width = self.size
        return self._train[:, self.pad : self.pad + height, self.pad : self.pad + width]

    @property
    def labels(self) -> Tensor | None:
        """(N,) class of every training image; None where an image has no single class."""
        return one_class_each(self._targets)

    @property
    def n_val(self) -> int:
        """Number of held-out images."""
        return len(self._val_labels)

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return len(self._targets) // self.batch_size

    @property
    def n_test(self) -> int:
        """Number of test images."""
        return len(self._test_labels)

    def plan(self, epoch: int) -> Draws:
        """All draws of an epoch, made at once on the CPU so that they are the same on every device."""
        draw = generator_of(self.seed, epoch)
        labels = self._targets.cpu()
        weights = class_weights(labels, len(self.classes))[labels] if self._balance == "sample" else None
        index = drawn(len(labels), draw, weights)
        if self._views:
            crops = [each[index] for each in self._crops_of_view(self._views.of_epoch(epoch))]
        else:
            crops = self._crops(draw)
        return Draws(*(each.to(self.device, non_blocking=True) for each in (index, *crops)))

    def _crops(self, draw: torch.Generator) -> list[Tensor]:
        """Top, left and flip of as many images as the training set has."""
        n, offsets = len(self._targets), 2 * self.pad + 1
        top = torch.randint(offsets, (n,), generator=draw)
        left = torch.randint(offsets, (n,), generator=draw)
        flip = torch.rand(n, generator=draw) < (0.5 if self.flips else 0.0)
        return [top, left, flip]

    def _crops_of_view(self, number: int) -> list[Tensor]:
        """Top, left and flip of each image in the order of their positions; view 0 is the image as it is."""
        if not number:
            centre = torch.full((len(self._targets),), self.pad)
            return [centre, centre, torch.zeros_like(centre, dtype=torch.bool)]
        assert self._views is not None, "call repeat_views first"
        return self._crops(generator_of(self._views.seed, number))

    def repeat_views(self, count: int, seed: int = 0) -> None:
        """Augment each image in `count` ways, drawn by a seed of their own, which the epochs use in turn."""
        self._views = Views(count, seed)

    def view(self, number: int, positions: Iterable[int], batch_size: int = 0) -> Iterator[Batch]:
        """Training images at some positions under a view, in this order; view 0 is the image as it is."""
        crops = self._crops_of_view(number)
        for rows in batches_of(positions, batch_size or self.batch_size):
            index = torch.tensor(rows)
            draws = (index, *(each[index] for each in crops))
            yield self.take(Draws(*(each.to(self.device) for each in draws)))

    def epoch(self, number: int, done: int = 0) -> Iterator[Draws]:
        """This process's pieces of an epoch, counted from 1, without the first `done` steps.

        A piece holds draws only: `take` makes the batch, inside the training step.
        """
        plan = self.plan(number)
        for step in range(done, self.steps):
            start = step * self.batch_size
            part = distributed.shard(start, start + self.batch_size)
            yield Draws(*(each[part] for each in plan))

    def take(self, piece: Draws) -> Batch:
        """Crop, flip and normalise the images of a piece."""
        height, width = self.size
        rows = piece.top[:, None] + torch.arange(height, device=self.device)
        across = torch.arange(width, device=self.device)
        columns = piece.left[:, None] + torch.where(piece.flip[:, None], width - 1 - across, across)
        pixels = self._train[piece.index[:, None, None], rows[:, :, None], columns[:, None, :]]
        targets = self._targets[piece.index]
        return Batch(self._normalised(pixels), targets, piece.index, class_weights=self._class_weights)

    def probe(self) -> Batch:
        """The first training images without augmentation, for shapes and first statistics."""
        return next(self.view(0, range(self.batch_size)))

    def test(self, batch_size: int = 0) -> Iterator[Batch]:
        """This process's share of the test images, in order; the last batch may be shorter.

        Default batch: 500; 2500 on a GPU, so that compute hides launch overhead.
        """
        return self._in_order(self._test, self._test_labels, batch_size)

    def val(self, batch_size: int = 0) -> Iterator[Batch]:
        """This process's share of the held-out images, as `test` yields test images."""
        return self._in_order(self._val, self._val_labels, batch_size)

    def _in_order(self, pixels: Tensor, labels: Tensor, batch_size: int) -> Iterator[Batch]:
        if not batch_size:
            batch_size = 2500 if self.device.type == "cuda" else 500
        share = distributed.shard(0, len(labels))
        for start in range(share.start, share.stop, batch_size):
            part = slice(start, min(start + batch_size, share.stop))
            index = torch.arange(part.start, part.stop, device=self.device)
            yield Batch(self._normalised(pixels[part]), labels[part], index)

    def file(self, index: int, split: str = "test") -> str:
        """Path of a test image; "" where the images are no files, and for held-out ones."""
        return self._test_files[index] if split == "test" and self._test_files else ""

    def pictures(self, index: Iterable[int]) -> Pictures:
        """Test images at some positions."""
        rows = torch.tensor([int(i) for i in index], dtype=torch.int64, device=self.device)
        pixels = self._test[rows]
        return Pictures(self._normalised(pixels), self._test_labels[rows], as_rgb(pixels))

    def images(self) -> Images:
        """Training and test images as arrays in the CPU's memory, with the augmentation in use."""
        arrays = (self._train_pixels(), self._targets, self._test, self._test_labels)
        x_train, y_train, x_test, y_test = (each.cpu().numpy() for each in arrays)
        return Images(
            x_train, y_train, x_test, y_test, self.classes, self.mean, self.std, pad=self.pad, flip=self.flips
        )

    def _normalised(self, pixels: Tensor) -> Tensor:
        """(B, H, W, C) bytes to (B, C, H, W) floats, channels last in memory."""
        return torch.addcmul(self._shift, pixels.float(), self._scale).permute(0, 3, 1, 2)


def for_task(images: Images, task: str) -> Images:
    """Images with the labels that a task takes; UserError for others."""
    if task == "classification":
        return images
    if task == "unlabelled":
        return replace(images, y_train=without_labels(images.y_train), y_test=without_labels(images.y_test))
    y_train, y_test = (checked_targets(labels, task, "The labels are") for labels in (images.y_train, images.y_test))
    return replace(images, y_train=y_train, y_test=y_test)


def in_memory(load: Callable[..., Images]) -> Callable[..., InMemory]:
    """A builder for `famkd.data.DATA` from a function that loads all images of a data set from its root.

    Keyword-only arguments of the function become options of the data set. A function that has an argument `task` reads
    the labels that the task wants; of others the labels are left out where the task wants none.
    """
    takes_task = "task" in inspect.signature(load).parameters

    def build(
        root: str,
        batch_size: int,
        device: torch.device | str = "cpu",
        seed: int = 0,
        augment: bool = True,
        task: str = "classification",
        **options: Any,
    ) -> InMemory:
        images = load(root, task, **options) if takes_task else load(root, **options)
        return InMemory(for_task(images, task), batch_size, device, seed, augment)

    own = inspect.signature(build)
    common = [each for each in own.parameters.values() if each.kind is not each.VAR_KEYWORD]
    options = [each for each in inspect.signature(load).parameters.values() if each.kind is each.KEYWORD_ONLY]
    build.__signature__ = own.replace(parameters=common + options)  # pyright: ignore[reportFunctionMemberAccess]
    build.__annotations__ = {**getattr(load, "__annotations__", {}), **build.__annotations__}
    build.__name__ = build.__qualname__ = getattr(load, "__name__", "build")
    build.__doc__ = load.__doc__
    build.tasks = getattr(load, "tasks", ("classification", "unlabelled"))  # pyright: ignore[reportFunctionMemberAccess]
    return build
