"""Boxes in COCO's json: read once, checked, and kept as plain arrays."""

import json
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from famkd.data.coco_files import Place
from famkd.data.tree import and_more
from famkd.errors import UserError, inert, one_line

TRIED = 20  # images that are looked for in a folder to see whether it holds them
NO_GROUP = ("none", "", None)  # supercategories of a category that only groups others


@dataclass(frozen=True)
class Instances:
    """Images of one json and their objects; the boxes of image i are those from `start[i]` to `start[i + 1]`."""

    folder: Path
    names: np.ndarray  # (N,) paths of files under the folder
    sizes: np.ndarray  # (N, 2) height and width in pixels
    start: np.ndarray  # (N + 1,)
    boxes: np.ndarray  # (M, 4) as x1 y1 x2 y2 in pixels of the stored image
    labels: np.ndarray  # (M,) from 1, in the order of `classes`; 0 is the background
    area: np.ndarray  # (M,) in square pixels, of the object's outline where it has one
    crowd: np.ndarray  # (M,) whether the box holds many objects at once
    classes: list[str]

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """Path of an image."""
        return os.path.join(self.folder, str(self.names[index]))

    def subset(self, positions: np.ndarray) -> "Instances":
        """Some of the images, by their positions in ascending order."""
        chosen = np.zeros(len(self), bool)
        chosen[positions] = True
        counts = np.diff(self.start)
        own = np.repeat(chosen, counts)  # of each object
        return replace(
            self,
            names=self.names[positions],
            sizes=self.sizes[positions],
            start=np.concatenate(([0], np.cumsum(counts[positions]))),
            boxes=self.boxes[own],
            labels=self.labels[own],
            area=self.area[own],
            crowd=self.crowd[own],
        )

    def without(self, positions: list[int]) -> "Instances":
        """The same without some images and their objects."""
        return self.subset(np.delete(np.arange(len(self)), positions))


def read_instances(place: Place, classes: list[str] | None = None) -> tuple[Instances, list[int]]:
    """The images and boxes of a json, and the numbers of the images that are not on the disk.

    Args:
        classes: names of the classes in their order; by default those of the json, in the order of their numbers.

    Errors: UserError, one sentence, for a json that is not COCO's or has other classes.
    """
    path = place.annotations
    try:
        content = json.loads(path.read_bytes())
        images, annotations = content["images"], content["annotations"]
        label = _labels(path, content["categories"], annotations, classes)
        folder, names, missing = _on_disk(place.folders, [image["file_name"] for image in images])
        return _instances(path, folder, names, images, annotations, label), missing
    except KeyError as error:
        raise UserError(f"{path} is not in COCO's form: a field {error} is missing or of another kind.") from error
    except (TypeError, AttributeError) as error:
        raise UserError(f"{path} is not in COCO's form: a field is missing or of another kind.") from error
    except (OSError, ValueError, OverflowError, RecursionError) as error:
        raise UserError(f"Cannot use {path}: {one_line(error, 400)}.") from error


def _labels(
    path: Path, categories: list[dict[str, Any]], annotations: list[dict[str, Any]], classes: list[str] | None
) -> dict[Any, tuple[int, str]]:
    """Label, from 1, and name of each category by its number.

    Left out are categories without a box that only group others, as Roboflow's first one, or that are not asked for.
    """
    if not categories:
        raise ValueError("it lists no categories")
    used = {note["category_id"] for note in annotations}
    groups = {category.get("supercategory") for category in categories}
    kept = {}
    for category in sorted(categories, key=lambda category: category["id"]):
        number, name = category["id"], str(category["name"])
        grouping = category.get("supercategory") in NO_GROUP and category["name"] in groups
        if number in used or (name in classes if classes is not None else not grouping):
            kept[number] = name
    order = classes if classes is not None else list(dict.fromkeys(kept.values()))
    differ = sorted(set(kept.values()) ^ set(order))
    if differ:
        raise UserError(
            f"The categories of {path} and of the test images differ: {and_more(differ)}. List the same in both."
        )
    return {number: (order.index(name) + 1, name) for number, name in kept.items()}


def _on_disk(folders: list[Path], names: list[str]) -> tuple[Path, list[str], list[int]]:
    """The folder that holds the images, their paths in it, and the numbers of those that are not there.

    A file is found by its name in the json, with either kind of slash, or by the last part of that name alone where no
    other image has it.
    """
    if not names:
        raise ValueError("it lists no images")
    plain = [name.replace("\\", "/") for name in names]
    last = [name.rpartition("/")[2] for name in plain]
    counts = Counter(last)

    def find(folder: Path, n: int) -> str:
        tried = [names[n], plain[n]] if _is_inside(names[n]) else []
        tried += [last[n]] if counts[last[n]] == 1 and _is_inside(last[n]) else []
        return next((name for name in tried if os.path.isfile(folder / name)), "")

    sample = range(0, len(names), max(1, len(names) // TRIED))
    folder = max(folders, key=lambda folder: sum(find(folder, n) != "" for n in sample), default=Path())
    found = [find(folder, n) for n in range(len(names))]
    missing = [n for n, name in enumerate(found) if not name]
    for n in missing:
        if not _is_inside(names[n]):
            raise ValueError(f"the image {names[n][:60]!r} lies outside of {folder}")
    if len(missing) == len(names):
        tried = and_more([str(folder) for folder in folders]) or "any folder"
        raise ValueError(
            f"none of its {len(names):,} images, such as {names[0][:60]!r}, is in {tried}: name their folder by "
            "--data.train_images or --data.test_images"
        )
    return folder, [name or plain[n] for n, name in enumerate(found)], missing


def _instances(
    path: Path,
    folder: Path,
    names: list[str],
    images: Sequence[dict[str, Any]],
    annotations: Sequence[dict[str, Any]],
    label: dict[Any, tuple[int, str]],
) -> Instances:
    """Arrays in the order of the images; ValueError for contents that contradict each other."""
    position = {image["id"]: n for n, image in enumerate(images)}
    for note in annotations:
        for key, known in (("image_id", position), ("category_id", label)):
            if note[key] not in known:
                raise ValueError(f"annotation {note.get('id')} names {key} {note[key]}, which is not listed")
    owner = np.asarray([position[note["image_id"]] for note in annotations], np.int64)
    boxes = _corners(annotations)
    sizes = np.asarray([(image["height"], image["width"]) for image in images], np.int64)
    kept = _with_area(path, boxes, sizes[owner], annotations)
    order = np.argsort(owner, kind="stable")
    order = order[kept[order]]
    sorted_notes = [annotations[i] for i in order]
    classes = dict(label.values())
    return Instances(
        folder,
        names=np.asarray(names),
        sizes=sizes,
        start=np.searchsorted(owner[order], np.arange(len(images) + 1)),
        boxes=boxes[order].astype(np.float32),
        labels=np.asarray([label[note["category_id"]][0] for note in sorted_notes], np.int64),
        area=np.asarray([_area(note) for note in sorted_notes], np.float32),
        crowd=np.asarray([note.get("iscrowd", 0) for note in sorted_notes], bool),
        classes=[classes[number] for number in sorted(classes)],
    )


def _corners(annotations: Sequence[dict[str, Any]]) -> np.ndarray:
    """Boxes from x, y, width and height to (M, 4) x1 y1 x2 y2; ValueError, which names the annotations, for others."""
    bboxes = [note["bbox"] for note in annotations]
    wrong = [n for n, bbox in enumerate(bboxes) if len(bbox) != 4]
    boxes = np.asarray([] if wrong else bboxes, np.float64).reshape(-1, 4)
    wrong += np.flatnonzero(~np.isfinite(boxes).all(1) | (boxes[:, 2:] < 0).any(1)).tolist()
    if wrong:
        raise ValueError(
            "a bbox must be four finite numbers, x, y, width and height, the last two not negative: it is not in "
            f"{len(wrong):,} annotations, {_ids(annotations, wrong)}"
        )
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _with_area(path: Path, boxes: np.ndarray, sizes: np.ndarray, annotations: Sequence[dict[str, Any]]) -> np.ndarray:
    """(M,) whether a box has an area inside of its image; a warning that names those without, and those cut off.

    `sizes` is (M, 2), height and width of each box's image.
    """
    limits = sizes[:, ::-1]
    inside = np.minimum(boxes[:, 2:], limits) > np.maximum(boxes[:, :2], 0)
    kept = np.asarray(inside.all(1))
    over = kept & ((boxes[:, :2] < -1) | (boxes[:, 2:] > limits + 1)).any(1)
    for which, words in (
        (~kept, "have no area inside of their image and are left out"),
        (over, "reach over the edge of their image and are clipped in training"),
    ):
        numbers = np.flatnonzero(which).tolist()
        if numbers:
            text = f"{path}: {len(numbers):,} boxes {words}: annotations {_ids(annotations, numbers)}."
            warnings.warn(inert(text), stacklevel=2)
    return kept


def _ids(annotations: Sequence[dict[str, Any]], numbers: list[int]) -> str:
    return and_more([str(annotations[n].get("id", n)) for n in numbers])


def _area(note: dict[str, Any]) -> float:
    """The area of an annotation's outline, or that of its box."""
    _, _, width, height = note["bbox"]
    area = note.get("area")
    return width * height if area is None else area


def _is_inside(name: str) -> bool:
    """Whether the name of a file leads to somewhere under its folder, on any system."""
    path = PureWindowsPath(name)
    return bool(name) and not path.anchor and ".." not in path.parts
