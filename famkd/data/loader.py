"""The worker processes that read image files: what they do, how many they are, and how they end."""

import io
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from famkd.data.jpeg import decoded_pixels, device_turn
from famkd.data.pixels import WHITE, Colour, opened
from famkd.data.seeded import seed_of
from famkd.data.transforms import USUAL_PREPROCESSING, Preprocessing, Size, plain_view, reduction, training_view, viewed
from famkd.errors import UserError

TRIES = 100  # unreadable images in a row, after which the whole data set counts as unreadable
MOST_WORKERS = 16  # of one training process, by default

Key = tuple[int, int]  # epoch and number of an image; epoch 0 stands for no augmentation


class Source(Protocol):
    """Image files somewhere, by number; small enough to be copied into every worker process."""

    labels: np.ndarray  # (N,) int64

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Path of an image, for messages."""
        ...

    def read(self, index: int) -> bytes:
        """Content of an image file."""
        ...

    def order(self, draw: torch.Generator, weights: Tensor | None = None) -> Tensor:
        """Order of one epoch, (N,): each image once, or draws with probabilities like weights (N,)."""
        ...

    def unreadable(self, workers: int = -1) -> dict[int, str]:
        """Numbers of the images that cannot be read, each with the reason in a few words."""
        ...


class TrainTest(NamedTuple):
    """Training and test images, and the names of their classes."""

    train: Source
    test: Source
    classes: list[str]
    read_split: Callable[[str], Source] | None = None  # lists a further split by its name, where there can be one


class Subset:
    """Some images of a source, by their positions in it in ascending order (N,)."""

    def __init__(self, source: Source, positions: np.ndarray):
        self._source, self._positions = source, positions
        self.labels = source.labels[positions]

    def __len__(self) -> int:
        return len(self._positions)

    def name(self, index: int) -> str:
        """Path of an image."""
        return self._source.name(int(self._positions[index]))

    def read(self, index: int) -> bytes:
        """Content of an image file."""
        return self._source.read(int(self._positions[index]))

    def order(self, draw: torch.Generator, weights: Tensor | None = None) -> Tensor:
        """Order of one epoch: that of the source, without the images that are not in the subset."""
        total, positions = len(self._source), torch.from_numpy(self._positions)
        place = torch.full((total,), -1)
        place[positions] = torch.arange(len(self))
        if weights is None:
            order = place[self._source.order(draw)]
            return order[order >= 0]
        order = place[self._source.order(draw, torch.zeros(total).index_copy(0, positions, weights.float()))]
        kept = torch.randperm(total, generator=draw)[: len(self)]  # the source draws as many as it has itself
        return order[kept.sort().values]

    def unreadable(self, workers: int = -1) -> dict[int, str]:
        """Numbers of the images that cannot be read, each with the reason."""
        found = self._source.unreadable(workers)
        return {n: found[place] for n, place in enumerate(self._positions.tolist()) if place in found}


def without(source: Source, numbers: list[int]) -> Source:
    """A source without some of its images."""
    if not numbers:
        return source
    return Subset(source, np.delete(np.arange(len(source)), numbers))


class DecodedBatch(NamedTuple):
    """Some images as a worker process returns them: one tensor, because each tensor costs an open file."""

    pixels: Tensor  # (B, H, W, C) uint8; if the device is to decode, the bytes of all files in a row
    index: Tensor  # (B,) numbers of the images
    lengths: tuple[int, ...]  # bytes of each file if the device is to decode, otherwise empty
    failed: tuple[int, ...]  # numbers of images that could not be read
    turns: tuple[int, ...] = ()  # if the device is to decode, how to turn each image then; 0: decode it on the CPU


class FileImages(Dataset):
    """The images of one source, decoded and cut to the size of the networks' input.

    Draws follow from (seed, epoch, index) alone, so that neither the number of workers nor a resumed run changes an
    image. In an epoch the next readable image replaces an unreadable one; outside of one it is left out.

    Args:
        raw: return the files without decoding them.
        background: colour behind transparent pixels.
        channels: 1 for grey, 3 for RGB, 4 for RGBA.
        settings: how images are scaled, cropped and recoloured.
    """

    def __init__(
        self,
        source: Source,
        size: int | Size,
        seed: int,
        augment: bool,
        raw: bool = False,
        background: Colour = WHITE,
        channels: int = 3,
        settings: Preprocessing = USUAL_PREPROCESSING,
    ):
        self.source, self.seed, self.augment, self.raw = source, seed, augment, raw
        self.size: Size = (size, size) if isinstance(size, int) else size
        self.background, self.channels, self.settings = background, channels, settings

    def __getitems__(self, keys: list[Key]) -> DecodedBatch | UserError:
        """The batch of some keys; it is shorter where images are left out.

        An error, such as of a full disk, is returned: one raised in a worker would arrive as a traceback's text.
        """
        try:
            return self._batch(keys)
        except UserError as error:
            return error

    def _batch(self, keys: list[Key]) -> DecodedBatch:
        images: list[Tensor] = []
        numbers: list[int] = []
        failed: list[int] = []
        for epoch, index in keys:
            pixels, shown, unreadable = self.one(epoch, index)
            failed += unreadable
            if pixels is not None:
                images.append(pixels)
                numbers.append(shown)
        index = torch.tensor(numbers, dtype=torch.int64)
        lengths = tuple(len(each) for each in images) if self.raw else ()
        turns = tuple(device_turn(each.numpy().tobytes()) for each in images) if self.raw else ()
        return DecodedBatch(self._joined(images), index, lengths, tuple(failed), turns)

    def one(self, epoch: int, index: int) -> tuple[Tensor | None, int, list[int]]:
        """Pixels or a file's bytes, the number of the image that they show, and the images that could not be read."""
        candidates = [index]
        if epoch:
            candidates = [(index + n) % len(self.source) for n in range(TRIES)]
        for n, candidate in enumerate(candidates):
            try:
                data = self.source.read(candidate)
                if self.raw:
                    opened(io.BytesIO(data))
                    pixels = torch.frombuffer(bytearray(data), dtype=torch.uint8)
                else:
                    scale = partial(self._reduction, epoch=epoch, index=candidate)
                    image = decoded_pixels(data, self.channels, self.background, scale)
                    pixels = self.view(image, epoch, candidate)
                return pixels, candidate, candidates[:n]
            except UserError:
                raise
            except Exception:  # every decoder raises its own
                continue
        return None, index, candidates

    def view(self, image: Tensor, epoch: int, index: int) -> Tensor:
        """(H, W, C) bytes of a decoded image."""
        view = (training_view if self._augmented(epoch) else plain_view)(self.size, self.settings)
        return viewed(image, view, seed_of(self.seed, epoch, index))

    def _augmented(self, epoch: int) -> bool:
        return epoch > 0 and self.augment

    def _reduction(self, own: Size, epoch: int, index: int) -> int:
        seed = seed_of(self.seed, epoch, index) if self._augmented(epoch) else None
        return reduction(own, self.size, self.settings, seed)

    def _joined(self, images: list[Tensor]) -> Tensor:
        if self.raw:
            return torch.cat(images) if images else torch.empty(0, dtype=torch.uint8)
        return torch.stack(images) if images else torch.empty(0, *self.size, self.channels, dtype=torch.uint8)


def make_loader(
    items: Dataset, batches: Sequence[list[Any]], workers: int, device: torch.device, *, keep_workers: bool
) -> DataLoader:
    """A loader that yields `items.__getitems__(keys)` for each list of keys, in order.

    Args:
        batches: the keys of each batch. A list that is changed in place gives the loader its next epoch.
        workers: processes that read ahead; 0 reads in this process.
        keep_workers: keep the processes between epochs.
    """
    if workers > 0:
        _import_once_for_workers()
    return DataLoader(
        items,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_unchanged,
        generator=torch.Generator(),  # otherwise the loader draws from torch's global generator
        persistent_workers=keep_workers and workers > 0,
        pin_memory=device.type == "cuda",
        worker_init_fn=_ignore_job_signals,
    )


def count_workers(asked: int, processes: int) -> int:
    """How many workers to start: `asked`, or for -1 this process's share of the machine's cores.

    Args:
        processes: training processes on this machine.
    """
    if asked >= 0:
        return asked
    return min(MOST_WORKERS, max(1, usable_cores() // processes))


def local_processes() -> int:
    """Training processes on this machine, which share its cores; torchrun's agent sets the variable."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _import_once_for_workers() -> None:
    """Let Python's fork server import torch and torchvision before it forks workers; each would import them otherwise.

    Python 3.14 starts workers through this server by default on Linux.
    """
    if multiprocessing.get_start_method() == "forkserver":
        multiprocessing.set_forkserver_preload(["__main__", __name__, "torchvision.transforms.v2"])


def _unchanged(batch: Any) -> Any:
    return batch


def _ignore_job_signals(worker: int) -> None:
    """Ignore job-wide signals in data workers: the trainer needs them alive while it saves."""
    for name in ("SIGUSR1", "SIGINT"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # Linux; elsewhere SIGTERM ends a worker at once
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_exit_when_parent_asks, daemon=True).start()


def _exit_when_parent_asks() -> None:
    """Exit on SIGTERM from the parent only."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
