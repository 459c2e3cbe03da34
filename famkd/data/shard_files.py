"""Where the tars of a WebDataset lie: in a folder for each split, or by their names, behind any address of fsspec."""

import math
import re
from collections.abc import Iterator
from itertools import product
from typing import Any

from famkd.data.tree import and_more, find_either, is_hidden
from famkd.errors import UserError

MOST_SHARDS = 100_000  # that a pattern with braces may stand for


def file_system(root: str) -> tuple[Any, str]:
    """fsspec's file system of an address, and the path in it; UserError if a package for it is missing."""
    import fsspec

    try:
        return fsspec.core.url_to_fs(root)
    except (ImportError, ValueError) as error:
        raise UserError(f"{root} cannot be read: {' '.join(str(error).split())}.") from error


def find_tars(files: Any, root: str, pattern: str) -> dict[str, int]:
    """Name under the root and bytes of each tar of a pattern, in alphabetical order; UserError for missing ones."""
    found: dict[str, int] = {}
    missing = []
    for name in _without_braces(pattern):
        path = f"{root}/{name}"
        try:
            paths = files.glob(path, detail=True) if re.search("[*?]", name) else {path: files.info(path)}
        except FileNotFoundError:
            missing.append(name)
            continue
        for path, info in paths.items():
            if not is_hidden(path.rpartition("/")[2]):
                found[path.removeprefix(root).lstrip("/")] = info["size"]
    if missing or not found:
        raise UserError(f"There is no {and_more(missing or [pattern])} in {root}.")
    return dict(sorted(found.items()))


def place_of(root: str, split: str) -> tuple[str, str] | None:
    """Address of the folder of a split's tars, and the pattern of their names; None if there are none."""
    if re.search(r"[*?{]|\.tar$", split):
        folder, _, pattern = split.rpartition("/")
        return (f"{root}/{folder}" if folder else root), pattern
    files, path = file_system(root)
    if files.glob(f"{path}/{split}/*.tar"):
        return f"{root}/{split}", "*.tar"
    present = listing(root)
    folder = find_either(split, [name for name, is_folder in present.items() if is_folder], root)
    if folder:
        return (f"{root}/{folder}", "*.tar") if files.glob(f"{path}/{folder}/*.tar") else None
    words = [word for name in present if name.endswith(".tar") for word in re.findall("[A-Za-z]+", name)]
    word = find_either(split, words, root)
    return (root, f"*{word}*.tar") if word else None


def listing(root: str) -> dict[str, bool]:
    """What lies in a folder, and whether each is a folder; nothing where the address cannot be listed."""
    files, path = file_system(root)
    try:
        entries = files.ls(path, detail=True)
    except Exception:  # every file system raises its own
        return {}
    return {entry["name"].rstrip("/").rpartition("/")[2]: entry["type"] == "directory" for entry in entries}


def _without_braces(pattern: str) -> Iterator[str]:
    """The names that a pattern with braces stands for: {a,b} for each of several, {0000..0146} for a range."""
    parts = re.split(r"\{([^{}]*)\}", pattern)
    choices = []
    for place, part in enumerate(parts):
        span = re.fullmatch(r"(\d+)\.\.(\d+)", part)
        if place % 2 == 0:
            choices.append([part])
        elif span and int(span[2]) - int(span[1]) < MOST_SHARDS:
            choices.append([f"{n:0{len(span[1])}}" for n in range(int(span[1]), int(span[2]) + 1)])
        else:
            choices.append(part.split(","))
    if math.prod(map(len, choices)) > MOST_SHARDS:
        raise UserError(f"{pattern} stands for more than {MOST_SHARDS:,} files: name fewer.")
    return map("".join, product(*choices))
