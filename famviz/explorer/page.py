"""Widgets in a page of its own: their ES modules, their data as JSON, and the HTML around them."""

import base64
import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STATIC = Path(__file__).parent / "static"
WIDGETS = {  # name: its module and its style, without their suffix
    "filters": "filters/filters",
    "cams": "cams/cams",
    "amplitude": "amplitude/amplitude",
    "dashboard": "dashboard/dashboard",
}
IMPORT = re.compile(r'^import \{([^}]*)\} from "([^"]+)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function\*?|const|class) (\w+))", re.MULTILINE)
Message = tuple[dict[str, Any], list[bytes]]  # what a kernel sends to a widget: content and buffers


def module(widget: str) -> str:
    """A widget as one ES module without imports, so that a notebook and a saved page can both hold it."""
    return bundle(STATIC / f"{WIDGETS[widget]}.js")


def css(widget: str) -> str:
    """The style of a widget."""
    files = ("shared/shared.css", f"{WIDGETS[widget]}.css")
    return "".join((STATIC / file).read_text(encoding="utf-8") for file in files)


def bundle(entry: Path) -> str:
    """A module and all that it imports as one text; each imported module keeps a scope of its own."""
    order: list[Path] = []

    def visit(path: Path) -> None:
        for _, name in IMPORT.findall(path.read_text(encoding="utf-8")):
            target = (path.parent / name).resolve()
            if target not in order:
                visit(target)
        order.append(path)

    visit(entry.resolve())
    names = {path: f"module{number}" for number, path in enumerate(order)}
    return "".join(_scoped(path, names) for path in order[:-1]) + _linked(order[-1], names)


def _scoped(path: Path, names: dict[Path, str]) -> str:
    """A module as a function that returns what it exports."""
    text = _linked(path, names)
    exported = ", ".join(EXPORT.findall(text))
    return f"const {names[path]} = (() => {{\n{EXPORT.sub('', text)}return {{ {exported} }};\n}})();\n"


def _linked(path: Path, names: dict[Path, str]) -> str:
    """The text of a module, in which what other modules returned stands in place of the imports."""

    def link(found: re.Match) -> str:
        target = (path.parent / found[2]).resolve()
        return f"const {{{found[1].replace(' as ', ': ')}}} = {names[target]};\n"

    return IMPORT.sub(link, path.read_text(encoding="utf-8"))


def page(title: str, body: str, style: str = "") -> str:
    """A self-contained page around a body. The title is escaped; the body is taken as HTML."""
    shown = [name for name in WIDGETS if f'data-widget="{name}"' in body]
    parts = [
        STATIC / "shared" / "shared.css",
        *(STATIC / f"{WIDGETS[name]}.css" for name in shown),
        STATIC / "page.css",
    ]
    styles = "".join(part.read_text(encoding="utf-8") for part in parts) + style
    title = html.escape(title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">\n'
        f"<style>{styles}</style></head>\n<body><h1>{title}</h1>\n{body}\n"
        f'<script type="module">\n{script(shown)}</script></body></html>\n'
    )


def script(shown: Sequence[str]) -> str:
    """The module of a page: the widgets by name, and what starts them."""
    parts = []
    for name in shown:
        text = module(name).replace("export default", "return")
        parts.append(f"widgets.{name} = (() => {{\n{text}}})();\n")
    return "const widgets = {};\n" + "".join(parts) + (STATIC / "page.js").read_text(encoding="utf-8")


def base64_text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def fragment(
    widget: str, traits: dict[str, Any], buffers: dict[str, dict[str, bytes]], messages: Sequence[Message] = ()
) -> str:
    """The place of a widget in a page, with its data: JSON that no value can break out of, bytes as base64."""
    coded = {name: {key: base64_text(value) for key, value in held.items()} for name, held in buffers.items()}
    sent = [[content, [base64_text(part) for part in parts]] for content, parts in messages]
    text = json.dumps({"traits": traits, "buffers": coded, "messages": sent}).replace("<", "\\u003c")
    return f'<div class="famviz-mount" data-widget="{widget}"><script type="application/json">{text}</script></div>'
