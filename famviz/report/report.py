"""One page about runs: what they show in three sentences, then widgets, figures, recipe, machine; without a network."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from famkd.errors import UserError
from famviz.analysis.answers import accuracy_words, maps_words, spectra_words
from famviz.explorer.page import page
from famviz.load import LoadedRun, Source, open_all
from famviz.networks import MovedRun
from famviz.report.looked import IMAGES, Looked
from famviz.report.parts import HERE, TEMPLATES, why
from famviz.report.sections import SECTIONS


def write_report(
    runs: Source | Sequence[Source], path: str | Path = "report.html", *,
    root: str = "", teacher: str = "", images: int = 4,
) -> Path:  # fmt: skip
    """Write the report of one run, or of several side by side, of which the first is shown first; returns its path.

    Sections that cannot be had are left out, and named with the reason in the last line.

    Args:
        root: where the data of the runs is, if it was moved since the training.
        teacher: where the weights of their teacher are, if they were moved.
        images: number of test images in the picture of activation maps.

    Errors: UserError if a run cannot be opened or the page cannot be written.
    """
    opened = open_all(runs)
    if teacher:
        if not Path(teacher).exists():
            raise UserError(f"There is nothing at {teacher}: pass the weights of the teacher, or its run directory.")
        opened = [replace(each, run=MovedRun(each.run.path, teacher)) if each.run else each for each in opened]
    if root and not Path(root).exists():
        raise UserError(f"There is nothing at {root}: pass the folder or file with the data of the runs.")
    looked = Looked(opened, root)
    opening = opening_sentences(opened, looked)
    sections, missing = made_sections(opened, looked, images)
    body = TEMPLATES.get_template("report.html").render(opening=opening, sections=sections, missing=missing)
    title = "famviz: " + ", ".join(run.name for run in opened)
    text = page(title, body, (HERE / "report.css").read_text(encoding="utf-8"))
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror or error}.") from error
    return path


def opening_sentences(runs: Sequence[LoadedRun], looked: Looked) -> list[str]:
    """What the runs show: accuracy against the student alone, where spectra moved, where activation maps moved.

    What cannot be measured is left out; the sections say why.
    """
    accuracy = _said(lambda: accuracy_words([each.run for each in runs if each.run]))
    spectra = _said(lambda: spectra_words(looked.stages, IMAGES if looked.detects else len(looked.comparison)))
    maps = _said(lambda: "" if looked.detects else maps_words(looked.maps))
    return [words for words in (accuracy, spectra, maps) if words]


def _said(make: Callable[[], str]) -> str:
    try:
        return make()
    except Exception:  # whatever fails here fails for its section as well, and there the reason is kept
        return ""


def made_sections(
    runs: list[LoadedRun], looked: Looked, images: int
) -> tuple[list[dict[str, object]], dict[str, list[str]]]:
    """The sections that can be had, and for each reason the titles of those that cannot."""
    sections, missing = [], {}
    for section in SECTIONS:
        try:
            content = section.make(runs, looked, images)
        except Exception as error:  # a damaged or edited file can fail in any way
            missing.setdefault(why(error), []).append(section.title)
            continue
        sections.append({"name": section.name, "title": section.title, "words": section.words, "content": content})
    return sections, missing
