"""Boxes in COCO's json: read once, checked, and kept as plain arrays."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import numpy as np

from famkd.errors import UserError

WANTED = (
    "a folder with annotations/instances_train2017.json, annotations/instances_val2017.json, train2017/ and val2017/"
)


@dataclass(frozen=True)
class Instances:
    """Images of one json and what is in them; the boxes of image i are those from `start[i]` to `start[i + 1]`."""

    folder: Path
    names: np.ndarray  # (N,) of files
    sizes: np.ndarray  # (N, 2) height and width in pixels
    start: np.ndarray  # (N + 1,)
    boxes: np.ndarray  # (M, 4) as x1 y1 x2 y2 in pixels, as written
    labels: np.ndarray  # (M,) from 1, in order of the categories' numbers; 0 is the background
    area: np.ndarray  # (M,) in square pixels, of the object's outline where it has one
    crowd: np.ndarray  # (M,) whether the box holds many objects at once
    classes: list[str]

    def __len__(self) -> int:
        return len(self.names)


def read_instances(root: str | Path, part: str) -> Instances:
    """The images and boxes of `train2017` or `val2017`; UserError, one sentence, for a json that is none."""
    path = Path(root) / "annotations" / f"instances_{part}.json"
    for needed, found in ((path, path.is_file()), (Path(root) / part, (Path(root) / part).is_dir())):
        if not found:
            raise UserError(f"There is no {needed}: point --data.root at {WANTED}.")
    try:
        content = json.loads(path.read_bytes())
        images, notes, kinds = (content[key] for key in ("images", "annotations", "categories"))
        return _arranged(Path(root) / part, images, notes, sorted(kinds, key=lambda kind: kind["id"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not in COCO's form: {_said(error)} is missing or of another kind.") from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise UserError(f"Cannot use {path}: {' '.join(str(error).split())[:200]}.") from error


def _arranged(folder: Path, images: Sequence[dict], notes: Sequence[dict], kinds: Sequence[dict]) -> Instances:
    """Arrays in order of the images; ValueError for what contradicts itself."""
    if not images or not kinds:
        raise ValueError("it lists no images" if kinds else "it lists no categories")
    names = [image["file_name"] for image in images]
    if astray := next((name for name in names if not _is_inside(name)), None):
        raise ValueError(f"the image {astray[:60]!r} lies outside of {folder}")
    place = {image["id"]: n for n, image in enumerate(images)}
    label = {kind["id"]: n for n, kind in enumerate(kinds, 1)}
    for note in notes:
        for key, known in (("image_id", place), ("category_id", label)):
            if note[key] not in known:
                raise ValueError(f"annotation {note.get('id')} names {key} {note[key]}, which is not listed")
    owner = np.asarray([place[note["image_id"]] for note in notes], np.int64)
    order = np.argsort(owner, kind="stable")
    notes = [notes[i] for i in order]
    four = "a bbox must be four finite numbers, x, y, width and height, the last two not negative"
    if any(len(note["bbox"]) != 4 for note in notes):
        raise ValueError(four)
    boxes = np.asarray([note["bbox"] for note in notes], np.float64).reshape(-1, 4)
    if not np.isfinite(boxes).all() or (boxes[:, 2:] < 0).any():
        raise ValueError(four)
    boxes[:, 2:] += boxes[:, :2]
    return Instances(
        folder,
        np.asarray(names),
        np.asarray([(image["height"], image["width"]) for image in images], np.int64),
        np.searchsorted(owner[order], np.arange(len(images) + 1)),
        boxes.astype(np.float32),
        np.asarray([label[note["category_id"]] for note in notes], np.int64),
        np.asarray([note.get("area", note["bbox"][2] * note["bbox"][3]) for note in notes], np.float32),
        np.asarray([note.get("iscrowd", 0) for note in notes], bool),
        [str(kind["name"]) for kind in kinds],
    )


def _is_inside(name: str) -> bool:
    """Whether the name of a file leads to somewhere under its folder, on any system."""
    path = PureWindowsPath(name)
    return not path.anchor and ".." not in path.parts


def _said(error: Exception) -> str:
    return f"a field {error}" if isinstance(error, KeyError) else "a field"
