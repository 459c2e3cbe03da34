"""Images with boxes, as COCO stores them: worker processes read, scale and flip them ahead of the training step."""

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor
from torch.utils.data import DataLoader

from famkd import distributed
from famkd.data.balance import Balance
from famkd.data.coco_annotations import Instances, read_instances
from famkd.data.coco_files import Place, find_annotations
from famkd.data.coco_images import BoxImages, Key, Piece, split_piece
from famkd.data.loader import count_workers, local_processes, make_loader
from famkd.data.pixels import colour
from famkd.data.seeded import generator_of
from famkd.data.split import Split, read_split
from famkd.data.unreadable import Choice, Found, find_unreadable, settle
from famkd.data.views import Views, batches_of
from famkd.distill.types import Batch, Pictures
from famkd.errors import UserError


class _Draws(NamedTuple):
    """Which images an epoch, or a part of it, shows in which order, and how each is scaled and flipped."""

    index: Tensor  # (N,)
    side: Tensor  # (N,) pixels of the shorter side
    flip: Tensor  # (N,) bool

    def keys(self) -> list[Key]:
        return list(zip(self.index.tolist(), self.side.tolist(), self.flip.tolist()))


class Coco:
    """COCO's images and boxes: root/train2017, root/val2017 and root/annotations, or Roboflow's train/ and valid/.

    Order, size and flip of an image follow from (seed, epoch, index) alone. An image has its final size, pixels in
    0..1, and boxes (N, 4) as x1 y1 x2 y2 in pixels of that size; torchvision's detectors normalise. Images without a
    box are trained on as background. Crowds are left out of training and ignored in tests. A step always holds
    `batch_size` images, of one orientation as far as possible.

    Args:
        sides: Pixels of the shorter side. Training draws one for each image; tests use the last.
        longest: Most pixels of the longer side.
        workers: Processes that read images; -1 for one per core, 0 to read in the training process.
        background: Colour behind transparent pixels: a name such as white or black, or #rrggbb.
        unreadable: Refuse a data set with image files that are missing or cannot be read, or skip these files.
        train_images: Folder of training images, under the root or absolute. By default it is found.
        train_annotations: Json of the training images' boxes, under the root or absolute. By default it is found.
        test_images: Folder of test images, under the root or absolute. By default it is found.
        test_annotations: Json of the test images' boxes, under the root or absolute. By default it is found.
    """

    task: ClassVar[str] = "detection"
    streamed: bool = True
    labels: Tensor | None = None
    size: tuple[int, int] | None = None
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    def __init__(
        self,
        root: str,
        batch_size: int,
        device: torch.device | str = "cpu",
        seed: int = 0,
        augment: bool = True,
        *,
        sides: tuple[Annotated[int, Ge(32)], ...] = (640, 672, 704, 736, 768, 800),
        longest: Annotated[int, Ge(32)] = 1333,
        workers: Annotated[int, Ge(-1)] = -1,
        background: str = "white",
        unreadable: Choice = "refuse",
        train_images: str = "",
        train_annotations: str = "",
        test_images: str = "",
        test_annotations: str = "",
    ):
        if not sides or min(*sides, longest) < 32:
            raise UserError(f"Sides of {list(sides)} and at most {longest} pixels: pass 32 or more.")
        self.root = Path(root)
        self.device = torch.device(device)
        self.seed, self.augment = seed, augment
        self.sides, self.longest = tuple(sides), longest
        self._workers = count_workers(workers, local_processes())
        self._background = colour(background)
        self._unreadable: Choice = unreadable
        self._train_files = (train_annotations, train_images)
        self._test_place = find_annotations(root, "val", test_annotations, test_images)
        self._test = self._images(self._read(self._test_place, None), training=False)
        self.classes = self._test.source.classes
        self._asked = batch_size
        self._split: Split | None = None
        self._views: Views | None = None
        self._batches: list[list[Key]] = []  # of the epoch that the training loader reads

    @cached_property
    def _train_place(self) -> Place:
        return find_annotations(self.root, "train", *self._train_files)

    @cached_property
    def _train_and_val(self) -> tuple[BoxImages, BoxImages | None]:
        """Training and held-out images. The real set has half a gigabyte of json, which a test does not need."""
        train, split = self._read(self._train_place, self.classes), self._split
        held_out = None
        if split and split.name:
            held_out = self._read(find_annotations(self.root, split.name), self.classes)
        elif split:
            out = split.draw(np.zeros(len(train), np.int64))  # an image has no single class to draw by
            held_out = train.subset(out)
            train = train.without(out.tolist())
        return self._images(train, training=True), self._images(held_out, training=False) if held_out else None

    def _read(self, place: Place, classes: list[str] | None) -> Instances:
        """The images of a json, without the unreadable ones if these are to be skipped."""
        source, missing = read_instances(place, classes)
        found = find_unreadable(source, self._workers, source.sizes) | dict.fromkeys(missing, "missing")
        settle(Found({source.name(n): found[n] for n in sorted(found)}, len(source)), self._unreadable)
        return source.without(sorted(found))

    def _images(self, source: Instances, training: bool) -> BoxImages:
        return BoxImages(source, self.longest, training, self._background, skip=self._unreadable == "skip")

    @property
    def _train(self) -> BoxImages:
        return self._train_and_val[0]

    def hold_out(self, val: str, seed: int = 0) -> None:
        """Keep a held-out split out of training: a fraction of the images, or a split beside the others, by name."""
        self._split = read_split(val, seed)
        name, used = self._split.name, (self._train_place.annotations, self._test_place.annotations)
        if name and find_annotations(self.root, name).annotations in used:
            raise UserError(f"--data.val {val} holds the training or test images: name another split of {self.root}.")

    @cached_property
    def _loader(self) -> DataLoader:
        return make_loader(self._train, self._batches, self._workers, self.device, keep_workers=True)

    @property
    def batch_size(self) -> int:
        """Images in a step of all processes."""
        return min(self._asked, self.n_train)

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return self.n_train // self.batch_size

    @property
    def n_train(self) -> int:
        """Number of training images, without those that are held out."""
        return len(self._train.source)

    @property
    def n_val(self) -> int:
        """Number of held-out images."""
        val = self._train_and_val[1] if self._split else None
        return len(val.source) if val else 0

    @property
    def n_test(self) -> int:
        """Number of test images."""
        return len(self._test.source)

    def plan(self, epoch: int) -> _Draws:
        """All draws of an epoch: wide images with wide ones and tall with tall, so that little is padded."""
        draw = generator_of(self.seed, epoch)
        sizes = self._train.source.sizes
        n, b = len(sizes), self.batch_size
        order = torch.randperm(n, generator=draw)
        side, flip = self._sides_and_flips(self._views.of_epoch(epoch)) if self._views else self._drawn(draw)
        tall = torch.from_numpy(sizes[:, 0] > sizes[:, 1])[order]
        batches: list[Tensor] = []
        rest: list[Tensor] = []
        for images in (order[~tall], order[tall]):
            full = len(images) // b
            batches += images.split(b)[:full]
            rest.append(images[full * b :])
        batches += torch.cat(rest).split(b)[: self.steps - len(batches)]
        shuffled = torch.randperm(len(batches), generator=draw)
        index = torch.cat([batches[i] for i in shuffled])
        return _Draws(index, side[index], flip[index])

    def _drawn(self, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """The shorter side of each training image, and whether it is flipped."""
        n = self.n_train
        side = torch.tensor(self.sides)[torch.randint(len(self.sides), (n,), generator=draw)]
        flip = torch.rand(n, generator=draw) < 0.5
        return (side, flip) if self.augment else self._sides_and_flips(0)

    def _sides_and_flips(self, view: int) -> tuple[Tensor, Tensor]:
        """`_drawn` of a view; view 0 is not augmented."""
        if not view:
            return torch.full((self.n_train,), self.sides[-1]), torch.zeros(self.n_train, dtype=torch.bool)
        assert self._views is not None, "call repeat_views first"
        return self._drawn(generator_of(self._views.seed, view))

    def repeat_views(self, count: int, seed: int = 0) -> None:
        """Scale and flip each image in `count` ways, drawn by a seed of their own, which the epochs use in turn."""
        self._views = Views(count, seed)

    def view(self, number: int, positions: Iterable[int], batch_size: int = 0) -> Iterator[Batch]:
        """Training images at some positions under a view; view 0 is not augmented."""
        side, flip = self._sides_and_flips(number)
        for rows in batches_of(positions, batch_size or self.batch_size):
            keys = _Draws(torch.tensor(rows), side[rows], flip[rows]).keys()
            yield self.take(split_piece(self._train.__getitems__(keys)))

    def epoch(self, number: int, done: int = 0) -> Iterator[Piece]:
        """This process's pieces of an epoch, counted from 1, without the first `done` steps."""
        plan = self.plan(number)
        batches = []
        for step in range(done, self.steps):
            start = step * self.batch_size
            part = distributed.shard(start, start + self.batch_size)
            batches.append(_Draws(*(each[part] for each in plan)).keys())
        self._batches[:] = batches
        yield from map(split_piece, self._loader)

    def take(self, piece: Piece) -> Batch:
        """Bytes of any size to (3, H, W) floats in 0..1 on the device."""
        images = [image.to(self.device, non_blocking=True).float() / 255 for image in piece.images]
        targets = [{key: value.to(self.device) for key, value in each.items()} for each in piece.targets]
        return Batch(images, targets, piece.index.to(self.device))

    def probe(self) -> Batch:
        """The first training images without augmentation, at their largest, for shapes and first statistics."""
        return next(self.view(0, range(self.batch_size)))

    def test(self, batch_size: int = 0) -> Iterator[Batch]:
        """This process's share of the test images, in order, with what COCO's figures need.

        Default batch: one image, because padding to a batch shows at the edges and would change the figures. Targets
        also hold iscrowd (N,), area (N,) in square pixels of the stored image, and its `size`, height and width.
        """
        return self._in_order(self._test, batch_size or 1)

    def val(self, batch_size: int = 0) -> Iterator[Batch]:
        """This process's share of the held-out images, as `test` yields test images."""
        val = self._train_and_val[1]
        assert val is not None, "call hold_out first"
        return self._in_order(val, batch_size or 1)

    def _in_order(self, items: BoxImages, batch_size: int) -> Iterator[Batch]:
        share = distributed.shard(0, len(items.source))
        rows = batches_of(range(share.start, share.stop), batch_size)
        batches = [[(i, self.sides[-1], False) for i in row] for row in rows]
        for loaded in make_loader(items, batches, self._workers, self.device, keep_workers=False):
            piece = split_piece(loaded)
            if not len(piece.index):
                continue
            sizes = torch.from_numpy(items.source.sizes)[piece.index]
            for target, size in zip(piece.targets, sizes):
                target["size"] = size
            yield self.take(piece)

    def balance(self, how: Balance) -> None:
        """Not for this data set: raises UserError."""
        raise UserError("An image of COCO shows several classes, so none can be balanced: leave --data.balance out.")

    def pictures(self, index: Iterable[int]) -> Pictures:
        """Not for this data set: raises UserError."""
        raise UserError("Images of COCO differ in size and show several classes: no pictures can be made of them.")
