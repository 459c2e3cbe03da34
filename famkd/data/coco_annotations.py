"""Boxes in COCO's json: read once, checked, and kept as plain arrays."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from famkd.errors import UserError

WANTED = (
    "a folder with annotations/instances_train2017.json, annotations/instances_val2017.json, train2017/ and val2017/"
)


@dataclass(frozen=True)
class Instances:
    """Images of one json and their objects; the boxes of image i are those from `start[i]` to `start[i + 1]`."""

    folder: Path
    names: np.ndarray  # (N,) of files
    sizes: np.ndarray  # (N, 2) height and width in pixels
    start: np.ndarray  # (N + 1,)
    boxes: np.ndarray  # (M, 4) as x1 y1 x2 y2 in pixels of the stored image
    labels: np.ndarray  # (M,) from 1, in order of the categories' numbers; 0 is the background
    area: np.ndarray  # (M,) in square pixels, of the object's outline where it has one
    crowd: np.ndarray  # (M,) whether the box holds many objects at once
    classes: list[str]

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, positions: np.ndarray) -> "Instances":
        """Some of the images, by their positions in ascending order."""
        chosen = np.zeros(len(self), bool)
        chosen[positions] = True
        counts = np.diff(self.start)
        own = np.repeat(chosen, counts)  # of each object
        return Instances(
            self.folder,
            names=self.names[positions],
            sizes=self.sizes[positions],
            start=np.concatenate(([0], np.cumsum(counts[positions]))),
            boxes=self.boxes[own],
            labels=self.labels[own],
            area=self.area[own],
            crowd=self.crowd[own],
            classes=self.classes,
        )


def read_instances(root: str | Path, part: str) -> Instances:
    """The images and boxes of a part, such as `train2017`; UserError, one sentence, for a json that is not COCO's."""
    path = Path(root) / "annotations" / f"instances_{part}.json"
    folder = Path(root) / part
    if not path.is_file():
        raise UserError(f"There is no {path}: point --data.root at {WANTED}.")
    if not folder.is_dir():
        raise UserError(f"There is no {folder}: point --data.root at {WANTED}.")
    try:
        content = json.loads(path.read_bytes())
        categories = sorted(content["categories"], key=lambda category: category["id"])
        return _instances(folder, content["images"], content["annotations"], categories)
    except KeyError as error:
        raise UserError(f"{path} is not in COCO's form: a field {error} is missing or of another kind.") from error
    except (TypeError, AttributeError) as error:
        raise UserError(f"{path} is not in COCO's form: a field is missing or of another kind.") from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise UserError(f"Cannot use {path}: {' '.join(str(error).split())[:200]}.") from error


def _instances(
    folder: Path,
    images: Sequence[dict[str, Any]],
    annotations: Sequence[dict[str, Any]],
    categories: Sequence[dict[str, Any]],
) -> Instances:
    """Arrays in the order of the images; ValueError for contents that contradict each other."""
    if not categories:
        raise ValueError("it lists no categories")
    if not images:
        raise ValueError("it lists no images")
    names = [image["file_name"] for image in images]
    for name in names:
        if not _is_inside(name):
            raise ValueError(f"the image {name[:60]!r} lies outside of {folder}")
    position = {image["id"]: n for n, image in enumerate(images)}
    label = {category["id"]: n for n, category in enumerate(categories, 1)}
    for note in annotations:
        for key, known in (("image_id", position), ("category_id", label)):
            if note[key] not in known:
                raise ValueError(f"annotation {note.get('id')} names {key} {note[key]}, which is not listed")
    owner = np.asarray([position[note["image_id"]] for note in annotations], np.int64)
    order = np.argsort(owner, kind="stable")
    sorted_notes = [annotations[i] for i in order]
    return Instances(
        folder,
        names=np.asarray(names),
        sizes=np.asarray([(image["height"], image["width"]) for image in images], np.int64),
        start=np.searchsorted(owner[order], np.arange(len(images) + 1)),
        boxes=_corners([note["bbox"] for note in sorted_notes]),
        labels=np.asarray([label[note["category_id"]] for note in sorted_notes], np.int64),
        area=np.asarray([_area(note) for note in sorted_notes], np.float32),
        crowd=np.asarray([note.get("iscrowd", 0) for note in sorted_notes], bool),
        classes=[str(category["name"]) for category in categories],
    )


def _corners(bboxes: list[Sequence[float]]) -> np.ndarray:
    """Boxes as x, y, width and height to (M, 4) float32 x1 y1 x2 y2; ValueError for others."""
    wanted = "a bbox must be four finite numbers, x, y, width and height, the last two not negative"
    if any(len(bbox) != 4 for bbox in bboxes):
        raise ValueError(wanted)
    boxes = np.asarray(bboxes, np.float64).reshape(-1, 4)
    if not np.isfinite(boxes).all() or (boxes[:, 2:] < 0).any():
        raise ValueError(wanted)
    boxes[:, 2:] += boxes[:, :2]
    return boxes.astype(np.float32)


def _area(note: dict[str, Any]) -> float:
    """The area of an annotation's outline, or that of its box."""
    _, _, width, height = note["bbox"]
    return note.get("area", width * height)


def _is_inside(name: str) -> bool:
    """Whether the name of a file leads to somewhere under its folder, on any system."""
    path = PureWindowsPath(name)
    return not path.anchor and ".." not in path.parts
