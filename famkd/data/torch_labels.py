"""The classes of a Dataset of torch: its labels without decoding its images where it lists them, and their names."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from famkd.data.loader import count_workers, local_processes, make_loader
from famkd.data.small import MOST_CLASSES
from famkd.data.targets import checked_targets, without_labels
from famkd.data.views import batches_of
from famkd.errors import UserError, one_line

LISTS = ("targets", "labels", "_labels", "y")  # attributes in which Datasets list their labels
PAIRS = ("samples", "imgs", "_samples")  # and those that list (path, label)
IMAGES, LABELS = ("image", "img", "pixel_values"), ("label", "labels", "class", "target", "fine_label")  # keys of dicts
COMPARED = 5  # samples whose labels are compared with the listed ones
CHUNK = 256  # samples that a worker reads at a time


def image_and_label(sample: Any) -> tuple[Any, Any]:
    """The two parts of a sample; UserError, which says what came, where they are not found."""
    if isinstance(sample, Mapping):
        label = next((sample[key] for key in LABELS if key in sample), None)
        if label is None:
            raise UserError(f"a sample has the keys {', '.join(map(str, sample))}: it needs image and label.")
        return image_of(sample), label
    if isinstance(sample, tuple | list) and len(sample) >= 2:
        return sample[0], sample[1]
    raise UserError(
        f"a sample is a {type(sample).__name__}: return (image, label), or pass --task unlabelled where there are no "
        "labels."
    )


def image_of(sample: Any) -> Any:
    """The image of a sample, which may be an image alone; UserError for a dictionary without one."""
    if isinstance(sample, Mapping):
        image = next((sample[key] for key in IMAGES if key in sample), None)
        if image is None:
            raise UserError(f"a sample has the keys {', '.join(map(str, sample))}: it needs image and label.")
        return image
    return sample[0] if isinstance(sample, tuple | list) and sample else sample


def labels_of(dataset: Any, workers: int, task: str = "classification") -> np.ndarray:
    """The label of every sample: a class, int64 (N,); of other tasks a row of several, float32 (N, labels).

    Errors: UserError for labels that the task cannot take.
    """
    if task == "unlabelled":
        return without_labels(len(dataset))
    listed = _listed(dataset, task)
    if listed is None or not _agrees(dataset, listed, task):
        warnings.warn(
            f"{type(dataset).__name__} does not list its labels: all {len(dataset):,} samples are read once. Give it "
            "an attribute `targets` to avoid that.",
            stacklevel=2,
        )
        listed = _read(dataset, workers, task)
    if task != "classification":
        return checked_targets(listed, task, f"{type(dataset).__name__} has labels that are")
    if listed.min() < 0 or listed.max() >= MOST_CLASSES:
        raise UserError(
            f"{type(dataset).__name__} has labels from {listed.min()} to {listed.max()}: they must be class indices "
            f"from 0, below {MOST_CLASSES:,}."
        )
    return listed


def class_names(given: Sequence[str], dataset: Any, labels: list[np.ndarray]) -> list[str]:
    """Names of the classes or labels: those that are given, those of the Dataset, or numbers."""
    count = labels[0].shape[1] if labels[0].ndim > 1 else 1 + max(int(each.max()) for each in labels)
    if any(each.shape[1:] != labels[0].shape[1:] for each in labels):
        raise UserError(
            f"Training images have {count} labels each, test images {labels[1].shape[1]}: give them the same."
        )
    while not given and isinstance(dataset, Subset):
        dataset = dataset.dataset
    names = list(given) or getattr(dataset, "classes", None)
    if not isinstance(names, list | tuple):
        return [str(number) for number in range(count)]
    if len(names) < count:
        raise UserError(f"{len(names)} names of classes are given, but labels run to {count - 1}: name all of them.")
    if labels[0].ndim > 1 and 0 < count < len(names):
        raise UserError(f"{len(names)} names of labels are given, but each image has {count}: name these.")
    return [str(name) for name in names]


def _listed(dataset: Any, task: str) -> np.ndarray | None:
    """The labels that a Dataset lists, None where it does not."""
    if isinstance(dataset, Subset):
        labels = _listed(dataset.dataset, task)
        return None if labels is None else labels[np.asarray(dataset.indices, np.int64)]
    if isinstance(dataset, ConcatDataset):
        parts = [_listed(each, task) for each in dataset.datasets]
        return None if any(part is None for part in parts) else np.concatenate(parts)  # pyright: ignore[reportCallIssue, reportArgumentType]
    if isinstance(dataset, TensorDataset):
        return _as_labels(dataset.tensors[1], len(dataset), task) if len(dataset.tensors) > 1 else None
    for name in LISTS:
        labels = _as_labels(getattr(dataset, name, None), len(dataset), task)
        if labels is not None:
            return labels
    for name in PAIRS:
        pairs = getattr(dataset, name, None)
        if isinstance(pairs, list) and pairs and isinstance(pairs[0], tuple) and len(pairs[0]) >= 2:
            return _as_labels([pair[1] for pair in pairs], len(dataset), task)
    return None


def _as_labels(values: Any, count: int, task: str) -> np.ndarray | None:
    """Values as labels of so many samples, None if they are something else."""
    if not isinstance(values, list | tuple | np.ndarray | torch.Tensor):
        return None
    try:
        labels = np.asarray(values)
    except ValueError:  # rows of different lengths
        return None
    if task == "classification":
        return labels.astype(np.int64) if labels.shape == (count,) and labels.dtype.kind in "iu" else None
    rows = labels.ndim == 2 or (labels.ndim == 1 and task == "regression")
    return labels if rows and len(labels) == count and labels.dtype.kind in "iufb" else None


def _agrees(dataset: Any, listed: np.ndarray, task: str) -> bool:
    """Whether some samples have the listed labels: a target_transform may change them."""
    numbers = np.linspace(0, len(listed) - 1, min(COMPARED, len(listed))).astype(int).tolist()
    pairs = [(_label(dataset, number, task), np.atleast_1d(listed[number])) for number in numbers]
    return all(one.shape == two.shape and np.allclose(one, two, rtol=1e-4) for one, two in pairs)


class _Labels(Dataset):
    """Reads the labels of some samples at a time, for a loader."""

    def __init__(self, dataset: Any, task: str):
        self.dataset, self.task = dataset, task

    def __getitems__(self, keys: list[int]) -> list[np.ndarray] | UserError:
        try:
            return [_label(self.dataset, key, self.task) for key in keys]
        except UserError as error:
            return error


def _read(dataset: Any, workers: int, task: str) -> np.ndarray:
    """The labels of all samples, read by worker processes."""
    chunks = list(batches_of(range(len(dataset)), CHUNK))
    count = count_workers(workers, local_processes()) if len(chunks) > 1 else 0
    labels: list[np.ndarray] = []
    for part in make_loader(_Labels(dataset, task), chunks, count, torch.device("cpu"), keep_workers=False):
        if isinstance(part, UserError):
            raise part
        labels += part
    if len({label.shape for label in labels}) > 1:
        raise UserError(
            f"{type(dataset).__name__} has different numbers of labels for its samples: give each the same."
        )
    return np.concatenate(labels) if task == "classification" else np.stack(labels)


def _label(dataset: Any, number: int, task: str) -> np.ndarray:
    """The label of one sample as a row of numbers; UserError, which says what came, for another one."""
    where = f"Sample {number} of {type(dataset).__name__}"
    try:
        label = image_and_label(dataset[number])[1]
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    except Exception as error:  # a user's Dataset can raise anything
        raise UserError(f"{where}: {type(error).__name__}: {one_line(error)}.") from error
    value = np.asarray(label)
    shown = f"of shape {value.shape}" if value.size != 1 else repr(label)[:40]
    if task == "classification" and (value.size != 1 or value.dtype.kind not in "iub"):
        raise UserError(f"{where}: its label is a {type(label).__name__} {shown}: return the index of its class.")
    if task != "classification" and (value.ndim > 1 or value.dtype.kind not in "iufb"):
        raise UserError(f"{where}: its label is a {type(label).__name__} {shown}: return a row of numbers.")
    return value.reshape(-1).astype(np.int64) if task == "classification" else value.reshape(-1)
