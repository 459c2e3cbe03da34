"""Images from any `torch.utils.data.Dataset` of (image, label), or from the one that a DataLoader reads."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler, default_collate

from famkd.data.augment import Augment
from famkd.data.balance import drawn
from famkd.data.loader import DecodedBatch, FileImages, Key, Source, TrainTest
from famkd.data.pixels import converted
from famkd.data.seeded import drawing_anywhere, seed_of
from famkd.data.small import channel_statistics
from famkd.data.streamed import Streamed
from famkd.data.torch_labels import class_names, image_of, labels_of
from famkd.data.transforms import Size, as_rgb
from famkd.distill.types import Pictures
from famkd.errors import UserError, one_line

GREY = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N")  # modes of Pillow that stay grey
STATISTICS = 500  # training images whose mean and deviation normalise bytes


class Datasets(NamedTuple):
    """Training and test images for `famkd.DATA`: return it, or a plain (train, test), from a function of a root.

    Each is a `torch.utils.data.Dataset` of (image, label), or a DataLoader, of which only the Dataset is read. A label
    is a class index; for multilabel it is a row of 0 and 1, for regression one number or several, and without labels
    the image alone is enough. Images are PIL images, bytes (uint8) or floats: (C, H, W) or (H, W) tensors, or (H, W, C)
    arrays, all of one size. Floats reach the networks as they are; bytes and PIL images are normalised. Augmentation is
    the Dataset's own.
    """

    train: Any
    test: Any
    classes: Sequence[str] = ()  # names; by default those of the Dataset's `classes`, else numbers
    mean: Sequence[float] = ()  # of each channel, for pixels in 0..1: what normalises bytes, or has normalised floats
    std: Sequence[float] = ()
    val: Any = None  # held-out images, which `--data.val val` names
    workers: int = -1  # processes that read images; -1 for those of the DataLoader, or one per core


class SampleSource:
    """The samples of one Dataset by number; `labels` is what the task takes."""

    def __init__(self, samples: Any, workers: int, task: str = "classification"):
        self.dataset = _dataset_of(samples)
        self.kind = type(self.dataset).__name__
        self.labels = labels_of(self.dataset, workers, task)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Number of a sample, for messages."""
        return f"sample {index} of {self.kind}"

    def read(self, index: int) -> Any:
        """The image of a sample."""
        return image_of(self.dataset[index])

    def order(self, draw: torch.Generator, weights: Tensor | None = None) -> Tensor:
        """Order of one epoch: any permutation, or draws with probabilities like weights (N,)."""
        return drawn(len(self), draw, weights)

    def unreadable(self, workers: int = -1) -> dict[int, str]:
        """Nothing: what a Dataset cannot read is an error of its own."""
        return {}


class SampleImages(FileImages):
    """The images of samples. Whatever a Dataset draws follows from (seed, epoch, index) alone."""

    def __init__(self, source: Source, size: Size, seed: int, channels: int, dtype: torch.dtype):
        super().__init__(source, size, seed, augment=False, channels=channels)
        self.dtype = dtype

    def __getitems__(self, keys: list[Key]) -> DecodedBatch | UserError:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The batch of some keys. An error is returned: one raised in a worker would arrive as a traceback's text."""
        try:
            images = [self._image(epoch, index) for epoch, index in keys]
        except UserError as error:
            return error
        pixels = torch.stack(images) if images else torch.empty(0, *self.size, self.channels, dtype=self.dtype)
        return DecodedBatch(pixels, torch.tensor([index for _, index in keys], dtype=torch.int64), (), ())

    def _image(self, epoch: int, index: int) -> Tensor:
        name = self.source.name(index)
        try:
            with drawing_anywhere(seed_of(self.seed, epoch, index)):
                image = pixels_of(self.source.read(index))
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        except Exception as error:  # a user's Dataset can raise anything
            raise UserError(f"{name}: {type(error).__name__}: {one_line(error)}.") from error
        wanted = (*self.size, self.channels)
        if tuple(image.shape) != wanted or image.dtype != self.dtype:
            raise UserError(
                f"{name} is {_words(image.shape, image.dtype)}, but the first is {_words(wanted, self.dtype)}: let the "
                "Dataset make all images alike, as by torchvision.transforms.v2.Resize and CenterCrop."
            )
        return image


class TorchData(Streamed):
    """Training and test images from Datasets of torch."""

    def __init__(
        self,
        datasets: Datasets,
        batch_size: int,
        device: torch.device | str = "cpu",
        seed: int = 0,
        task: str = "classification",
    ):
        workers = _workers(datasets)
        with drawing_anywhere(seed):
            train, test = (SampleSource(samples, workers, task) for samples in (datasets.train, datasets.test))
            first = pixels_of(train.read(0))
        classes = class_names(datasets.classes, train.dataset, [train.labels, test.labels])
        self._dtype = first.dtype
        height, width, channels = first.shape
        mean, std = _statistics(datasets, train, seed, first)

        def read_split(name: str) -> SampleSource:
            if datasets.val is None or name != "val":
                raise UserError(
                    f"--data.val {name}: return famkd.Datasets with val=..., or pass a fraction such as 0.1."
                )
            with drawing_anywhere(seed):
                return SampleSource(datasets.val, workers, task)

        super().__init__(
            TrainTest(train, test, classes, read_split),
            batch_size,
            device,
            seed,
            augment=False,
            size=(height, width),
            workers=workers,
            channels=channels,
            mean=mean,
            std=std,
        )

    def _files(self, source: Source) -> FileImages:
        seed = self._views.seed if self._views else self.seed
        return SampleImages(source, self.size, seed, self._channels, self._dtype)

    def augment_by(self, augment: Augment) -> None:
        """Not for these images: raises UserError."""
        raise UserError(
            "The images of a Dataset are cropped and recoloured by the Dataset itself: leave --augment.crop_scale, "
            "crop_ratio, jitter and policy out, or put them into the Dataset. Erasing and mixing work."
        )

    def _normalised(self, pixels: Tensor) -> Tensor:
        if self._dtype == torch.uint8:
            return super()._normalised(pixels)
        return pixels.permute(0, 3, 1, 2)

    def file(self, index: int, split: str = "test") -> str:
        """Nothing: whether a sample is a file is the Dataset's own matter."""
        return ""

    def pictures(self, index: Iterable[int]) -> Pictures:
        """Test images at some positions, read in this process."""
        piece = self._piece(self._test.__getitems__([(0, int(i)) for i in index]), self._test, 0)
        return Pictures(self._normalised(piece.pixels), piece.targets, as_rgb(self._bytes(piece.pixels)))

    def _bytes(self, pixels: Tensor) -> Tensor:
        """(B, H, W, C) as bytes, for looking at: floats that were normalised are brought back to 0..255."""
        if pixels.dtype == torch.uint8:
            return pixels
        mean, std = (torch.tensor(each, device=pixels.device) for each in (self.mean, self.std))
        values = pixels * std + mean
        outside = len(values) > 0 and (values.min() < 0 or values.max() > 1)
        if outside and not any(self.mean):  # they were normalised by unknown means
            low, high = values.aminmax()
            values = (values - low) / (high - low).clamp(min=1e-6)
        return (255 * values).round().clamp(0, 255).to(torch.uint8)


def pixels_of(image: Any) -> Tensor:
    """An image as a Dataset returns it as (H, W, C), uint8 or float32; UserError, which says what came, for others."""
    if isinstance(image, Image.Image):
        try:
            made = np.array(converted(image, 1 if image.mode in GREY else 3))
        except ValueError as error:
            raise UserError(f"{error}.") from error
        return torch.from_numpy(made if made.ndim == 3 else made[..., None])
    if isinstance(image, np.ndarray) and image.ndim in (2, 3):
        image = torch.from_numpy(np.ascontiguousarray(image if image.ndim == 3 else image[..., None])).permute(2, 0, 1)
    if not isinstance(image, Tensor) or image.ndim not in (2, 3):
        shape = f" of shape {tuple(image.shape)}" if hasattr(image, "shape") else ""
        raise UserError(f"an image is a {type(image).__name__}{shape}: return a PIL image, or a (C, H, W) tensor.")
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise UserError(f"an image is {image.dtype}: return uint8, or floats.")
    image = (image if image.ndim == 3 else image[None]).permute(1, 2, 0).as_subclass(Tensor)
    return (image if image.dtype == torch.uint8 else image.float()).contiguous()


def _dataset_of(samples: Any) -> Any:
    """The Dataset itself; UserError for a DataLoader that does more than read it, and for one without positions."""
    if isinstance(samples, DataLoader):
        sampler = samples.sampler
        if not isinstance(sampler, RandomSampler | SequentialSampler):
            raise UserError(
                f"The DataLoader draws by a {type(sampler).__name__}, which famkd would replace by its own order: "
                "pass its Dataset, and --data.balance sample where classes differ in size."
            )
        if samples.collate_fn is not default_collate and samples.batch_size is not None:
            raise UserError(
                "The DataLoader has a collate_fn of its own, which famkd would not call: pass a Dataset that does the "
                "same to each image."
            )
        samples = samples.dataset
    if isinstance(samples, IterableDataset) or not (hasattr(samples, "__getitem__") and hasattr(samples, "__len__")):
        raise UserError(
            f"A {type(samples).__name__} has no samples by number: pass a Dataset with __len__ and __getitem__, as "
            "a resumed training has to find the same image again."
        )
    if not len(samples):
        raise UserError(f"The {type(samples).__name__} is empty: pass one with samples.")
    return samples


def _workers(datasets: Datasets) -> int:
    loader = datasets.train
    return loader.num_workers if datasets.workers < 0 and isinstance(loader, DataLoader) else datasets.workers


def _statistics(
    datasets: Datasets, train: SampleSource, seed: int, first: Tensor
) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and deviation of each channel: those that are given, of bytes those of some images, of floats 0 and 1."""
    channels = first.shape[-1]
    if datasets.mean or datasets.std:
        if len(datasets.mean) != channels or len(datasets.std) != channels or min(datasets.std) <= 0:
            raise UserError(f"famkd.Datasets: give {channels} numbers each as mean and std, one for each channel.")
        return datasets.mean, datasets.std
    if first.dtype != torch.uint8:
        return (0.0,) * channels, (1.0,) * channels
    size = (first.shape[0], first.shape[1])
    images = SampleImages(train, size, seed, channels, first.dtype)
    loaded = images.__getitems__([(0, index) for index in range(0, len(train), max(1, len(train) // STATISTICS))])
    if isinstance(loaded, UserError):
        raise loaded
    return channel_statistics(loaded.pixels.numpy())


def _words(shape: Sequence[int], dtype: torch.dtype) -> str:
    height, width, channels = shape
    return f"{str(dtype).removeprefix('torch.')} of {channels} x {height} x {width}"
