"""The sections of a report. Each raises an error, with the reason in words, where it has nothing to show."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from famkd.config.yaml_flags import flatten
from famkd.errors import UserError
from famkd.run.directory import Run
from famkd.run.scores import result
from famviz import figures as plots
from famviz.analysis.answers import figure_name
from famviz.explorer.cams import CamExplorer
from famviz.explorer.dashboard import Dashboard
from famviz.explorer.filters import FilterExplorer
from famviz.figures.amplitude import differences_figure
from famviz.figures.boxes import boxes_figure
from famviz.figures.cam import grid_figure
from famviz.figures.effect import effect_figure
from famviz.filter import Filter
from famviz.load import LoadedRun
from famviz.report.looked import IMAGES, Looked
from famviz.report.parts import beside, figure, part, together, why, widget

FILTERS, SPECTRA, MAPS, EPOCHS = 2 << 20, 2 << 20, 3 << 19, 1 << 18  # bytes of the widgets
SPECTRA_WORDS = "For each stage: every network's amplitude spectrum, its difference from the teacher, both as curves."
MAPS_WORDS = "Test images, one in each row, and next to each the class activation map of every network."
EFFECT_WORDS = (
    "For each level of {}: spectra of what enters, of each branch and of what leaves, the gain, and the shares."
)


class Section(NamedTuple):
    """A section of the report: its title, what to look for in it, and the function that makes its content."""

    name: str  # of its place in the page
    title: str
    words: str | Markup
    make: Callable[[list[LoadedRun], Looked, int], Markup]  # from the runs, their networks and a number of images


def filters_section(runs: list[LoadedRun], looked: Looked, images: int) -> Markup:
    """The explorer on the runs that hold filters, and the strongest filters of each level, runs side by side."""
    holding = [run for run in runs if run.filters]
    if not holding:
        raise UserError("No run here holds a frequency filter.")
    without = [run.name for run in runs if not run.filters]
    note = part("note", f"Without frequency filters: {', '.join(without)}.") if without else Markup("")
    explorer = FilterExplorer(holding)
    shown = widget(explorer, explorer.to_fragment(FILTERS), "The chosen filter in every view.")
    sheets = []
    for index in sorted({each.index for run in holding for each in run.filters}):
        having = [(run.name, each) for run in holding for each in run.filters if each.index == index]
        content = [_sheet(each, name if len(holding) > 1 else "") for name, each in having]
        sheets.append(part("folded", f"Strongest filters, {having[0][1].title}", beside(content)))
    return together([note, shown, *sheets])


def _sheet(each: Filter, run: str) -> Markup:
    """The strongest filters of a level with its options."""
    words = f"Amplitude spectra of the strongest filters of {each.title}, the strongest first, on one scale."
    parts = [part("heading", run)] if run else []
    if each.caption:
        parts.append(part("note", f"Options of this level: {each.caption}."))
    return together([*parts, figure(plots.contact_sheet(each), words)])


def curves_section(runs: list[LoadedRun], looked: Looked, images: int) -> Markup:
    """The dashboard of all runs, then the last and best figures of each run."""
    trained = [run for run in runs if run.metrics()]
    if not trained:
        raise UserError("No training log: a bare checkpoint, or no epoch done yet.")
    rows = [_figures(run.name, run.run) for run in trained if run.run]
    heads = ("run", "epochs", "figure", "last, %", "best, %", "best epoch chosen on", "s")
    dashboard = Dashboard(trained)
    shown = widget(dashboard, dashboard.to_fragment(EPOCHS), "Curves of the training, and the filters as they formed.")
    return together([shown, part("table", heads, rows)])


def _figures(name: str, run: Run) -> tuple[str, ...]:
    """Name, epochs, last and best score, what the best epoch was chosen on, and seconds of a run."""
    found = result(run)
    seconds = sum(row["seconds"] for row in run.timing())
    best = "" if found.best is None else f"{found.best:.2f}"
    epochs = str(len(run.metrics()))
    return name, epochs, figure_name(found.figure), f"{found.last:.2f}", best, found.chosen_on, f"{seconds:.0f}"


def differences_section(runs: list[LoadedRun], looked: Looked, images: int) -> Markup:
    """Amplitude spectra of student and teacher, if the data and the weights are there."""
    picture = figure(differences_figure(looked.stages), SPECTRA_WORDS)
    if looked.detects:
        return together([picture, not_shown(looked)])
    explorer = looked.amplitude
    shown = widget(explorer, explorer.to_fragment(budget=SPECTRA), SPECTRA_WORDS, still=False)
    return together([shown, part("folded", "All stages in one picture", picture), not_shown(looked)])


def effect_section(runs: list[LoadedRun], looked: Looked, images: int) -> Markup:
    """What the filters of each run do to real features, if the data and the weights are there; side by side."""
    holding = [run for run in runs if run.filters]
    if not holding:
        raise UserError("No run here holds a frequency filter.")
    parts, reasons = [], []
    for run in holding:
        heading = [part("heading", run.name)] if len(holding) > 1 else []
        try:
            picture = figure(effect_figure(run, root=looked.root), EFFECT_WORDS.replace("{}", run.name))
            parts.append(together([*heading, picture]))
        except Exception as error:  # whatever a missing file, a moved data set or an unknown network raises
            reasons.append(f"{run.name}: {why(error)}" if len(holding) > 1 else why(error))
    if not parts:
        raise UserError(" ".join(reasons))
    return together([beside(parts), *(part("note", reason) for reason in reasons)])


def cam_section(runs: list[LoadedRun], looked: Looked, images: int) -> Markup:
    """Class activation maps, if the data and the weights are there."""
    if looked.detects:
        pictures = [figure(boxes_figure(run, images, root=looked.root), MAPS_WORDS) for run in looked.runs]
        return together([beside(pictures), not_shown(looked)])
    explorer = CamExplorer(looked.comparison)
    shown = widget(explorer, explorer.to_fragment(budget=MAPS), MAPS_WORDS, still=False)
    count = min(images, len(looked.comparison))
    picture = figure(grid_figure(looked.comparison, count), MAPS_WORDS)
    folded = part("folded", f"The first {count} images in one picture", picture)
    return together([shown, folded, not_shown(looked)])


def not_shown(looked: Looked) -> Markup:
    """Which runs are not in a section, since the first one has other data or another teacher."""
    if not looked.others:
        return Markup("")
    names = ", ".join(f"{run.path.parent.name}/{run.path.name}" for run in looked.others)
    return part("note", f"Not shown here, since data or teacher are others than those of the first run: {names}.")


def recipe_section(runs: list[LoadedRun], looked: Looked, images: int) -> Markup:
    """Settings in which the runs differ, side by side, then the resolved recipe of each run, as saved."""
    having = [run for run in runs if run.run]
    if not having:
        raise UserError("A bare checkpoint has no recipe.")
    listings = []
    for run in having:
        assert run.run
        text = (run.run.path / "recipe.yaml").read_text(encoding="utf-8")
        listings.append(part("listing", run.name, text.split("\n")))
    return together([_table(having, _settings), beside(listings)] if len(having) > 1 else listings)


def _settings(run: LoadedRun) -> dict[str, Any]:
    assert run.run
    return flatten(run.run.recipe.to_dict())


def machine_section(runs: list[LoadedRun], looked: Looked, images: int) -> Markup:
    """The machine and the versions of each run, side by side, as saved."""
    having = [run for run in runs if run.run and (run.run.path / "machine.json").is_file()]
    if not having:
        raise UserError("Not recorded.")
    if len(having) == 1:
        return part("table", (), list(_facts(having[0]).items()))
    return _table(having, _facts, all_rows=True)


def _facts(run: LoadedRun) -> dict[str, Any]:
    """Facts about the machine. The command of a notebook is that of its kernel, which says nothing."""
    assert run.run
    facts = {}
    for key, value in run.run.machine.items():
        notebook = key == "command" and "ipykernel" in str(value)
        facts[key] = "a notebook" if notebook else "unknown" if value is None else str(value)
    return facts


def _table(runs: Sequence[LoadedRun], read: Callable[[LoadedRun], dict[str, Any]], all_rows: bool = False) -> Markup:
    """A column for each run, and a row for each fact, by default only those in which runs differ."""
    columns = [read(run) for run in runs]
    keys = dict.fromkeys(key for column in columns for key in column)
    rows = [(key, *(str(column.get(key, "")) for column in columns)) for key in keys]
    chosen = [row for row in rows if all_rows or len(set(row[1:])) > 1]
    if not chosen:
        return part("note", "All settings are the same.")
    return part("table", ("", *(run.name for run in runs)), chosen)


SECTIONS = (
    Section(
        "filters",
        "Filters",
        "Each filter maps one input channel to one output channel. Choose one on the map of energies by a click or the "
        "arrow keys; the strongest is shown first. Look for directions and bands in the amplitude (DC is in the "
        "middle, the high-pass is outlined in red): a flat or noisy filter prefers no frequency.",
        filters_section,
    ),
    Section(
        "curves",
        "Curves",
        "Training losses, speed, and figures measured after each epoch: on held-out images where the run has some "
        "(val_), otherwise on the test set. Point at a diagram for the values of an epoch, and click to keep it; the "
        "filters below are shown as they were then. A best epoch that was chosen on the test set flatters the run: "
        "compare such runs by their last figure.",
        curves_section,
    ),
    Section(
        "amplitudes",
        "How amplitudes differ",
        f"Amplitude of each frequency in every stage, averaged over at most {IMAGES} test images, and how far each "
        "network is above (red) or below (blue) its teacher. Drag over a spectrum or a curve to see the share of these "
        "frequencies in each network, and images and maps that hold nothing else. Look whether the student with the "
        "method is nearer to zero than the student alone by more than the bands, which are 95 % bootstrap intervals "
        "over images.",
        differences_section,
    ),
    Section(
        "effect",
        "What filters do to features",
        "What enters each level of the method, the output of its branches, and what is left to the teacher, on real "
        "features. Look which branch carries the energy here: on white input, as in the explorer, it may be the other.",
        effect_section,
    ),
    Section(
        "maps",
        "Where networks look",
        "Where in a test image each network finds evidence for a class. Choose an image on the wall, and see the maps "
        "of all networks. Look where student and teacher disagree. Similar maps do not show that a student is better.",
        cam_section,
    ),
    Section(
        "recipe",
        "Recipe",
        Markup("Every setting as it was resolved; <code>famkd train</code> accepts this file."),
        recipe_section,
    ),
    Section("machine", "Machine", "The machine and the versions that each run was trained with.", machine_section),
)
