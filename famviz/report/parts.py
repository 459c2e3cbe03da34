"""Parts of a report as markup: what is not markup already is escaped."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from PIL import Image

from famkd.errors import as_sentence, inert
from famviz.explorer.base import Explorer
from famviz.figures import style

HERE = Path(__file__).parent
TEMPLATES = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True)
TEMPLATES.filters["inert"] = inert
CSS_PIXELS = 96  # to the inch


def part(name: str, *values: Any) -> Markup:
    """A macro of parts.html."""
    macros = TEMPLATES.get_template("parts.html").module
    return getattr(macros, name)(*values)


def together(parts: Sequence[Markup]) -> Markup:
    """Parts one after the other."""
    return Markup("").join(parts)


def beside(parts: Sequence[Markup]) -> Markup:
    """Parts side by side where the page is wide enough; a single one as it is."""
    return part("beside", parts) if len(parts) > 1 else together(parts)


def figure(thing: Any, words: str) -> Markup:
    """A figure as an inline picture, with a description for screen readers."""
    width = round(CSS_PIXELS * style.figure_of(thing).get_figwidth())
    return part("picture", _coded(style.to_bytes(thing, "png")), width, words)


def widget(explorer: Explorer, fragment: str, words: str, still: bool = True) -> Markup:
    """A widget of the page, and in print its picture in place of the canvas; closes the widget.

    Args:
        still: whether there is a picture; without one the section has a figure that shows the same.
    """
    try:
        picture = part("picture", _coded(explorer.to_png()), 0, words) if still else Markup("")
    finally:
        explorer.close()
    return part("live", Markup(fragment), picture)


def why(error: Exception) -> str:
    """Why something is left out: a sentence without control characters."""
    return inert(as_sentence(error))


def _coded(png: bytes) -> str:
    """A picture as base64, in lossless WebP, which takes about half the bytes of a PNG."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(buffer, "WEBP", lossless=True)
    return base64.b64encode(buffer.getvalue()).decode()
