"""Where COCO's annotations and images lie: the official layout, Roboflow's, and others of the same kind."""

import re
from pathlib import Path
from typing import NamedTuple

from famkd.data.tree import SPLITS, and_more, entries, kind_of
from famkd.errors import UserError

OTHERS = {"captions", "keypoints", "panoptic", "stuff", "info"}  # words in the names of jsons that hold no boxes
LAYOUTS = (
    "annotations/instances_train2017.json, annotations/instances_val2017.json, train2017/ and val2017/, or with "
    "train/_annotations.coco.json and valid/_annotations.coco.json beside the images"
)


class Place(NamedTuple):
    """A json of annotations, and the folders in which its images may lie, the likeliest first."""

    annotations: Path
    folders: list[Path]


def find_annotations(root: str | Path, split: str, annotations: str = "", images: str = "") -> Place:
    """The json and the folders of images of a split; UserError, which says what is there, where they are not found.

    Args:
        split: train or val, or the name of another one. Files of a test split stand in for missing ones of val.
        annotations, images: path of the json and of the folder, under the root or absolute, where they are known.
    """
    root, option = Path(root), "train" if split == "train" else "test"
    if annotations:
        json = root / annotations
        if not json.is_file():
            raise UserError(f"--data.{option}_annotations: there is no file {json}.")
    else:
        json = _only(_jsons(root, split) or (_jsons(root, "test") if split == "val" else []), root, split, option)
    if not images:
        return Place(json, _image_folders(root, json, split))
    folder = root / images
    if not folder.is_dir():
        raise UserError(f"--data.{option}_images: there is no folder {folder}.")
    return Place(json, [folder])


def _only(found: list[Path], root: Path, split: str, option: str) -> Path:
    """The one json of several that is preferred; UserError if there is none, or if no one is."""
    if not found:
        raise UserError(
            f"There is no json of {split} boxes under {root}, which holds {_names(root)}: point --data.root at a "
            f"folder with {LAYOUTS}, or name the files by --data.{option}_annotations and --data.{option}_images."
        )
    best = [path for path in found if _rank(path) == min(map(_rank, found))]
    if len(best) > 1:
        names = and_more([str(path) for path in best])
        raise UserError(f"There are several jsons of {split} boxes: {names}. Name one by --data.{option}_annotations.")
    return best[0]


def _jsons(root: Path, split: str) -> list[Path]:
    """The jsons that by their names or places hold the boxes of a split."""
    named = [path for folder in (root / "annotations", root) for path in _files(folder) if _is_of(path.stem, split)]
    beside = [path for folder in _split_folders(root, split) for path in _files(folder)]
    return [path for path in named + beside if not OTHERS & set(_words(path.stem))]


def _rank(path: Path) -> int:
    """The official name comes first, then others that name boxes."""
    if re.fullmatch(r"instances_[a-z]+2017", path.stem):
        return 0
    return 1 if path.stem.startswith(("instances", "_annotations")) else 2


def _image_folders(root: Path, json: Path, split: str) -> list[Path]:
    """The folders in which the images of a json may lie, those whose name is in that of the json first."""
    beside = [json.parent, json.parent / "images", json.parent / "data"]
    own = [folder for each in (root, root / "images") for folder in _split_folders(each, split)]
    if split == "val":
        own += [folder for each in (root, root / "images") for folder in _split_folders(each, "test")]
    own.sort(key=lambda folder: folder.name not in json.stem)
    shared = [root / "images", root / "data", root]
    in_split = json.parent not in (root, root / "annotations")
    every = [*beside, *own, *shared] if in_split else [*own, *shared, *beside]
    return [folder for folder in dict.fromkeys(every) if folder.is_dir()]


def _split_folders(folder: Path, split: str) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in _shown(folder) if path.is_dir() and _is_of(path.name, split))


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in _shown(folder) if path.suffix.lower() == ".json" and path.is_file())


def _shown(folder: Path) -> list[Path]:
    return [Path(entry.path) for entry in entries(folder)]


def _is_of(name: str, split: str) -> bool:
    """Whether a name is that of a split, as in instances_train2017 or valid."""
    kind = kind_of(split.rstrip("0123456789"))
    if kind:
        return any(word in SPLITS[kind] for word in _words(name))
    return split.lower() in name.lower()


def _words(name: str) -> list[str]:
    return re.findall("[a-z]+", name.lower())


def _names(root: Path) -> str:
    if not root.is_dir():
        return "nothing, as it is no folder"
    return and_more(sorted(path.name for path in _shown(root))) or "nothing"
