"""The documents tell the truth about the code: files and targets exist, and the table of imports is the tested one."""

import re
from pathlib import Path

import pytest
from test_imports import MAY

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))
WRITTEN = ("reference/", "notebooks/", "explorer.html", "contributing.md", "changelog.md", "licences.md")  # by the site


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_a_document_names_exists(document):
    text = (ROOT / document).read_text()
    named = re.findall(r"`((?:famkd|famviz|tests|tools|benchmarks|docs|notebooks)/[\w./]*)`", text)
    linked = re.findall(r"\]\(([\w/]+\.\w+)(?:#[\w-]+)?\)", text)
    here = (ROOT / document).parent
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert [name for name in linked if not name.startswith(WRITTEN) and not (here / name).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_target_that_a_document_names_is_in_the_makefile(document):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"`?make ([\w-]+)", (ROOT / document).read_text())
    named = [name for name in named if f"`make {name}" in (ROOT / document).read_text()]
    assert set(named) <= set(targets)


def test_contributing_shows_the_table_of_imports():
    shown = {}
    for left, right in re.findall(r"^\| (`.*?) \| (.*?) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE):
        for part in re.findall(r"`(\w+)`", left):
            shown[part] = set() if right == "nothing" else set(right.split(", "))
    for part, others in MAY.items():
        if part != "errors":
            assert shown[part] == set(others.split()), part


def test_the_page_of_symptoms_lists_all_of_its_sections():
    text = (ROOT / "docs/troubleshooting.md").read_text()
    sections = re.findall(r"^## (.*)$", text, re.MULTILINE)
    linked = re.findall(r"\[(.*?)\]\(#([\w-]+)\) \|$", text, re.MULTILINE)
    assert [title for title, _ in linked] == sections
    assert all(anchor == re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title, anchor in linked)
