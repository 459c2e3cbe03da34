"""Images with boxes, as COCO stores them: read, scaled and flipped by threads ahead of the step that takes them."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from famkd import distributed
from famkd.data.coco_annotations import Instances, read_instances
from famkd.data.loader import count_workers
from famkd.data.transforms import decoded
from famkd.distill.types import Batch
from famkd.errors import UserError

AHEAD = 3  # batches that are read while one is trained on


class Draws(NamedTuple):
    """Which images one epoch shows in which order, and how each is scaled and flipped."""

    index: Tensor  # (N,)
    side: Tensor  # (N,) pixels of the shorter side
    flip: Tensor  # (N,) bool


class Piece(NamedTuple):
    """One process's part of a step, ready but for arithmetic."""

    images: list[Tensor]  # (3, H, W) uint8, each of its own size
    targets: list[dict[str, Tensor]]
    index: Tensor  # (B,)


class Coco:
    """COCO's images and boxes, read as they are needed: root/train2017, root/val2017 and root/annotations.

    Order, size and flip of an image follow from (seed, epoch, index) alone. An image comes at its final size, pixels
    in 0..1, its boxes (N, 4) as x1 y1 x2 y2 of that size; torchvision's detectors normalise. Images without a box are
    trained on as background; crowds are not trained on, and neither missed nor found in a test. A step always holds
    `batch_size` images, of one orientation as far as they go.

    Args:
        sides: pixels of the shorter side, one drawn for each image in training; the last in a test.
        longest: most pixels of the longer side.
        workers: threads that read images; -1 for one per core that is ours, 0 for none.
    """

    task = "detection"
    labels, size, mean, std = None, None, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def __init__(
        self, root: str, batch_size: int, device: torch.device | str = "cpu", seed: int = 0, augment: bool = True,
        *, sides: tuple[int, ...] = (640, 672, 704, 736, 768, 800), longest: int = 1333, workers: int = -1,
    ):  # fmt: skip
        if not sides or min(*sides, longest) < 32:
            raise UserError(f"Sides of {list(sides)} and at most {longest} pixels: pass 32 or more.")
        self.root, self.device, self.seed, self.augment = Path(root), torch.device(device), seed, augment
        self.sides, self.longest, self.workers = tuple(sides), longest, count_workers(workers, distributed.world())
        self._test = read_instances(root, "val2017")
        self.classes = self._test.classes
        self._asked = batch_size

    @cached_property
    def _train(self) -> Instances:
        """Of the real set half a gigabyte of json: read when training, not when testing."""
        train = read_instances(self.root, "train2017")
        if train.classes != self.classes:
            raise UserError(f"The categories of train2017 and val2017 under {self.root} differ: list the same in both.")
        return train

    @property
    def batch_size(self) -> int:
        return min(self._asked, len(self._train))

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return len(self._train) // self.batch_size

    def plan(self, epoch: int) -> Draws:
        """The whole epoch's draws: wide images with wide ones and tall with tall, so that little is padded."""
        draw, n, b = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch), len(self._train), self.batch_size
        order = torch.randperm(n, generator=draw)
        side = torch.tensor(self.sides)[torch.randint(len(self.sides), (n,), generator=draw)]
        flip = torch.rand(n, generator=draw) < 0.5
        if not self.augment:
            side, flip = torch.full_like(side, self.sides[-1]), torch.zeros_like(flip)
        tall = torch.from_numpy(self._train.sizes[:, 0] > self._train.sizes[:, 1])[order]
        whole, rest = [], []
        for part in (order[~tall], order[tall]):
            whole += part.split(b)[: len(part) // b]
            rest.append(part[len(part) // b * b :])
        whole += torch.cat(rest).split(b)[: self.steps - len(whole)]
        index = torch.cat([whole[i] for i in torch.randperm(len(whole), generator=draw)])
        return Draws(index, side[index], flip[index])

    def epoch(self, number: int, done: int = 0) -> Iterator[Piece]:
        """This process's pieces of one epoch, counted from 1, after the `done` first ones.

        `take` makes the batch, inside the training step.
        """
        plan, b = self.plan(number), self.batch_size
        shares = [distributed.shard(start, start + b) for start in range(done * b, self.steps * b, b)]
        yield from self._read(self._train, [Draws(*(t[share] for t in plan)) for share in shares])

    def take(self, piece: Piece) -> Batch:
        """Bytes of any size to (3, H, W) floats in 0..1 on the device."""
        images = [image.to(self.device, non_blocking=True).float() / 255 for image in piece.images]
        targets = [{key: value.to(self.device) for key, value in each.items()} for each in piece.targets]
        return Batch(images, targets, piece.index.to(self.device))

    def probe(self) -> Batch:
        """The first training images as they are, at their largest, for shapes and first statistics."""
        return self.take(next(self._read(self._train, [self._still(range(self.batch_size))])))

    def test(self, batch_size: int = 0) -> Iterator[Batch]:
        """This process's share of the test images in order; targets tell also what COCO's figures need.

        By itself one image at a time: what padding to a batch adds is seen at the edges and would move the figures.
        Those are iscrowd (N,), area (N,) in square pixels of the image as stored, and its `size`, height and width.
        """
        batch_size = batch_size or 1
        share = distributed.shard(0, len(self._test))
        starts = range(share.start, share.stop, batch_size)
        plans = [self._still(range(start, min(start + starts.step, share.stop))) for start in starts]
        yield from map(self.take, self._read(self._test, plans))

    def _still(self, index: range) -> Draws:
        side = torch.full((len(index),), self.sides[-1])
        return Draws(torch.tensor(index), side, torch.zeros_like(side, dtype=torch.bool))

    def _read(self, source: Instances, plans: list[Draws]) -> Iterator[Piece]:
        """Pieces in order, read ahead by threads: decoding and scaling happen outside of Python's lock."""
        keys = [list(zip(*(t.tolist() for t in plan))) for plan in plans]
        if not self.workers:
            for part, plan in zip(keys, plans):
                yield Piece(*zip(*(self._load(source, *key) for key in part)), plan.index)
            return
        pool, waiting = ThreadPoolExecutor(self.workers), deque()
        try:
            for n, plan in enumerate(plans):
                for part in keys[n + len(waiting) : n + 1 + AHEAD]:
                    waiting.append([pool.submit(self._load, source, *key) for key in part])
                yield Piece(*zip(*(future.result() for future in waiting.popleft())), plan.index)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _load(self, source: Instances, index: int, side: int, flip: bool) -> tuple[Tensor, dict[str, Tensor]]:
        picture = _opened(source, index)
        h, w = source.sizes[index]
        scale = min(side / min(h, w), self.longest / max(h, w))
        height, width = (max(1, round(n * scale)) for n in (h, w))
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        own = slice(source.start[index], source.start[index + 1])
        boxes = source.boxes[own] * np.float32((width / w, height / h) * 2)
        facts = {"labels": source.labels[own], "iscrowd": source.crowd[own], "area": source.area[own]}
        if flip:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            boxes = np.stack((width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]), 1)
        if source is self._test:
            facts["size"] = source.sizes[index]
        else:
            boxes = boxes.clip(0, np.float32((width, height) * 2))
            kept = (boxes[:, 2:] > boxes[:, :2]).all(1) & ~facts["iscrowd"]
            boxes, facts = boxes[kept], {"labels": facts["labels"][kept]}
        target = {key: torch.from_numpy(np.array(value)) for key, value in (("boxes", boxes), *facts.items())}
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1), target


def _opened(source: Instances, index: int) -> Image.Image:
    path = source.folder / str(source.names[index])
    try:
        picture = decoded(path.read_bytes())
    except Exception as error:  # every decoder has its own
        raise UserError(f"Cannot read the image {path}: restore it, or take it off the annotations.") from error
    if (picture.height, picture.width) != tuple(source.sizes[index]):
        told = "x".join(map(str, source.sizes[index]))
        raise UserError(
            f"{path} is {picture.height}x{picture.width} but its annotations say {told}: mend height, width."
        )
    return picture
