"""Make the notebook of `famviz lab` from its template, look.py."""

import os
from collections.abc import Sequence
from pathlib import Path

import jupytext
import nbformat

from famviz.load import LoadedRun, open_all

NAME = "look.ipynb"
TEMPLATE = Path(__file__).with_name("look.py")
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
LINES = ("# TITLE", 'FOLDER = "."', 'RUNS = ["runs/quickstart/fam_review-seed0"]')  # of the template


def prepare_notebook(runs: Sequence[str], folder: Path) -> Path:
    """Write a notebook without output that opens runs, the first one first; returns its path.

    Its kernel works in the present working directory. Errors: UserError if a run cannot be opened.
    """
    opened = open_all(list(runs))
    title = "# " + ", ".join(each.name for each in opened)
    paths = [str(Path(run).resolve()) for run in runs]
    values = (title, f"FOLDER = {os.getcwd()!r}", f"RUNS = {paths!r}")
    book = jupytext.reads(TEMPLATE.read_text(encoding="utf-8"), "py:percent")
    given = _tags(opened)
    cells = [cell for cell in book.cells if given.issuperset(cell.metadata.pop("tags", ()))]
    for cell in cells:
        for line, value in zip(LINES, values):
            cell.source = cell.source.replace(line, value)
    path = folder / NAME
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=KERNEL), path)
    return path


def _tags(opened: list[LoadedRun]) -> set[str]:
    """The tags of the cells that these runs have; look.py explains them."""
    tags = {"several" if len(opened) > 1 else "one"}
    if any(each.run for each in opened):
        tags.add("log")
    if opened[0].run:
        tags.add("run")
    return tags
