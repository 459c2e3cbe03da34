"""What worker processes do: from numbers of images to a batch of bytes."""

import io
import os
import signal
import threading
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from famkd.data.transforms import decoded, opened, plain_view, seed_of, training_view, viewed

TRIES = 100  # unreadable images in a row, after which a set as a whole counts as unreadable
MOST_WORKERS = 16  # of one training process, unless asked for

Key = tuple[int, int]  # epoch and number of an image; epoch 0 is for looking without augmentation


class Source(Protocol):
    """Image files somewhere, by number; small enough to be handed to every worker process."""

    labels: np.ndarray  # (N,) int64

    def __len__(self) -> int: ...
    def name(self, index: int) -> str: ...
    def read(self, index: int) -> bytes: ...
    def order(self, draw: torch.Generator) -> Tensor: ...


class TrainTest(NamedTuple):
    """What is trained on and what is tested on."""

    train: Source
    test: Source
    classes: list[str]


class DecodedBatch(NamedTuple):
    """Some images as a worker process hands them over: one tensor, because each costs an open file."""

    pixels: Tensor  # (B, H, W, 3) uint8; of files that the device shall decode all (bytes,) in a row
    index: Tensor  # (B,) of the images shown
    lengths: tuple[int, ...]  # bytes of each file, where the device shall decode them
    failed: tuple[int, ...]  # images that could not be read


class FileImages(Dataset):
    """The images of one source as the networks see them.

    Draws follow from (seed, epoch, index), so neither the number of workers nor a resumption changes what is seen. In
    an epoch the next readable image stands in for an unreadable one; otherwise it is left out.

    Args:
        raw: hand over files as they are.
    """

    def __init__(self, source: Source, size: int, seed: int, augment: bool, raw: bool = False):
        self.source, self.size, self.seed, self.augment, self.raw = source, size, seed, augment, raw

    def __getitems__(self, keys: list[Key]) -> DecodedBatch:
        """The batch of some keys, shorter where images are left out."""
        shown, failed = [], []
        for epoch, index in keys:
            pixels, index, bad = self.one(epoch, index)
            failed += bad
            if pixels is not None:
                shown.append((pixels, index))
        index = torch.tensor([i for _, i in shown], dtype=torch.int64)
        empty = (0,) if self.raw else (0, self.size, self.size, 3)
        join = torch.cat if self.raw else torch.stack
        pixels = join([p for p, _ in shown]) if shown else torch.empty(empty, dtype=torch.uint8)
        return DecodedBatch(pixels, index, tuple(len(p) for p, _ in shown) if self.raw else (), tuple(failed))

    def one(self, epoch: int, index: int) -> tuple[Tensor | None, int, list[int]]:
        """Pixels, or a file's bytes; the image that they show; and the images before it that could not be read."""
        tries = [(index + n) % len(self.source) for n in range(TRIES)] if epoch else [index]
        for n, i in enumerate(tries):
            try:
                data = self.source.read(i)
                if self.raw:
                    opened(io.BytesIO(data))
                    return torch.frombuffer(bytearray(data), dtype=torch.uint8), i, tries[:n]
                return self.view(decoded(data), epoch, i), i, tries[:n]
            except Exception:  # every decoder has its own
                continue
        return None, index, tries

    def view(self, image, epoch: int, index: int) -> Tensor:
        """(H, W, 3) bytes of a decoded picture."""
        view = training_view if epoch and self.augment else plain_view
        return viewed(image, view(self.size), seed_of(self.seed, epoch, index))


def loader(items: FileImages, order: list[list[Key]], workers: int, device: torch.device, *, stays: bool) -> DataLoader:
    """Batches of keys, in order, by worker processes; these live on between epochs where the loader stays."""
    return DataLoader(
        items, batch_sampler=order, num_workers=workers, collate_fn=_as_it_is, generator=torch.Generator(),
        persistent_workers=stays and workers > 0, pin_memory=device.type == "cuda", worker_init_fn=_undisturbed,
    )  # fmt: skip


def count_workers(asked: int, processes: int) -> int:
    """How many worker processes: as asked, or for -1 one per core that this machine's training processes leave us."""
    if asked >= 0:
        return asked
    ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_WORKERS, max(1, ours // processes))


def _undisturbed(worker: int) -> None:
    """A signal to all processes of a job is for the one that trains, which may need its workers to save itself."""
    for name in ("SIGUSR1", "SIGINT"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # Linux; elsewhere a worker ends at once
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_by_parent, daemon=True).start()


def _end_by_parent() -> None:
    """End this process when the one that started it says so, and at nobody else's word."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def _as_it_is(loaded: DecodedBatch) -> DecodedBatch:
    return loaded
