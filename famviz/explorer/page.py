"""The explorer as a page of its own: its ES module, its data as JSON, and the HTML around them."""

import base64
import html
import json
from pathlib import Path

HERE = Path(__file__).parent
# In this order: each file uses the functions of those before it.
SCRIPTS = ("spectrum.js", "drawing.js", "state.js", "controls.js", "views.js", "pointer.js", "explorer.js")


def module() -> str:
    """The explorer as one ES module without imports, so that a notebook and a saved page can both hold it."""
    return "".join((HERE / name).read_text() for name in SCRIPTS)


def page(title: str, body: str, css: str = "") -> str:
    """A self-contained page around a body. The title is escaped; the body is taken as HTML."""
    style = (HERE / "explorer.css").read_text() + (HERE / "page.css").read_text() + css
    script = module().replace("export default", "const explorer =") + (HERE / "page.js").read_text()
    title = html.escape(title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">\n'
        f"<style>{style}</style></head>\n<body><h1>{title}</h1>\n{body}\n"
        f'<script type="module">\n{script}</script></body></html>\n'
    )


def base64_text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def explorer_fragment(traits: dict, buffers: dict[str, dict[str, bytes]]) -> str:
    """The place of an explorer in a page, with its data: JSON that no value can break out of, bytes as base64."""
    coded = {name: {key: base64_text(value) for key, value in held.items()} for name, held in buffers.items()}
    text = json.dumps({"traits": traits, "buffers": coded}).replace("<", "\\u003c")
    return f'<div class="famviz-mount"><script type="application/json">{text}</script></div>'
