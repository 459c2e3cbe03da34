"""A hook of MkDocs: adds the pages that are written from the code, the notebooks, and the files beside docs/."""

import base64
import itertools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import jupytext  # noqa: E402
import licences  # noqa: E402
import nbformat  # noqa: E402
import reference  # noqa: E402
from latex2mathml.converter import convert  # noqa: E402
from mkdocs.structure.files import File, Files  # noqa: E402
from run_notebooks import EXECUTED, widget_page  # noqa: E402

COPIED = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
RUN = ROOT / "notebooks" / "runs" / "cifar100" / "resnet56-resnet20" / "fam_review-seed0"
PICTURE = {"image/png": "png", "image/svg+xml": "svg"}
WIDGET_FRAME = """<iframe class="widget" title="Widget" loading="lazy" src="{0}"></iframe>
<p><a href="{0}">The widget in a page of its own</a></p>"""
MOST_TEXT = 40_000  # characters of one output


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages to those of docs/."""
    for path, text in generated().items():
        content = text if isinstance(text, bytes) else text.encode()
        files.append(File.generated(config, path, content=content))
    return files


def generated() -> dict[str, str | bytes]:
    """Every page and file that is not in docs/, by its path in the site."""
    made: dict[str, str | bytes] = dict(reference.pages())
    made["licences.md"] = licences.page()
    made |= {target: _linked(ROOT / source) for source, target in COPIED.items()}
    made |= {f"examples/{path.name}": path.read_bytes() for path in sorted((ROOT / "examples").glob("*.py"))}
    for source in sorted((ROOT / "notebooks").glob("[0-9]*.py")):
        made |= notebook(source)
    made["explorer.html"] = explorer()
    return made


def explorer() -> bytes:
    """The explorer on the run that comes with the notebooks, as a page without a kernel."""
    import tempfile

    import famviz

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "explorer.html"
        famviz.FilterExplorer(str(RUN)).to_html(path, budget=4 << 20)
        return path.read_bytes()


def _linked(path: Path) -> str:
    """A document of the root, with its links to docs/ as links within the site."""
    return re.sub(r"\]\(docs/", "](", path.read_text())


def notebook(source: Path) -> dict[str, str | bytes]:
    """The page of a notebook and its pictures: with outputs where it has been executed, else its text and code."""
    executed = EXECUTED / f"{source.stem}.ipynb"
    book = nbformat.read(executed, 4) if executed.exists() else jupytext.reads(source.read_text(), "py:percent")
    page, files = f"notebooks/{source.stem}.md", {}
    parts = []
    for number, cell in enumerate(book.cells):
        if cell.cell_type == "markdown":
            text = cell.source.replace("](../docs/", "](../")  # pages of the site lie beside notebooks/
            parts.append(_with_formulas(text))
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for place, output in _joined(cell.get("outputs", [])):
            page_of_widget = EXECUTED / widget_page(source.stem, number, place)
            if page_of_widget.exists():
                files[f"notebooks/{page_of_widget.name}"] = page_of_widget.read_bytes()
                parts.append(WIDGET_FRAME.format(page_of_widget.name))
                continue
            shown, name, data = _output(output, f"{source.stem}-{number}-{place}")
            parts.append(shown)
            if data:
                files[f"notebooks/{name}"] = data
    note = "" if executed.exists() else NO_OUTPUTS
    title, *rest = parts
    return {page: "\n\n".join([title, note, *rest]), **files}


def _with_formulas(text: str) -> str:
    """Markdown whose formulas, between dollars, are MathML, which browsers draw without a script."""

    def written(found: re.Match[str]) -> str:
        if found[1]:
            return f'<div class="output" markdown="0">{convert(found[1], display="block")}</div>'
        return f"<span>{convert(found[2])}</span>"  # without the span a line that begins with it is not Markdown

    return re.sub(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", written, text, flags=re.DOTALL)


NO_OUTPUTS = """!!! note
    This copy has no outputs. `make docs-notebooks` runs the notebooks, and `make docs` then shows what they put out."""


def _joined(outputs: list[Any]) -> Iterator[tuple[int, Any]]:
    """Outputs with the place of each. What is printed in many messages, line by line, is one output."""
    for stream, group in itertools.groupby(enumerate(outputs), lambda each: each[1].get("name")):
        numbered = list(group)
        if stream is None:
            yield from numbered
        else:
            text = "".join(output.text for _, output in numbered)
            yield numbered[0][0], nbformat.v4.new_output("stream", name=stream, text=text)


def _output(output: Any, stem: str) -> tuple[str, str, bytes]:
    """An output as Markdown, and the name and content of its picture if it is one."""
    if output.output_type == "stream":
        return _text(output.text), "", b""
    data = output.get("data", {})
    for kind, suffix in PICTURE.items():
        if kind in data:
            name, held = f"{stem}.{suffix}", data[kind]
            content = base64.b64decode(held) if suffix == "png" else held.encode()
            return f"![Output]({name})", name, content
    if "text/html" in data and "<script" not in data["text/html"]:
        return f'<div class="output" markdown="0">{data["text/html"]}</div>', "", b""
    return _text(data.get("text/plain", "")), "", b""


def _text(text: str) -> str:
    """Text in a box of its own height or of a few lines that scroll. Sentences are wrapped, tables are not."""
    plain = re.sub(r"\x1b\[[\d;]*m", "", text.replace("\r\n", "\n")).rstrip()
    cut = plain if len(plain) <= MOST_TEXT else f"{plain[:MOST_TEXT]}\n..."
    aligned = re.search(r"[─━│┃]|\S {2,}\S", cut)
    return f"``` {{ .text .printed{'' if aligned else ' .wrapped'} }}\n{cut}\n```" if cut else ""
