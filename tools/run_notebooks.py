"""Run every notebook into notebooks/executed/, whose outputs the site then shows: `make docs-notebooks`."""

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from notebooks import NOTEBOOKS, SOURCES, paired

EXECUTED = NOTEBOOKS / "executed"
CELL_SECONDS = 3600


def run(source: Path, folder: Path) -> None:
    """Run a notebook in a folder and save it with its outputs."""
    book = nbformat.reads(paired(source), 4)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(book, timeout=CELL_SECONDS, kernel_name="python3", resources=resources).execute()
    EXECUTED.mkdir(exist_ok=True)
    nbformat.write(book, EXECUTED / f"{source.stem}.ipynb")


def main(wanted: list[str]) -> None:
    """Run the notebooks whose names begin with these words, all without any, in one folder that keeps their runs."""
    with tempfile.TemporaryDirectory() as folder:
        for source in SOURCES:
            if not wanted or source.stem.startswith(tuple(wanted)):
                print(source.stem, flush=True)
                run(source, Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
