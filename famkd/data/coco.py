"""Images with boxes, as COCO stores them: worker processes read, scale and flip them ahead of the training step."""

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import torch
from annotated_types import Ge
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from famkd import distributed
from famkd.data.coco_annotations import Instances, read_instances
from famkd.data.loader import count_workers, local_processes, make_loader
from famkd.data.transforms import decoded
from famkd.distill.types import Batch, Pictures
from famkd.errors import UserError

_Key = tuple[int, int, bool]  # number of an image, pixels of its shorter side, whether it is flipped


class _Draws(NamedTuple):
    """Which images an epoch, or a part of it, shows in which order, and how each is scaled and flipped."""

    index: Tensor  # (N,)
    side: Tensor  # (N,) pixels of the shorter side
    flip: Tensor  # (N,) bool

    def keys(self) -> list[_Key]:
        return list(zip(self.index.tolist(), self.side.tolist(), self.flip.tolist()))


class _Piece(NamedTuple):
    """One process's part of a step, ready to go to the device."""

    images: list[Tensor]  # (3, H, W) uint8, each of its own size
    targets: list[dict[str, Tensor]]
    index: Tensor  # (B,)


class _LoadedImages(NamedTuple):
    """Some images as a worker process returns them: few tensors, because each tensor costs an open file."""

    pixels: Tensor  # uint8, the (H, W, 3) pixels of all images in a row
    sizes: list[tuple[int, int]]  # height and width of each image
    targets: dict[str, Tensor]  # of the objects of all images in a row
    objects: list[int]  # objects in each image
    index: Tensor  # (B,)


class Coco:
    """COCO's images and boxes, read as they are needed: root/train2017, root/val2017 and root/annotations.

    Order, size and flip of an image follow from (seed, epoch, index) alone. An image has its final size, pixels in
    0..1, and boxes (N, 4) as x1 y1 x2 y2 in pixels of that size; torchvision's detectors normalise. Images without a
    box are trained on as background. Crowds are left out of training and ignored in tests. A step always holds
    `batch_size` images, of one orientation as far as possible.

    Args:
        sides: Pixels of the shorter side. Training draws one for each image; tests use the last.
        longest: Most pixels of the longer side.
        workers: Processes that read images; -1 for one per core, 0 to read in the training process.
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
    ):
        if not sides or min(*sides, longest) < 32:
            raise UserError(f"Sides of {list(sides)} and at most {longest} pixels: pass 32 or more.")
        self.root = Path(root)
        self.device = torch.device(device)
        self.seed, self.augment = seed, augment
        self.sides, self.longest = tuple(sides), longest
        self._workers = count_workers(workers, local_processes())
        self._test = BoxImages(read_instances(root, "val2017"), longest, training=False)
        self.classes = self._test.source.classes
        self._asked = batch_size
        self._batches: list[list[_Key]] = []  # of the epoch that the training loader reads

    @cached_property
    def _train(self) -> "BoxImages":
        """The training images. The real set has half a gigabyte of json, which a test does not need."""
        source = read_instances(self.root, "train2017")
        if source.classes != self.classes:
            raise UserError(f"The categories of train2017 and val2017 under {self.root} differ: list the same in both.")
        return BoxImages(source, self.longest, training=True)

    @cached_property
    def _loader(self) -> DataLoader:
        return make_loader(self._train, self._batches, self._workers, self.device, keep_workers=True)

    @property
    def batch_size(self) -> int:
        """Images in a step of all processes."""
        return min(self._asked, len(self._train.source))

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return len(self._train.source) // self.batch_size

    @property
    def n_test(self) -> int:
        """Number of test images."""
        return len(self._test.source)

    def plan(self, epoch: int) -> _Draws:
        """All draws of an epoch: wide images with wide ones and tall with tall, so that little is padded."""
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        sizes = self._train.source.sizes
        n, b = len(sizes), self.batch_size
        order = torch.randperm(n, generator=draw)
        side = torch.tensor(self.sides)[torch.randint(len(self.sides), (n,), generator=draw)]
        flip = torch.rand(n, generator=draw) < 0.5
        if not self.augment:
            side = torch.full_like(side, self.sides[-1])
            flip = torch.zeros_like(flip)
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

    def epoch(self, number: int, done: int = 0) -> Iterator[_Piece]:
        """This process's pieces of an epoch, counted from 1, without the first `done` steps."""
        plan = self.plan(number)
        batches = []
        for step in range(done, self.steps):
            start = step * self.batch_size
            part = distributed.shard(start, start + self.batch_size)
            batches.append(_Draws(*(each[part] for each in plan)).keys())
        self._batches[:] = batches
        yield from map(_piece, self._loader)

    def take(self, piece: _Piece) -> Batch:
        """Bytes of any size to (3, H, W) floats in 0..1 on the device."""
        images = [image.to(self.device, non_blocking=True).float() / 255 for image in piece.images]
        targets = [{key: value.to(self.device) for key, value in each.items()} for each in piece.targets]
        return Batch(images, targets, piece.index.to(self.device))

    def probe(self) -> Batch:
        """The first training images without augmentation, at their largest, for shapes and first statistics."""
        keys = self._unaugmented(range(self.batch_size))
        return self.take(_piece(self._train.__getitems__(keys)))

    def test(self, batch_size: int = 0) -> Iterator[Batch]:
        """This process's share of the test images, in order, with what COCO's figures need.

        Default batch: one image, because padding to a batch shows at the edges and would change the figures. Targets
        also hold iscrowd (N,), area (N,) in square pixels of the stored image, and its `size`, height and width.
        """
        batch_size = batch_size or 1
        share = distributed.shard(0, self.n_test)
        batches = []
        for start in range(share.start, share.stop, batch_size):
            stop = min(start + batch_size, share.stop)
            batches.append(self._unaugmented(range(start, stop)))
        for loaded in make_loader(self._test, batches, self._workers, self.device, keep_workers=False):
            piece = _piece(loaded)
            sizes = torch.from_numpy(self._test.source.sizes)[piece.index]
            for target, size in zip(piece.targets, sizes):
                target["size"] = size
            yield self.take(piece)

    def pictures(self, index: Iterable[int]) -> Pictures:
        """Not for this data set: raises UserError."""
        raise UserError("Images of COCO differ in size and show several classes: no pictures can be made of them.")

    def _unaugmented(self, index: range) -> list[_Key]:
        return [(i, self.sides[-1], False) for i in index]


class BoxImages(Dataset):
    """The images of one json, decoded, scaled and flipped together with their boxes.

    Args:
        longest: most pixels of the longer side.
        training: clip boxes to the image, and leave out crowds and boxes without area.
    """

    def __init__(self, source: Instances, longest: int, training: bool):
        self.source, self.longest, self.training = source, longest, training

    def __getitems__(self, keys: list[_Key]) -> _LoadedImages | UserError:
        """The batch of some keys. An error is returned: one raised in a worker would arrive as a traceback's text."""
        try:
            images, targets = zip(*(self.one(*key) for key in keys))
        except UserError as error:
            return error
        return _LoadedImages(
            pixels=torch.cat([image.flatten() for image in images]),
            sizes=[(image.shape[0], image.shape[1]) for image in images],
            targets={key: torch.cat([target[key] for target in targets]) for key in targets[0]},
            objects=[len(target["boxes"]) for target in targets],
            index=torch.tensor([index for index, _, _ in keys]),
        )

    def one(self, index: int, side: int, flip: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """(H, W, 3) bytes of an image, and its target."""
        from torchvision.transforms.v2 import functional as F
        from torchvision.tv_tensors import BoundingBoxes

        image = _decoded_image(self.source, index)
        stored = self.source.sizes[index].tolist()
        scale = min(side / min(stored), self.longest / max(stored))
        size = [max(1, round(length * scale)) for length in stored]
        own = slice(self.source.start[index], self.source.start[index + 1])
        boxes = torch.from_numpy(self.source.boxes[own])
        # The stub has Tensor's __init__, which takes no format.
        boxes = BoundingBoxes(boxes, format="XYXY", canvas_size=tuple(stored))  # pyright: ignore[reportCallIssue]
        boxes = F.resize(boxes, size)
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        if flip:
            boxes = F.horizontal_flip(boxes)
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.training:
            boxes = F.clamp_bounding_boxes(boxes)
        target = {
            "boxes": boxes.as_subclass(Tensor),
            "labels": torch.from_numpy(self.source.labels[own]),
            "iscrowd": torch.from_numpy(self.source.crowd[own]),
            "area": torch.from_numpy(self.source.area[own]),
        }
        if self.training:
            target = _trainable(target)
        return torch.from_numpy(np.array(image)), target


def _trainable(target: dict[str, Tensor]) -> dict[str, Tensor]:
    """Boxes and labels of the single objects whose box has an area."""
    boxes = target["boxes"]
    kept = (boxes[:, 2:] > boxes[:, :2]).all(1) & ~target["iscrowd"]
    return {"boxes": boxes[kept], "labels": target["labels"][kept]}


def _piece(loaded: _LoadedImages | UserError) -> _Piece:
    """Split what a worker joined; raise the error that it returned."""
    if isinstance(loaded, UserError):
        raise loaded
    lengths = [3 * height * width for height, width in loaded.sizes]
    images = []
    for pixels, (height, width) in zip(loaded.pixels.split(lengths), loaded.sizes):
        images.append(pixels.view(height, width, 3).permute(2, 0, 1))
    targets: list[dict[str, Tensor]] = [{} for _ in images]
    for key, joined in loaded.targets.items():
        for target, value in zip(targets, joined.split(loaded.objects)):
            target[key] = value
    return _Piece(images, targets, loaded.index)


def _decoded_image(source: Instances, index: int) -> Image.Image:
    """An image, decoded; UserError if it cannot be read or has another size than its annotations say."""
    path = source.folder / str(source.names[index])
    try:
        image = decoded(path.read_bytes())
    except Exception as error:  # every decoder raises its own
        raise UserError(f"Cannot read the image {path}: restore it, or remove it from the annotations.") from error
    height, width = source.sizes[index].tolist()
    if (image.height, image.width) != (height, width):
        raise UserError(
            f"{path} is {image.height}x{image.width} but its annotations say {height}x{width}: fix height and width."
        )
    return image
