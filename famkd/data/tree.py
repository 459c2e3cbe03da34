"""Where image files lie: the folders of splits and classes, without what systems and tools leave beside them."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from famkd.data.pixels import ENDINGS
from famkd.errors import UserError, nearest

# What an operating system, a file server or a tool leaves in a folder. Names with a leading dot are hidden too.
HIDDEN = {
    "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir", "#recycle", "$recycle.bin",
    "system volume information", "lost+found", "__pycache__",
}  # fmt: skip
SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}  # names of each kind of split, in any case
SHOWN = 3  # names in a message, of many


def is_hidden(name: str) -> bool:
    """Whether a file or folder is no part of a data set, by its name alone."""
    return name.startswith(".") or name.lower() in HIDDEN


def find_split(asked: str, present: Iterable[str], where: str) -> str | None:
    """The one of the present names that stands for a split: the very name, or one of its kind; None if there is none.

    `val` also finds `Valid` and `validation`. UserError where several would do.
    """
    names = {name for name in present if not is_hidden(name)}
    if asked in names:
        return asked
    kind = SPLITS.get(kind_of(asked), (asked.lower(),))
    found = [name for name in names if name.lower() in kind]
    alike = [name for name in found if name.lower() == asked.lower()]
    found = alike or found
    if len(found) > 1:
        raise UserError(f"{where} has {and_more(sorted(found))}: say which is meant by --data.splits.")
    return found[0] if found else None


def find_splits(root: str | Path, splits: tuple[str, str]) -> tuple[Path, Path]:
    """The folders of training and test images under a root; UserError, which says what is there, without them."""
    root = Path(root)
    if not root.is_dir():
        kind = "is a file, not a folder: unpack it" if root.exists() else "does not exist"
        raise UserError(f"{root} {kind}. {_wanted(splits)}")
    present = _folder_names(root)
    found = []
    for asked in splits:
        exact = asked if (root / asked).is_dir() else None
        name = exact or find_either(asked, present, str(root))
        if name is None:
            inner = [root / name for name in present if find_split(splits[0], _folder_names(root / name), "")]
            hint = f" Did you mean {inner[0]}?" if inner else ""
            raise UserError(
                f"There is no folder {root / asked}: {root} holds {_contents(root)}.{hint} {_wanted(splits)}"
            )
        found.append(root / name)
    return found[0], found[1]


def find_further(root: Path, asked: str) -> Path:
    """The folder of a further split, by its name or one of its kind; UserError if there is none."""
    found = asked if (root / asked).is_dir() else find_split(asked, _folder_names(root), str(root))
    if found is None:
        raise UserError(
            f"--data.val {asked}: there is no folder {root / asked}: name one, or pass a fraction such as 0.1."
        )
    return root / found


def find_either(asked: str, present: Iterable[str], where: str) -> str | None:
    """The name of a split as `find_split` finds it; a split of test images and one of validation images are alike."""
    present = list(present)
    found = find_split(asked, present, where)
    other = {"val": "test", "test": "val"}.get(kind_of(asked), "")
    return found or (find_split(other, present, where) if other else None)


def class_folders(split: Path) -> dict[str, Path]:
    """The folders of a split by the names of their classes, in alphabetical order of the folders.

    Names are in Unicode's composed form (NFC), as systems differ in how they store an accent. Links that lead back
    to a folder above them are left out. UserError if there is no such folder.
    """
    if not split.is_dir():
        raise UserError(f"There is no folder {split}.")
    above = _above(split)
    folders: dict[str, Path] = {}
    for entry in sorted(entries(split), key=lambda entry: entry.name):
        if not is_folder(entry) or _identity(entry.path) in above:
            continue
        name = unicodedata.normalize("NFC", entry.name)
        if name in folders:
            raise UserError(f"{split} has two folders named {name}, with accents stored in two ways: rename one.")
        folders[name] = Path(entry.path)
    return folders


def image_files(folder: str | Path) -> Iterator[str]:
    """Paths of the image files in a folder, at any depth. Links are followed, and each folder is read once."""
    seen = _above(folder)
    waiting = [str(folder)]
    while waiting:
        for entry in entries(waiting.pop()):
            if not is_folder(entry):
                if entry.name.lower().endswith(ENDINGS):
                    yield entry.path
            elif (identity := _identity(entry.path)) not in seen:
                seen.add(identity)
                waiting.append(entry.path)


def match_classes(train: Path, test: Path) -> list[str]:
    """Names of the classes, those of the training images.

    UserError where there are none, or where the folder of test images has one that the other lacks.
    """
    classes, tested = class_folders(train), class_folders(test)
    for split, found in ((train, classes), (test, tested)):
        if not found:
            raise UserError(
                f"{split} needs one folder per class with image files in it, as in {split.name}/cat/1.jpg: it holds "
                f"{_contents(split)}. Without labels pass --task unlabelled."
            )
    unknown = [name for name in tested if name not in classes]
    if unknown:
        hint = nearest(unknown[0], classes)
        raise UserError(
            f"{test} has classes that {train} lacks: {and_more(unknown)}.{hint} Give both the same classes."
        )
    return list(classes)


def without_images(split: Path, classes: list[str]) -> str:
    """The error for classes whose folders hold no images: their names, and what lies there instead."""
    folders = class_folders(split)
    found = [f"{name} (the folder holds {_contents(folders[name])})" for name in classes]
    return f"{split} has no images of {and_more(found)}. Add images, or remove these folders."


def and_more(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def kind_of(split: str) -> str:
    """The kind of a split by its name, train, val or test; "" for other names."""
    return next((kind for kind, names in SPLITS.items() if split.lower() in names), "")


def _folder_names(folder: Path) -> list[str]:
    return [entry.name for entry in entries(folder) if is_folder(entry)]


def entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """What a folder holds and is not hidden; UserError where it may not be read."""
    try:
        with os.scandir(folder) as found:
            return [entry for entry in found if not is_hidden(entry.name)]
    except OSError as error:
        raise UserError(f"Cannot read the folder {folder}: {error.strerror}.") from error


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identity(folder: str | Path) -> tuple[int, int]:
    """What tells a folder from every other one, by whatever path it is reached."""
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def _above(folder: str | Path) -> set[tuple[int, int]]:
    """A folder and all folders above it, by its own path and by the one that its links lead to."""
    path = Path(folder).absolute()
    return {_identity(each) for each in (path, *path.parents, *path.resolve().parents)}


def _contents(folder: Path) -> str:
    """What lies in a folder, in a few words: its folders by name, its files by their endings."""
    found = entries(folder)
    folders = sorted(entry.name for entry in found if is_folder(entry))
    files = [Path(entry.name).suffix.lower() or "no ending" for entry in found if not is_folder(entry)]
    words = []
    if folders:
        words.append(f"{len(folders):,} folder{'s' * (len(folders) > 1)} ({and_more(folders)})")
    if files:
        endings = [ending for ending, _ in Counter(files).most_common()]
        words.append(f"{len(files):,} file{'s' * (len(files) > 1)} ({and_more(endings)})")
    return " and ".join(words) or "nothing"


def _wanted(splits: tuple[str, str]) -> str:
    train, test = splits
    return (
        f"Point --data.root at a folder with {train}/CLASS/*.jpg and {test}/CLASS/*.jpg, or name the two by "
        "--data.splits (. . trains and tests on the one tree of classes in the root)."
    )
