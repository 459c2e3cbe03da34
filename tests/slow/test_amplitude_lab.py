"""The amplitude explorer in a real JupyterLab in headless Chromium: choose, hover, brush and compare."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers.browser import ask_kernel, lab, open_notebook, pixels, run_all, settled

pytest_plugins = ("helpers.browser",)
pytestmark = pytest.mark.slow
TESTS = Path(__file__).parents[1]
CELL = f"""import sys
sys.path[:0] = [{str(TESTS)!r}, {str(TESTS.parent)!r}]
import torch
torch.set_num_threads(1)
import famviz
from famkd.models import build_model
from helpers.cam_networks import comparison
older = build_model("resnet8x0.5", 8).state_dict()
explorer = famviz.AmplitudeExplorer(comparison(), checkpoints={{"student": {{3: older}}}}, stage="layer1")
explorer"""
STUDENT = ".fv-column:nth-child(2) .fv-plane .fv-stack canvas"
GAP = ".fv-column:nth-child(2) .fv-gap .fv-stack canvas"


def notebook(source: str) -> str:
    cell = {"cell_type": "code", "execution_count": None, "id": "a", "metadata": {}, "outputs": [], "source": source}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return json.dumps({"cells": [cell], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5})


def known(page) -> None:
    """Wait until everything of the choice has come and is drawn."""
    page.wait_for_function("() => document.querySelector('.fv-amplitude:not(.fv-wait)')")
    page.wait_for_function("() => document.querySelector('.fv-amplitude progress').hidden")
    page.wait_for_function("() => document.querySelectorAll('.fv-diagram .fv-band').length > 1")
    page.wait_for_function("() => document.querySelectorAll('.fv-most button').length > 1")
    settled(page)


def drag(page, selector: str, *places: tuple[float, float]) -> None:
    """Press at the first place, move to the others, release; places are shares of the height and the width."""
    page.locator(selector).first.scroll_into_view_if_needed()
    box = page.locator(selector).first.bounding_box()
    for at, (down, across) in enumerate(places):
        page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"])
        if at == 0:
            page.mouse.down()
    page.mouse.up()
    settled(page)


def kernel(page, expression: str, wanted: str) -> None:
    assert ask_kernel(page, expression) == wanted


@pytest.mark.timeout(1800)
@pytest.mark.skipif(find_spec("jupyterlab") is None, reason="jupyterlab is not installed: pip install famkd[viz]")
def test_choosing_hovering_brushing_and_comparing_in_jupyterlab(page, tmp_path):
    (tmp_path / "a.ipynb").write_text(notebook(CELL))
    page.set_viewport_size({"width": 1440, "height": 1000})
    with lab(tmp_path) as address:
        open_notebook(page, address, "a.ipynb")
        run_all(page, timeout=600)
        page.wait_for_selector(".fv-amplitude[data-seq]")
        known(page)
        choose(page)
        brush(page)
        compare(page)
        keys(page)
        page.close()  # before its server goes, which it would complain about


def choose(page) -> None:
    before = pixels(page, STUDENT)
    page.select_option(".fv-amplitude .fv-stage select", "layer2")
    settled(page)
    assert pixels(page, STUDENT).shape != before.shape
    kernel(page, "explorer.stage", "layer2")
    page.check(".fv-amplitude .fv-window input")
    known(page)
    kernel(page, "explorer.window, len(explorer.store.known(explorer.look))", "True 20")
    page.uncheck(".fv-amplitude .fv-window input")
    page.select_option(".fv-amplitude .fv-relative select", "none")
    known(page)
    page.locator(STUDENT).first.hover(position={"x": 20, "y": 30})
    said = page.locator(".fv-amplitude .fv-read").inner_text().replace("−", "-")
    kx, ky, student = re.match(r"kx (\S+), ky (\S+) \(.*student (\S+) \(", said).groups()
    value = float(ask_kernel(page, f"explorer.spectra().planes['student'][8 + {ky}, 8 + {kx}]"))
    assert float(student) == pytest.approx(value, abs=0.06)


def brush(page) -> None:
    drag(page, STUDENT, (0.53, 0.53 + 2 / 16), (0.53, 0.53 + 5 / 16))
    kernel(page, "explorer.rings", "[2, 5]")
    page.wait_for_function("() => document.querySelectorAll('.fv-most canvas[data-seq]').length === 12")
    share = float(page.locator(".fv-shares tbody tr >> nth=1 >> td >> nth=2").inner_text().removesuffix(" %"))
    assert share == pytest.approx(float(ask_kernel(page, "explorer.shares().rows[1]['share %']")), abs=0.011)
    first = page.locator(".fv-most button").first.get_attribute("title")
    best = ask_kernel(page, "explorer.most(1).rows[0]['image']")
    assert re.match(r"image (\d+)", first)[1] == best
    page.locator(".fv-most button").nth(1).click()
    page.wait_for_function("() => document.querySelector('.fv-picture figcaption').textContent.startsWith('image')")
    kernel(page, "explorer.image == explorer.most(2).rows[1]['image']", "True")
    drag(page, ".fv-diagram >> nth=1", (0.5, 0.3), (0.5, 0.5))
    assert ask_kernel(page, "explorer.angles") != "[]"


def compare(page) -> None:
    page.select_option(".fv-amplitude .fv-images select", "all")
    page.select_option(".fv-amplitude .fv-reference select", "student")
    known(page)
    assert page.locator(".fv-column >> nth=0 >> .fv-gap figcaption").inner_text() == "teacher − student"
    kernel(page, "explorer.reference, explorer.image", "student -1")
    before = pixels(page, STUDENT)
    page.locator(".fv-epoch input").first.press("ArrowLeft")
    page.wait_for_function("() => document.querySelector('.fv-age').textContent === '3'")
    known(page)
    kernel(page, "explorer.epoch", "3")
    assert (pixels(page, STUDENT) != before).any()
    ask_kernel(page, "setattr(explorer, 'epoch', 0)")  # and back: what the kernel sets, the page shows
    page.wait_for_function("() => document.querySelector('.fv-age').textContent === 'end'")


def keys(page) -> None:
    count = "() => window.jupyterapp.shell.currentWidget.content.widgets.length"
    cells = page.evaluate(count)
    page.focus(".fv-diagram >> nth=0")
    kernel(page, "explorer.rings", "[2, 5]")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("d")
    page.keyboard.press("d")
    page.keyboard.press(".")
    settled(page)
    kernel(page, "explorer.rings, explorer.profile, explorer.stage", "[3, 6] spectrum layer3")
    page.keyboard.press("Escape")
    settled(page)
    kernel(page, "explorer.rings, explorer.angles", "[] []")
    assert page.evaluate(count) == cells  # d d deletes a cell where shortcuts get through
