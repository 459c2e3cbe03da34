"""One table, four ways to write it: for the terminal, Markdown, CSV and HTML."""

import csv
import html
import io
import shutil
import sys
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from famkd.errors import inert

NAME = 12  # characters that a narrow terminal leaves of a name before a line gets longer than it is
Format = Literal["table", "markdown", "csv", "html"]


def write_table(format: Format, header: list[str], rows: list[list[str]], notes: list[str], left: int = 1) -> str:
    """A table of texts with notes under it; the first `left` columns to the left, the others to the right.

    CSV has no notes: they would not be data. Whatever a cell says, nothing that shows the table obeys it.
    """
    header, *rows = [[inert(cell) for cell in row] for row in (header, *rows)]
    notes = [inert(note) for note in notes]
    if format == "csv":
        return _csv(header, rows)
    write = {"table": _text, "markdown": _markdown, "html": _html}[format]
    return write(header, rows, notes, left)


def _text(header: list[str], rows: list[list[str]], notes: list[str], left: int) -> str:
    total = shutil.get_terminal_size((160, 24)).columns if sys.stdout.isatty() else 200
    widths = _widths([header, *rows], total, left)
    grid = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    for place, (name, width) in enumerate(zip(header, widths)):
        grid.add_column(name, justify="left" if place < left else "right", width=width, overflow="fold")
    for row in rows:
        grid.add_row(*row)
    buffer = io.StringIO()
    plain = Console(
        file=buffer,
        width=sum(widths) + 2 * len(widths) + 1,
        highlight=False,
        markup=False,
        emoji=False,
        force_jupyter=False,
    )
    plain.print(grid)
    lines = [line.rstrip() for line in buffer.getvalue().splitlines()]
    return "\n".join([*filter(None, lines), *notes]) + "\n"


def _widths(rows: list[list[str]], total: int, left: int) -> list[int]:
    """Characters for each column: as wide as its texts, else broken between words, then names inside of them too."""
    columns = list(zip(*rows))
    widths = [max(map(cell_len, column)) for column in columns]
    words = [max((cell_len(word) for cell in column for word in cell.split()), default=1) for column in columns]
    names = [min(word, NAME) if place < left else word for place, word in enumerate(words)]
    for least in (words, names):
        while sum(widths) > total - 2 * len(columns) - 1 and any(map(int.__gt__, widths, least)):
            widest = max(range(len(widths)), key=lambda place: (widths[place] > least[place], widths[place]))
            widths[widest] -= 1
    return widths


def _markdown(header: list[str], rows: list[list[str]], notes: list[str], left: int) -> str:
    def line(cells: list[str]) -> str:
        return f"| {' | '.join(map(_one_cell, cells))} |"

    rule = f"|{'|'.join(':--' if place < left else '--:' for place in range(len(header)))}|"
    paragraphs = [f"\n{_plain(note)}" for note in notes]
    return "\n".join([line(header), rule, *map(line, rows), *paragraphs]) + "\n"


def _one_cell(text: str) -> str:
    """A cell that neither ends its column nor becomes markup."""
    return _plain(" ".join(text.split())).replace("|", "\\|")


def _plain(text: str) -> str:
    """A text in Markdown that is neither a tag nor a link or a picture from elsewhere."""
    return html.escape(text.replace("\\", "\\\\"), quote=False).replace("](", "]\\(")


def _csv(header: list[str], rows: list[list[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([[_no_formula(cell) for cell in row] for row in (header, *rows)])
    return buffer.getvalue()


def _no_formula(cell: str) -> str:
    """A cell that a spreadsheet takes as text or as a number, never as something to work out."""
    try:
        float(cell)
    except ValueError:
        return f"'{cell}" if cell.lstrip().startswith(tuple("=+-@＝＋－＠")) else cell
    return cell


def _html(header: list[str], rows: list[list[str]], notes: list[str], left: int) -> str:
    def line(tag: str, cells: list[str]) -> str:
        style = ("", ' style="text-align: right"')
        inner = "".join(f"<{tag}{style[n >= left]}>{html.escape(cell)}</{tag}>" for n, cell in enumerate(cells))
        return f"<tr>{inner}</tr>"

    body = "\n".join(line("td", row) for row in rows)
    under = "\n".join(f"<p>{html.escape(note)}</p>" for note in notes)
    return f"<table>\n<thead>{line('th', header)}</thead>\n<tbody>\n{body}\n</tbody>\n</table>\n{under}\n"
