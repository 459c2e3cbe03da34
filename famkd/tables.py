"""Write a table as text, Markdown, CSV, HTML or JSON."""

import csv
import html
import io
import json
import math
import shutil
import sys
from collections.abc import Sequence
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from famkd.errors import inert

Format = Literal["table", "markdown", "csv", "html", "json"]
Rows = Sequence[Sequence[str]]

MISSING = "–"  # a cell without a value
WIDE = 200  # characters of a line that does not go to a terminal
BREAKABLE = 12  # a narrow terminal breaks words of the left columns that are longer than this


def write_table(format: Format, header: Sequence[str], rows: Rows, notes: Sequence[str] = (), left: int = 1) -> str:
    """A table with notes under it; CSV and JSON leave the notes out, since they are not data.

    Control characters are written as escape sequences, and markup in a cell as text.

    Args:
        left: the first `left` columns are aligned left, the others right.
    """
    header = [inert(cell) for cell in header]
    rows = [[inert(cell) for cell in row] for row in rows]
    notes = [inert(note) for note in notes]
    if format == "csv":
        return _csv(header, rows)
    if format == "json":
        return _json(header, rows)
    if format == "markdown":
        return _markdown(header, rows, notes, left)
    if format == "html":
        return _html(header, rows, notes, left)
    return _text(header, rows, notes, left)


def rich_table(
    title: str, header: Sequence[str], rows: Rows, left: int = 1, widths: Sequence[int] | None = None
) -> Table:
    """A table for `console.print`, which chooses the widths of the columns unless they are given."""
    grid = Table(title=inert(title) or None, title_justify="left")
    for place, name in enumerate(header):
        justify = "left" if place < left else "right"
        width = widths[place] if widths else None
        grid.add_column(inert(name), justify=justify, overflow="fold", width=width)
    for row in rows:
        grid.add_row(*map(inert, row))
    return grid


def _text(header: Sequence[str], rows: Rows, notes: list[str], left: int) -> str:
    total = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDE
    frame = 2 * len(header) + 1  # characters that are in no column
    widths = _widths([header, *rows], total - frame, left)
    grid = rich_table("", header, rows, left, widths)
    grid.box, grid.padding = box.SIMPLE, (0, 1, 0, 0)
    buffer = io.StringIO()
    console = Console(
        file=buffer,
        width=sum(widths) + frame,
        highlight=False,
        markup=False,
        emoji=False,
        color_system=None,
        force_jupyter=False,
    )
    console.print(grid)
    lines = [line.rstrip() for line in buffer.getvalue().splitlines()]
    table = [line for line in lines if line]
    return "\n".join([*table, *notes]) + "\n"


def _widths(rows: Rows, room: int, left: int) -> list[int]:
    """A width for each column: that of its longest cell, or less on a narrow terminal.

    Cells are broken between words first, then long words of the left columns. rich would break words of any column.
    """
    columns = list(zip(*rows))
    cells = [max(cell_len(cell) for cell in column) for column in columns]
    words = [_longest_word(column) for column in columns]
    parts = [min(word, BREAKABLE) for word in words[:left]] + words[left:]
    return _narrowed(_narrowed(cells, words, room), parts, room)


def _longest_word(cells: Sequence[str]) -> int:
    return max((cell_len(word) for cell in cells for word in cell.split()), default=1)


def _narrowed(widths: list[int], least: list[int], room: int) -> list[int]:
    """Widths with the widest columns made narrower, none below its least width, until all columns fit."""
    widths = list(widths)
    while sum(widths) > room:
        shrinkable = [place for place, width in enumerate(widths) if width > least[place]]
        if not shrinkable:
            break
        widest = max(shrinkable, key=lambda place: widths[place])
        widths[widest] -= 1
    return widths


def _markdown(header: Sequence[str], rows: Rows, notes: list[str], left: int) -> str:
    rule = [":--" if place < left else "--:" for place in range(len(header))]
    lines = [_markdown_row(header), f"|{'|'.join(rule)}|"]
    lines += [_markdown_row(row) for row in rows]
    lines += [f"\n{_markdown_text(note)}" for note in notes]
    return "\n".join(lines) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    escaped = [_markdown_text(cell).replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def _markdown_text(text: str) -> str:
    """Escape what Markdown would read as a tag, a link or an image."""
    escaped = html.escape(text.replace("\\", "\\\\"), quote=False)
    return escaped.replace("](", "]\\(")


def _csv(header: Sequence[str], rows: Rows) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([header, *rows])
    return buffer.getvalue()


def _json(header: Sequence[str], rows: Rows) -> str:
    """A list with an object for each row. Cells that are numbers become numbers, empty ones null."""
    objects = [{name: _value(cell) for name, cell in zip(header, row)} for row in rows]
    return json.dumps(objects, indent=1, ensure_ascii=False) + "\n"


def _value(cell: str) -> str | float | int | None:
    try:
        number = float(cell)
    except ValueError:
        return cell or None
    if not math.isfinite(number):  # JSON has no such numbers
        return None
    return int(cell) if cell.lstrip("+-").isdecimal() else number


def _html(header: Sequence[str], rows: Rows, notes: list[str], left: int) -> str:
    head = _html_row("th", header, left)
    body = "\n".join(_html_row("td", row, left) for row in rows)
    paragraphs = "\n".join(f"<p>{html.escape(note)}</p>" for note in notes)
    return f"<table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table>\n{paragraphs}\n"


def _html_row(tag: str, cells: Sequence[str], left: int) -> str:
    styles = ["" if place < left else ' style="text-align: right"' for place in range(len(cells))]
    inner = "".join(f"<{tag}{style}>{html.escape(cell)}</{tag}>" for style, cell in zip(styles, cells))
    return f"<tr>{inner}</tr>"
