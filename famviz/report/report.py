"""One page about runs: filters to explore, curves, differences, activation maps, recipe, machine; without a network."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from famkd.errors import UserError, inert
from famkd.run.directory import Run
from famkd.run.scores import result
from famviz import figures as plots
from famviz.explorer.amplitude import AmplitudeExplorer
from famviz.explorer.dashboard import Dashboard
from famviz.explorer.page import page
from famviz.explorer.widget import PAGE_BUDGET, FilterExplorer
from famviz.figures import style
from famviz.filter import Filter
from famviz.load import LoadedRun, Source, open_all
from famviz.networks import MovedRun

HERE = Path(__file__).parent
TEMPLATES = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True)
TEMPLATES.filters["inert"] = inert
CSS_PIXELS = 96  # to the inch
SPECTRA_BUDGET = 2 << 20  # bytes of the amplitude explorer
SPECTRA_IMAGES = 100  # that its spectra are of


class Section(NamedTuple):
    """A section of the report: its title, what to look for in it, and the function that makes its content."""

    title: str
    words: str | Markup
    make: Callable[..., Markup]  # from the opened runs
    options: tuple[str, ...] = ()  # of write_report that it takes too


def write_report(
    runs: Source | LoadedRun | Sequence[Source | LoadedRun], path: str | Path = "report.html", *,
    root: str = "", teacher: str = "", images: int = 4,
) -> Path:  # fmt: skip
    """Write the report of one run, or of several, of which the first is shown first; returns its path.

    Args:
        root: where the data of the runs is, if it was moved since the training.
        teacher: where the weights of their teacher are, if they were moved.
        images: number of test images whose activation maps are shown.

    Errors: UserError if a run cannot be opened or the page cannot be written.
    """
    opened = open_all(runs)
    if teacher:
        if not Path(teacher).exists():
            raise UserError(f"There is nothing at {teacher}: pass the weights of the teacher, or its run directory.")
        opened = [replace(each, run=MovedRun(each.run.path, teacher)) if each.run else each for each in opened]
    if root and not Path(root).is_dir():
        raise UserError(f"There is no folder {root}: pass the folder with the data of the runs.")
    given = {"root": root, "images": images}
    sections = []
    for section in SECTIONS:
        make = partial(section.make, **{name: given[name] for name in section.options})
        sections.append({"title": section.title, "words": section.words, "content": _content(make, opened)})
    body = TEMPLATES.get_template("report.html").render(sections=sections)
    title = "famviz: " + ", ".join(run.name for run in opened)
    text = page(title, body, (HERE / "report.css").read_text(encoding="utf-8"))
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror or error}.") from error
    return path


def filters_section(runs: list[LoadedRun]) -> Markup:
    """The explorer on the first run that holds filters, with the others to compare it with."""
    holding = [run for run in runs if run.filters]
    without = [run.name for run in runs if not run.filters]
    if not holding:
        return _part("note", "No run here holds a frequency filter.")
    explorer = FilterExplorer(holding)
    try:
        fragment = Markup(explorer.to_fragment(PAGE_BUDGET))
    finally:
        explorer.close()
    note = _part("note", f"Without frequency filters: {', '.join(without)}.") if without else Markup("")
    sheets = [_sheet(each) for each in holding[0].filters]
    return _joined([note, fragment, *sheets])


def curves_section(runs: list[LoadedRun]) -> Markup:
    """The dashboard of all runs, then the last and best figures of each run."""
    trained = [run for run in runs if run.metrics()]
    if not trained:
        return _part("note", "No training log: a bare checkpoint, or no epoch done yet.")
    rows = [_figures(run.name, run.run) for run in trained if run.run]
    heads = ("run", "epochs", "figure", "last, %", "best, %", "best epoch chosen on", "s")
    dashboard = Dashboard(trained)
    try:
        fragment = Markup(dashboard.to_fragment())
    finally:
        dashboard.close()
    return _joined([fragment, _part("table", heads, rows)])


def _figures(name: str, run: Run) -> tuple[str, ...]:
    """Name, epochs, last and best score, what the best epoch was chosen on, and seconds of a run."""
    found = result(run)
    seconds = sum(row["seconds"] for row in run.timing())
    best = "" if found.best is None else f"{found.best:.2f}"
    figure = found.figure.replace("top1", "top-1")
    return name, str(len(run.metrics())), figure, f"{found.last:.2f}", best, found.chosen_on, f"{seconds:.0f}"


def differences_section(runs: list[LoadedRun], root: str = "") -> Markup:
    """Amplitude spectra of student and teacher, if the data and the weights are there."""
    words = "For each stage of {}: every network's amplitude spectrum, its difference from the teacher, both as curves."
    figures = _from_networks(runs, "amplitude", "differences_figure", words, root=root)
    explorer = _spectra(runs, root)
    return _joined([explorer, _part("folded", "All stages in one picture", figures)]) if explorer else figures


def _spectra(runs: list[LoadedRun], root: str) -> Markup:
    """The amplitude explorer of the runs that share data and teacher with the first one; nothing where it fails."""
    taught = [run.run for run in runs if run.run and run.run.recipe.method_names]
    alike = [run for run in taught if _pair(run) == _pair(taught[0])]
    if not alike:
        return Markup("")
    try:
        explorer = AmplitudeExplorer(alike, SPECTRA_IMAGES, root=root)
        try:
            return Markup(explorer.to_fragment(budget=SPECTRA_BUDGET))
        finally:
            explorer.close()
    except Exception:  # whatever fails here fails for the figures as well, and there the reason is printed
        return Markup("")


def _pair(run: Run) -> tuple[object, ...]:
    """What runs have in common whose networks can be compared on the same images."""
    recipe = run.recipe
    return recipe.task, recipe.data.name, recipe.teacher.model, recipe.teacher.weights


def effect_section(runs: list[LoadedRun], root: str = "") -> Markup:
    """What the filters of each run do to real features, if the data and the weights are there."""
    holding = [run for run in runs if run.filters]
    if not holding:
        return _part("note", "No run here holds a frequency filter.")
    words = "For each level of {}: spectra of what enters, of each branch and of what leaves, the gain, and the shares."
    return _from_networks(holding, "effect", "effect_figure", words, root=root)


def cam_section(runs: list[LoadedRun], root: str = "", images: int = 4) -> Markup:
    """Class activation maps, if the data and the weights are there."""
    words = "Test images, one in each row, and next to each the class activation map of every network of {}."
    return _from_networks(runs, "maps", "maps_figure", words, root=root, images=images)


def recipe_section(runs: list[LoadedRun]) -> Markup:
    """The resolved recipe of each run, as saved."""
    listings = []
    for run in runs:
        if run.run:
            text = (run.run.path / "recipe.yaml").read_text(encoding="utf-8")
            listings.append(_part("listing", run.name, text.split("\n")))
    return _joined(listings) or _part("note", "A bare checkpoint has no recipe.")


def machine_section(runs: list[LoadedRun]) -> Markup:
    """The machine and the versions of each run, as saved."""
    parts = []
    for run in runs:
        if run.run and (run.run.path / "machine.json").is_file():
            rows = [(key, _fact(key, value)) for key, value in run.run.machine.items()]
            parts += [_part("heading", run.name), _part("table", (), rows)]
    return _joined(parts) or _part("note", "Not recorded.")


def png(thing: Any, words: str) -> Markup:
    """A figure as an inline picture, with a description for screen readers."""
    data = base64.b64encode(style.to_bytes(thing, "png")).decode()
    width = round(CSS_PIXELS * style.figure_of(thing).get_figwidth())
    return _part("png", data, width, words)


SECTIONS = (
    Section(
        "Filters",
        "Each filter maps one input channel to one output channel. Choose one on the map of energies by a click or the "
        "arrow keys; the strongest is shown first. Look for directions and bands in the amplitude (DC is in the "
        "middle, the high-pass is outlined in red): a flat or noisy filter prefers no frequency.",
        filters_section,
    ),
    Section(
        "Curves",
        "Training losses, speed, and figures measured after each epoch: on held-out images where the run has some "
        "(val_), otherwise on the test set. Point at a diagram for the values of an epoch, and click to keep it; the "
        "filters below are shown as they were then. A best epoch that was chosen on the test set flatters the run: "
        "compare such runs by their last figure.",
        curves_section,
    ),
    Section(
        "How amplitudes differ",
        "Amplitude of each frequency in every stage, averaged over test images, and how far each network is above "
        "(red) or below (blue) its teacher. Drag over a spectrum or a curve to see the share of these frequencies in "
        "each network, and images and maps that hold nothing else. Look whether the student with the method is nearer "
        "to zero than the student alone by more than the bands, which are 95 % bootstrap intervals over images.",
        differences_section,
        ("root",),
    ),
    Section(
        "What filters do to features",
        "What enters each level of the method, the output of its branches, and what is left to the teacher, on real "
        "features. Look which branch carries the energy here: on white input, as in the explorer, it may be the other.",
        effect_section,
        ("root",),
    ),
    Section(
        "Where networks look",
        "Where in a test image each network finds evidence for a class. Look where student and teacher disagree. "
        "Similar maps do not show that a student is better.",
        cam_section,
        ("root", "images"),
    ),
    Section(
        "Recipe",
        Markup("Every setting as it was resolved; <code>famkd train</code> accepts this file."),
        recipe_section,
    ),
    Section("Machine", "The machine and the versions that each run was trained with.", machine_section),
)


def _part(name: str, *values: Any) -> Markup:
    """A macro of parts.html."""
    macros = TEMPLATES.get_template("parts.html").module
    return getattr(macros, name)(*values)


def _joined(parts: Sequence[Markup]) -> Markup:
    return Markup("").join(parts)


def _content(make: Callable[[list[LoadedRun]], Markup], runs: list[LoadedRun]) -> Markup:
    """The content of a section, or one sentence why there is none."""
    try:
        return make(runs)
    except Exception as error:  # a damaged or edited file can fail in any way
        return _part("note", _why(error))


def _why(error: Exception) -> str:
    reason = " ".join(str(error).split())[:300]
    return inert(f"left out, {reason}")


def _sheet(each: Filter) -> Markup:
    """The strongest filters of a level, folded, with its options."""
    words = f"Amplitude spectra of the strongest filters of {each.title}, the strongest first, on one scale."
    content = [png(plots.contact_sheet(each), words)]
    if each.caption:
        content.insert(0, _part("note", f"Options of this level: {each.caption}."))
    return _part("folded", f"Strongest filters, {each.title}", _joined(content))


def _fact(key: str, value: object) -> str:
    """A fact about the machine. The command of a notebook is that of its kernel, which says nothing."""
    if key == "command" and "ipykernel" in str(value):
        return "a notebook"
    return "unknown" if value is None else str(value)


def _from_networks(runs: list[LoadedRun], module: str, function: str, words: str, **options: Any) -> Markup:
    """Figures that need a run's data and weights, described in words; one sentence for a run without these."""
    draw = getattr(import_module(f"famviz.figures.{module}"), function)
    trained = [run for run in runs if run.run]
    taught = [run for run in trained if run.run and run.run.recipe.method_names]
    parts = []
    for run in taught or trained:
        try:
            figure = png(draw(run.run, **options), words.replace("{}", run.name))
            parts += [_part("heading", run.name), figure]
        except Exception as error:  # whatever a missing file, a moved data set or an unknown network raises
            parts.append(_part("note", f"{run.name}: {_why(error)}"))
    return _joined(parts) or _part("note", "Left out: a bare checkpoint comes without networks and data.")
