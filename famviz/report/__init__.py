"""One page that tells a run whole: filters to explore, curves, differences, evidence, recipe, machine; no network."""

import base64
import html
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from famkd.errors import UserError, inert
from famkd.run.directory import leading
from famviz import figures as plots
from famviz.figures import style
from famviz.load import LoadedRun, Source, open_runs

HERE = Path(__file__).parent
EXPLORER = HERE.parent / "explorer"
BUDGET = 4 << 20  # bytes of filters in the page, a third more when written as text


def write_report(runs: Source | LoadedRun | Sequence[Source | LoadedRun], path: str | Path = "report.html") -> Path:
    """Write the report of one run, or of several side by side, the first in front; returns its path.

    Errors: UserError where a run cannot be opened or the page not be written.
    """
    opened = open_runs(list(runs) if isinstance(runs, list | tuple) else [runs])
    body = "".join(
        f"<section><h2>{title}</h2><p>{words}</p>{_made(make, opened)}</section>\n"
        for title, (make, words) in SECTIONS.items()
    )
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = page("famviz: " + ", ".join(run.name for run in opened), body)
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror or error}.") from error
    return path


def page(title: str, body: str) -> str:
    """A self-contained page around a body; the title is escaped, the body is taken as HTML."""
    from famviz.explorer.widget import module

    css = (EXPLORER / "explorer.css").read_text() + (HERE / "report.css").read_text()
    script = module().replace("export default", "const explorer =") + (EXPLORER / "page.js").read_text()
    title = html.escape(title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">\n'
        f"<style>{css}</style></head>\n<body><h1>{title}</h1>\n{body}\n"
        f'<script type="module">\n{script}</script></body></html>\n'
    )


def explorer_fragment(traits: dict, buffers: dict[str, dict[str, bytes]]) -> str:
    """A mount point and its data: JSON that no value can break out of, bytes as base64."""
    coded = {name: {k: base64.b64encode(v).decode() for k, v in held.items()} for name, held in buffers.items()}
    text = json.dumps({"traits": traits, "buffers": coded}).replace("<", "\\u003c")
    return f'<div class="famviz-mount"><script type="application/json">{text}</script></div>'


def filters_section(runs: list[LoadedRun]) -> str:
    """The explorer on the first run that holds filters, the others to compare it with."""
    holding = [run for run in runs if run.filters]
    if not holding:
        return "<p>No run here holds a frequency filter.</p>"
    from famviz.explorer.widget import FilterExplorer

    without = [html.escape(run.name) for run in runs if not run.filters]
    note = f"<p>Without frequency filters: {', '.join(without)}.</p>" if without else ""
    explorer = FilterExplorer(holding)
    try:
        return note + explorer.to_fragment(BUDGET) + "".join(_sheet(each) for each in holding[0].filters)
    finally:
        explorer.close()


def curves_section(runs: list[LoadedRun]) -> str:
    """Losses and accuracy of all runs in one picture, then each run's last and best figures."""
    trained = [run for run in runs if run.run and run.run.metrics()]
    if not trained:
        return "<p>No training log: a bare checkpoint, or no epoch done yet.</p>"
    rows = []
    for run in trained:
        metrics = run.run.metrics()
        what = leading(metrics[-1])
        scores = [row[what] for row in metrics]
        best = f"{scores[-1]:.2f}", f"{max(scores):.2f}"
        seconds = sum(row["seconds"] for row in run.run.timing())
        rows.append((run.name, str(len(metrics)), *best, f"{seconds:.0f}"))
    what = what.replace("top1", "top-1")
    header = ("run", "epochs", f"last {what} %", f"best {what} %", "s")
    names = ", ".join(run.name for run in trained)
    words = f"Two diagrams over epochs for {names}: training losses on a logarithmic scale, {what} on the test set."
    return svg(plots.training_curves(trained), words) + _table(header, rows)


def differences_section(runs: list[LoadedRun]) -> str:
    """Amplitude spectra of student and teacher, where data and weights are at hand."""
    words = "For each stage of {}: every network's amplitude spectrum, its difference from the teacher, both as curves."
    return _from_networks(runs, "amplitude", "differences_figure", words)


def effect_section(runs: list[LoadedRun]) -> str:
    """What the filters of each run do to real features, where data and weights are at hand."""
    held = [run for run in runs if run.filters]
    if not held:
        return "<p>No run here holds a frequency filter.</p>"
    words = "For each level of {}: spectra of what enters, of each branch and of what leaves, the gain, and the shares."
    return _from_networks(held, "effect", "effect_figure", words)


def cam_section(runs: list[LoadedRun]) -> str:
    """Class activation maps, where data and weights are at hand."""
    words = "Test images, one a row, and beside each the class activation map of every network of {}."
    return _from_networks(runs, "cam", "grid_figure", words)


def recipe_section(runs: list[LoadedRun]) -> str:
    """Each run's resolved recipe, as saved."""
    texts = [(run.name, (run.run.path / "recipe.yaml").read_text()) for run in runs if run.run]
    return "".join(_details(name, text) for name, text in texts) or "<p>A bare checkpoint names no recipe.</p>"


def machine_section(runs: list[LoadedRun]) -> str:
    """Where each run was made, as saved."""
    parts = []
    for run in runs:
        if run.run and (run.run.path / "machine.json").is_file():
            rows = [(key, _fact(key, value)) for key, value in run.run.machine.items()]
            parts.append(f"<h3>{html.escape(run.name)}</h3>" + _table((), rows))
    return "".join(parts) or "<p>Not recorded.</p>"


def svg(thing, words: str) -> str:
    """A figure as inline SVG, named for those who do not see it."""
    text = style.to_bytes(thing, "svg").decode()
    name = f'<svg role="img" aria-label="{html.escape(inert(words))}" '
    return f'<div class="figure">{name}{text[text.index("<svg") + len("<svg ") :]}</div>'


def png(thing, words: str) -> str:
    """A figure as an inline picture, for what would be thousands of marks in SVG."""
    data = base64.b64encode(style.to_bytes(thing, "png")).decode()
    width = round(96 * style.figure_of(thing).get_figwidth())  # as large as SVG would draw it
    alt = html.escape(inert(words))
    return f'<div class="figure"><img width="{width}" alt="{alt}" src="data:image/png;base64,{data}"></div>'


SECTIONS = {
    "Filters": (
        filters_section,
        "Each filter takes one input channel to one output channel; the map of energies chooses one, by click or arrow "
        "keys, and starts at the strongest. Look for directions and bands in the amplitude (DC is in the middle, the "
        "high-pass is outlined in red): a filter that is flat or noisy prefers no frequency.",
    ),
    "Curves": (
        curves_section,
        "Training losses and what was measured on the test set, after each epoch. Compare runs by their last figure: "
        "the best one was picked by the test set itself.",
    ),
    "How amplitudes differ": (
        differences_section,
        "How strong each frequency is in every stage, averaged over test images, and how far each network lies above "
        "(red) or below (blue) its teacher. Look whether the student with the method comes nearer to zero than the "
        "student alone, by more than the bands, which are 95 % bootstrap intervals over images.",
    ),
    "What filters do to features": (
        effect_section,
        "What enters each level of the method, what its branches make of it, and what is left to the teacher, on real "
        "features. Look which branch carries the energy here: on white input, as in the explorer, it may be the other.",
    ),
    "Where networks look": (
        cam_section,
        "Where in a test image the evidence for a class comes from, by network. Look where student and teacher "
        "disagree; that maps are alike does not show that a student is better.",
    ),
    "Recipe": (recipe_section, "Every setting as it was resolved; <code>famkd train</code> takes such a file back."),
    "Machine": (machine_section, "Where and with what each run was made."),
}


def _made(make: Callable[[list[LoadedRun]], str], runs: list[LoadedRun]) -> str:
    """A section, or in words why a damaged run has none."""
    try:
        return make(runs)
    except (Exception, SystemExit) as error:  # a changed file can fail in any way, a changed recipe ends the process
        return f"<p>{html.escape(_why(error))}</p>"


def _why(error: BaseException) -> str:
    return inert(f"left out, {' '.join(str(error).split())[:300]}")


def _sheet(each) -> str:
    words = f"Amplitude spectra of the strongest filters of {each.title}, the strongest first, on one scale."
    picture = png(plots.contact_sheet(each), words)
    return f"<details><summary>Strongest filters, {html.escape(each.title)}</summary>{picture}</details>"


def _fact(key: str, value: object) -> str:
    """A fact about the machine; of a notebook, the command is its kernel's and says nothing."""
    if key == "command" and "ipykernel" in str(value):
        return "a notebook"
    return "unknown" if value is None else str(value)


def _from_networks(runs: list[LoadedRun], module: str, function: str, words: str) -> str:
    """Figures that need the run's data and weights, described in words; a sentence where these are not at hand."""
    from importlib import import_module

    parts, trained = [], [run for run in runs if run.run]
    for run in [run for run in trained if run.run.recipe.method_names] or trained:
        try:
            figure = getattr(import_module(f"famviz.figures.{module}"), function)(run.run)
            parts.append(f"<h3>{html.escape(run.name)}</h3>{png(figure, words.replace('{}', run.name))}")
        except (Exception, SystemExit) as error:  # whatever a missing file, a moved data set or an odd network raises
            parts.append(f"<p>{html.escape(f'{run.name}: {_why(error)}')}</p>")
    return "".join(parts) or "<p>Left out: a bare checkpoint comes without networks and data.</p>"


def _details(name: str, text: str) -> str:
    return f"<details><summary>{html.escape(name)}</summary><pre>{html.escape(_lines(text))}</pre></details>"


def _lines(text: str) -> str:
    return "\n".join(map(inert, text.split("\n")))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells, tag):
        return "<tr>" + "".join(f"<{tag}>{html.escape(inert(cell))}</{tag}>" for cell in cells) + "</tr>"

    lines = [line(heads, "th")] * bool(heads) + [line(row, "td") for row in rows]
    return f'<table class="plain{"" if heads else " facts"}">{"".join(lines)}</table>'
