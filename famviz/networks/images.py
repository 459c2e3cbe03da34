"""Images in any form: tensors, arrays, PIL images, files, folders or a data set, read when they are needed."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from famkd.errors import UserError, one_line

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm")
FORMS = "a tensor (B, 3, H, W), an array (B, H, W, 3), a list of images or paths, a folder, or a data set"
Picture = Image.Image | Tensor  # a picture as people see it, or one that is normalised already


class Images:
    """Images by position, with their labels and the names of their classes as far as these are known.

    Args:
        read: the picture at a position, and its label or None.
        labels: (N,) class indices, if they are known without reading a picture.
        classes: names of the classes.
        pixels: (N, H, W, 3) uint8 of images that are normalised already, to draw them.
    """

    def __init__(
        self, count: int, read: Callable[[int], tuple[Picture, int | None]], labels: np.ndarray | None = None,
        classes: Sequence[str] = (), pixels: np.ndarray | None = None,
    ):  # fmt: skip
        self._count, self._reads, self._labels = count, read, labels
        self.classes, self.pixels = list(classes), pixels
        self._labels_read = labels is not None
        self._seen: dict[int, int | None] = {}  # labels of the pictures that were read

    def __len__(self) -> int:
        return self._count

    def picture(self, at: int) -> Picture:
        """The picture at a position: a PIL image in RGB, or a normalised tensor (3, H, W)."""
        picture, self._seen[at] = self._reads(at)
        return picture

    def label(self, at: int) -> int | None:
        """The label of an image, or None. A picture that was read already is not read again for it."""
        if self._labels is not None:
            return int(self._labels[at])
        if at not in self._seen:
            self.picture(at)
        return self._seen[at]

    @property
    def labels(self) -> np.ndarray | None:
        """Labels (N,), or None if they are unknown. A data set that names no labels is read once for them."""
        if not self._labels_read:
            found = [self.label(at) for at in range(len(self))]
            self._labels = None if None in found else np.array(found, int)
            self._labels_read = True
        return self._labels

    def __repr__(self) -> str:
        return f"Images({len(self)})"


def as_images(source: Any, labels: Any = None, classes: Sequence[str] | None = None) -> Images:
    """Images from a tensor, an array, a list, a dict of them by name, a path or a data set.

    Floats are taken as normalised; bytes, PIL images and files are pictures that each network prepares for itself. A
    folder that contains folders has a class in each of them, and the sorted names of the folders are the classes.

    Args:
        labels: (N,) class indices, in place of those that the images come with.
        classes: names of the classes, in place of those that the images come with.

    Errors: UserError for another form, an empty list, or labels that are not as many as the images.
    """
    images = source if isinstance(source, Images) else _read_source(source)
    if not len(images):
        raise UserError("There are no images: pass at least one.")
    if labels is not None:
        given = np.asarray(labels, int)
        if given.shape != (len(images),):
            raise UserError(f"There are {len(images)} images and {given.size} labels: pass one label for each image.")
        images = Images(len(images), images._reads, given, images.classes, images.pixels)
    if classes is not None:
        images = copy(images)  # that of the caller keeps its names
        images.classes = list(classes)
    return images


def _read_source(source: Any) -> Images:
    if isinstance(source, Image.Image):
        return _from_items([source])
    if isinstance(source, str | Path):
        return _from_path(Path(source))
    if isinstance(source, Tensor | np.ndarray):
        if source.ndim != 4:
            raise UserError(f"A batch of images has 4 dimensions, not {tuple(source.shape)}: pass {FORMS}.")
        return _from_items(source)
    if isinstance(source, Mapping):
        return _from_items(list(source.values()))
    if not hasattr(source, "__getitem__") or not hasattr(source, "__len__"):
        raise UserError(f"Images cannot be a {type(source).__name__}: pass {FORMS}.")
    return _from_items(source)


def _from_path(path: Path) -> Images:
    """One file, the files of a folder in the order of their names, or those of its folders by class."""
    if path.is_file():
        return _from_items([path])
    if not path.is_dir():
        raise UserError(f"There is nothing at {path}: pass an image file or a folder of images.")
    folders = sorted(each for each in path.iterdir() if each.is_dir() and _files(each))
    if not folders:
        return _from_items(_files(path))
    listed = [(file, label) for label, folder in enumerate(folders) for file in _files(folder)]
    labels = np.array([label for _, label in listed])
    return _from_items([file for file, _ in listed], labels, [folder.name for folder in folders])


def _files(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.suffix.lower() in SUFFIXES)


def _from_items(items: Any, labels: np.ndarray | None = None, classes: Sequence[str] = ()) -> Images:
    """Images from anything with a length whose items are pictures, or pictures with labels."""
    if labels is None:
        labels = _labels_of(items)
    classes = classes or getattr(items, "classes", ())

    def read(at: int) -> tuple[Picture, int | None]:
        item = items[at]
        if isinstance(item, tuple | list):
            picture, label = item[0], item[1] if len(item) > 1 else None
            return as_picture(picture), None if label is None else int(label)
        return as_picture(item), None if labels is None else int(labels[at])

    return Images(len(items), read, labels, [str(name) for name in classes])


def _labels_of(items: Any) -> np.ndarray | None:
    """The labels that a data set of torchvision, or another one, keeps beside its pictures."""
    for name in ("targets", "labels"):
        found = getattr(items, name, None)
        if found is not None and len(found) == len(items):
            return np.asarray(found, int)
    return None


def as_picture(item: Any) -> Picture:
    """A PIL image in RGB from a PIL image, a file or bytes; a float tensor (3, H, W) stays one."""
    if isinstance(item, str | Path):
        return _opened(Path(item))
    if isinstance(item, Image.Image):
        return item.convert("RGB")
    if isinstance(item, Tensor) and item.is_floating_point() and item.ndim == 3:
        return item
    if isinstance(item, Tensor) and item.dtype == torch.uint8 and item.ndim == 3:
        return Image.fromarray(item.permute(1, 2, 0).cpu().numpy().squeeze()).convert("RGB")
    if isinstance(item, np.ndarray) and item.dtype == np.uint8 and item.ndim in (2, 3):
        return Image.fromarray(item.squeeze()).convert("RGB")
    kind = f"{type(item).__name__} {getattr(item, 'dtype', '')} {tuple(getattr(item, 'shape', ()))}".strip()
    raise UserError(f"An image cannot be a {kind}: pass a PIL image, a path, bytes (H, W, 3) or floats (3, H, W).")


def _opened(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise UserError(f"There is no image {path}.") from None
    except (UnidentifiedImageError, OSError, ValueError) as error:
        reason = one_line(error)
        raise UserError(f"{path} cannot be read as an image ({reason}).") from error
