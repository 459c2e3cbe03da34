"""Run every notebook into notebooks/executed/, whose outputs the site then shows: `make docs-notebooks`."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from tyro.conf import Positional

from famkd.command_line.main import run_script
from notebooks import NOTEBOOKS, SOURCES, paired

EXECUTED = NOTEBOOKS / "executed"
DATA = NOTEBOOKS.parent / "data"
CELL_SECONDS = 3600
WIDGET = "application/vnd.jupyter.widget-view+json"
# Run in the notebook's kernel: a widget of famviz as a page of its own that needs no kernel.
SAVE = """
from ipywidgets.widgets.widget import _instances
_widget = _instances[{model!r}]
if hasattr(_widget, "to_html"):
    _widget.to_html({path!r})
"""


def run(source: Path, folder: Path, executed: Path = EXECUTED) -> None:
    """Run a notebook in a folder, and save it with its outputs and a page for each of its widgets."""
    book = nbformat.reads(paired(source), 4)
    executed.mkdir(exist_ok=True)
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(book, timeout=CELL_SECONDS, kernel_name="python3", resources=resources)
    with client.setup_kernel():
        for number, cell in enumerate([*book.cells]):
            client.execute_cell(cell, number)
            for place, model in widgets(cell):
                path = executed / widget_page(source.stem, number, place)
                client.execute_cell(nbformat.v4.new_code_cell(SAVE.format(model=model, path=str(path))), number)
            book.cells[number] = cell  # the client has put the cell that saves in its place
    nbformat.write(book, executed / f"{source.stem}.ipynb")


def widgets(cell: Any) -> Iterator[tuple[int, str]]:
    """Place among the outputs of a cell, and name, of each widget."""
    for place, output in enumerate(cell.get("outputs", [])):
        shown = output.get("data", {}).get(WIDGET)
        if shown:
            yield place, shown["model_id"]


def widget_page(stem: str, cell: int, place: int) -> str:
    """The name of the page of a widget, by its notebook, cell and place among the outputs."""
    return f"{stem}-{cell}-{place}.html"


def run_notebooks(wanted: Positional[tuple[str, ...]] = ()) -> None:
    """Run the notebooks whose names begin with these words, all without any, in one folder that keeps their runs.

    The folder also holds the run that comes with the notebooks and, where the checkout has a folder data, its data.
    """
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(NOTEBOOKS / "runs", Path(folder) / "runs")
        if DATA.exists():
            (Path(folder) / "data").symlink_to(DATA)
        for source in SOURCES:
            if not wanted or source.stem.startswith(wanted):
                start = time.monotonic()
                run(source, Path(folder))
                print(f"{source.stem}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    run_script(run_notebooks)
