"""Write every notebook from its percent script: `python tools/notebooks.py`."""

from pathlib import Path

import jupytext
import nbformat

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
SOURCES = sorted(NOTEBOOKS.glob("[0-9]*.py"))


def paired(source: Path) -> str:
    """The notebook of a source, without output; cells are numbered, as ids drawn by chance would change each time."""
    book = jupytext.reads(source.read_text(), "py:percent")
    for number, cell in enumerate(book.cells):
        cell["id"] = f"cell-{number:02d}"
    book.metadata = {"kernelspec": book.metadata["kernelspec"]}
    return nbformat.writes(book) + "\n"


if __name__ == "__main__":
    for source in SOURCES:
        source.with_suffix(".ipynb").write_text(paired(source))
