"""The widgets in Notebook 7, Voila and marimo in headless Chromium: each is drawn and answers keys and its kernel."""

from importlib.util import find_spec
from pathlib import Path

import nbformat
import numpy as np
import pytest
from helpers.browser import ask_kernel, lab, open_notebook, pixels, run_all, watched, write_notebook
from helpers.cam_networks import comparison
from helpers.cam_pages import STUDENT
from helpers.famviz_runs import make_run
from helpers.hosts import VOILA_ASKS, marimo, voila
from helpers.processes import wait_until

import famviz
from famviz import spectra

pytest_plugins = ("helpers.browser",)
pytestmark = pytest.mark.slow
TABLE = np.rint(spectra.colour_table("inferno") * 255)
NOTEBOOK_SAYS = ("Cannot read properties of undefined (reading 'schema')",)  # of its settings; no widget has a schema
VOILA_SAYS = ("The getter for the shared module is not a function",)  # of extensions of JupyterLab that it cannot load
TESTS = Path(__file__).parents[1]
START = f"""
import sys
sys.path[:0] = [{str(TESTS.parent)!r}, {str(TESTS)!r}]
import famviz
from helpers.cam_networks import comparison
""".strip()
WIDGETS = {
    "filters": "famviz.FilterExplorer(RUN, c_out=0, c_in=0)",
    "cams": "famviz.CamExplorer(comparison())",
    "amplitude": "famviz.AmplitudeExplorer(comparison())",
    "dashboard": "famviz.Dashboard(RUN)",
}
CELL = """
@app.cell
def _(comparison, famviz):
    {name} = {code}
    {name}
    return
"""
MAP = ".famviz:has(.fv-nav) .fv-nav .fv-stack canvas"
FOCUSABLE = (MAP, ".fv-level select", ".fv-cams .fv-wall", ".fv-scatter", ".fv-blend input",
             ".fv-chart-scores .fv-lines", ".fv-amplitude .fv-diagram")  # fmt: skip


def needs(package: str):
    return pytest.mark.skipif(
        find_spec(package) is None, reason=f"{package} is not installed: pip install famkd[hosts]"
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("hosts") / "run")


@pytest.fixture
def notebook(run, tmp_path) -> Path:
    """A notebook with a cell for each widget."""
    shown = [f"{name} = {code}\n{name}" for name, code in WIDGETS.items()]
    path = tmp_path / "widgets.ipynb"
    write_notebook(path, [f"{START}\nRUN = {str(run.path)!r}", *shown, "'the last cell'"])
    return path


@pytest.fixture
def program(run, tmp_path) -> Path:
    """The same as a program of marimo."""
    start = "".join(f"    {line}\n" for line in START.splitlines())
    text = f"import marimo\n\napp = marimo.App()\n\n\n@app.cell\ndef _():\n{start}    return comparison, famviz\n"
    for name, code in WIDGETS.items():
        text += "\n" + CELL.format(name=name, code=code.replace("RUN", repr(str(run.path))))
    path = tmp_path / "widgets.py"
    path.write_text(text + '\n\nif __name__ == "__main__":\n    app.run()\n')
    return path


def check_filters(page) -> None:
    """Arrow keys on the map of energies choose a filter."""
    page.locator(MAP).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.locator(".famviz:has(.fv-nav) .fv-read").filter(has_text="Output 1, input 1").wait_for()
    assert pixels(page, ".fv-main .fv-stack canvas")[..., 3].any()


def check_cams(page) -> None:
    """The kernel answers with the maps of the image that an arrow key chose."""
    page.locator(".fv-cams[data-image='0']:not(.fv-wait)").wait_for()
    page.locator(".fv-cams .fv-wall").focus()
    page.keyboard.press("ArrowRight")
    page.locator(".fv-cams[data-image='1']:not(.fv-wait)").wait_for()
    oracle = famviz.CamExplorer(comparison(), image=1)
    maps = oracle.maps()
    at = np.rint(maps["student"] / max(values.max() for values in maps.values()) * 255).astype(int)
    wanted = oracle.comparison.pixels([1])[0] * (1 - oracle.blend) + TABLE[at] * oracle.blend
    wait_until(lambda: np.abs(pixels(page, f"{STUDENT} >> .fv-stack canvas")[..., :3] - wanted).max() <= 5)
    oracle.close()


def check_amplitude(page) -> None:
    """The kernel sends the spectra; a key goes from the mean of all images to one of them."""
    page.locator(".fv-amplitude[data-rebuilt]").wait_for()
    page.locator(".fv-amplitude .fv-diagram").first.focus()
    before = page.get_attribute(".fv-amplitude", "data-shown")
    page.keyboard.press("m")
    wait_until(lambda: page.get_attribute(".fv-amplitude", "data-shown") != before)
    assert pixels(page, ".fv-amplitude .fv-plane .fv-stack canvas")[..., 3].any()


def check_dashboard(page) -> None:
    """An arrow key chooses an epoch; the kernel sends the pictures of the filters."""
    page.locator(".fv-chart-scores .fv-lines").focus()
    page.keyboard.press("ArrowLeft")
    page.locator(".fv-dashboard .fv-read").filter(has_text="Values after epoch 2 of 3.").wait_for()
    wait_until(lambda: pixels(page, ".fv-dashboard .fv-cell canvas")[..., 3].any())


def check_all(page) -> None:
    for check in (check_filters, check_cams, check_amplitude, check_dashboard):
        check(page)


@needs("notebook")
def test_notebook_7_shows_the_widgets_and_leaves_them_their_keys(chromium, notebook):
    with lab(notebook.parent, "notebook") as address, watched(chromium, own_errors=NOTEBOOK_SAYS) as page:
        open_notebook(page, address, notebook.name, "notebooks")
        run_all(page)
        check_all(page)
        assert ask_kernel(page, "(filters.c_out, filters.c_in, cams.image, dashboard.epoch)") == "(1, 1, 1, 2)"
        cells = [cell.source for cell in nbformat.read(notebook, 4).cells]
        for where in FOCUSABLE:
            page.locator(where).first.focus()
            for key in "ddbx":  # delete, insert and cut a cell, if they get to the notebook
                page.keyboard.press(key)
        assert sources(page) == cells
        page.locator(".jp-InputPrompt").last.click()
        page.keyboard.press("d")
        page.keyboard.press("d")  # the same keys of a cell itself
        wait_until(lambda: sources(page) == cells[:-1])
        page.close()  # before its server goes, which it would complain about


def sources(page) -> list[str]:
    cells = "[...window.jupyterapp.shell.currentWidget.content.model.cells].map((cell) => cell.sharedModel.source)"
    return page.evaluate(f"() => {cells}")


@needs("voila")
def test_voila_shows_the_widgets(chromium, notebook):
    with voila(notebook) as address, watched(chromium, VOILA_ASKS, VOILA_SAYS) as page:
        page.goto(address, wait_until="domcontentloaded")
        check_all(page)
        page.close()


@needs("marimo")
def test_marimo_shows_the_widgets(page, program):
    with marimo(program) as address:
        page.goto(address, wait_until="domcontentloaded")
        check_all(page)
        page.close()
