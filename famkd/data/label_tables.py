"""CSV files with several labels or numbers for each image: a column for each, or one column of names."""

import csv
import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from famkd.data.targets import checked_targets
from famkd.data.tree import and_more, entries
from famkd.errors import UserError

FILES = ("file_name", "filename", "file", "image", "path", "img", "name")  # headings of the column with the files
SEPARATORS = re.compile(r"\s*[;,|]\s*")  # between names of labels; without any of them, spaces


class Table(NamedTuple):
    """The images of a CSV file in one folder, and their targets."""

    files: list[str]  # paths
    targets: np.ndarray  # float32 (N, labels)
    labels: list[str]  # their names


def find_table(root: Path, folder: Path, asked: str) -> Path:
    """The CSV file of a folder of images: the one that is asked for, the only one in the folder, or one beside it.

    Errors: UserError where there is none, or where there are several.
    """
    if asked:
        places = [folder / asked, root / asked, Path(asked)]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise UserError(f"There is no {folder / asked} and no {root / asked}: name a CSV file by --data.table.")
        return found
    inside = sorted(entry.path for entry in entries(folder) if entry.name.lower().endswith(".csv"))
    if len(inside) > 1:
        names = and_more([os.path.basename(path) for path in inside])
        raise UserError(f"{folder} has several CSV files, {names}: name one by --data.table.")
    beside = folder.with_name(f"{folder.name}.csv")
    if not inside and not beside.is_file():
        raise UserError(f"{folder} has no CSV file of labels: add labels.csv with the columns file_name and labels.")
    return Path(inside[0]) if inside else beside


def read_table(path: Path, root: Path, folder: Path, task: str, known: list[str] | None = None) -> Table:
    """The images of a CSV file that lie in a folder, with their targets.

    The first line holds the headings. Files are named as they are in the folder, or under the root. The other columns
    are one for each label, or for multilabel a single one of names, such as `cat;dog`.

    Args:
        known: names of the labels of the training images, for a table of test images.

    Errors: UserError, one sentence, for a table that does not say this.
    """
    heading, rows = _rows(path)
    at = next((heading.index(name) for name in FILES if name in heading), 0)
    labels = [name for place, name in enumerate(heading) if place != at]
    files, cells = _in_folder(path, rows, at, root, folder)
    if not files:
        raise UserError(
            f"{path} names no image in {folder}: the column {heading[at]} holds, for example, {rows[0][at]}."
        )
    if task == "multilabel" and len(labels) == 1 and not all(_is_number(row[0]) for row in cells):
        return Table(files, *_from_names(path, [row[0] for row in cells], known))
    if known is not None and labels != known:
        raise UserError(
            f"{path} has the columns {and_more(labels)}, the training images {and_more(known)}: give it these."
        )
    wrong = next((cell for row in cells for cell in row if not _is_number(cell)), None)
    if wrong is not None:
        raise UserError(
            f"{path} holds {wrong[:40]!r} in a column of labels: give a number in each, or one column of names."
        )
    values = np.asarray(cells, np.float64).reshape(len(files), -1)
    return Table(files, checked_targets(values, task, f"{path} holds"), labels)


def _rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """The headings and the other lines of a CSV file."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            sample = file.read(4096)
            file.seek(0)
            separator = ";" if ";" in sample.partition("\n")[0] and "," not in sample.partition("\n")[0] else ","
            lines = [[cell.strip() for cell in row] for row in csv.reader(file, delimiter=separator) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"Cannot read {path}: {error}.") from error
    if len(lines) < 2 or len(lines[0]) < 2:
        raise UserError(f"{path} needs a line of headings, such as file_name,cat,dog, and a line for each image.")
    heading, *rows = lines
    uneven = next((number for number, row in enumerate(rows, 2) if len(row) != len(heading)), None)
    if uneven:
        raise UserError(f"{path}, line {uneven}, has {len(rows[uneven - 2])} columns, the headings {len(heading)}.")
    return heading, rows


def _in_folder(
    path: Path, rows: list[list[str]], at: int, root: Path, folder: Path
) -> tuple[list[str], list[list[str]]]:
    """Paths of the images that lie in a folder, and the other cells of their lines."""
    files, cells, missing = [], [], []
    for row in rows:
        found = next((place for place in (folder / row[at], root / row[at]) if place.is_file()), None)
        if found is None:
            missing.append(row[at])
        elif found.is_relative_to(folder):
            files.append(str(found))
            cells.append(row[:at] + row[at + 1 :])
    of_all_splits = path.parent != folder and path.stem != folder.name
    if missing and not of_all_splits:
        raise UserError(f"{path} names images that are not in {folder}: {and_more(missing)}.")
    if len(set(files)) < len(files):
        raise UserError(f"{path} names an image of {folder} twice: keep one line for each.")
    return files, cells


def _from_names(path: Path, cells: list[str], known: list[str] | None) -> tuple[np.ndarray, list[str]]:
    """Targets from cells that name labels, and the names of all labels."""
    several = any(SEPARATORS.search(cell) for cell in cells)
    named = [[name for name in (SEPARATORS.split(cell) if several else cell.split()) if name] for cell in cells]
    labels = known or sorted({name for row in named for name in row})
    unknown = sorted({name for row in named for name in row} - set(labels))
    if unknown:
        raise UserError(f"{path} has labels that the training images lack: {and_more(unknown)}.")
    place = {name: number for number, name in enumerate(labels)}
    targets = np.zeros((len(cells), len(labels)), np.float32)
    for row, names in enumerate(named):
        targets[row, [place[name] for name in names]] = 1
    return targets, labels


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
