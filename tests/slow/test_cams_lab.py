"""The CAM explorer in a real JupyterLab in headless Chromium: what a reader does, by mouse and by keyboard."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from helpers.browser import ask_kernel, lab, open_notebook, pixels, run_all, settled, write_notebook
from helpers.cam_networks import COUNT, comparison
from helpers.cam_pages import ACROSS, STUDENT, drawn, listed
from helpers.processes import wait_until

import famviz
from famviz import spectra

pytest_plugins = ("helpers.browser",)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("jupyterlab") is None, reason="jupyterlab is not installed: pip install famkd[viz]"),
]
TABLE = np.rint(spectra.colour_table("inferno") * 255)
TESTS = Path(__file__).parents[1]
CELL = f"""
import sys
sys.path[:0] = [{str(TESTS.parent)!r}, {str(TESTS)!r}]
import famviz
from helpers.cam_networks import comparison
explorer = famviz.CamExplorer(comparison())
explorer
"""
BELOW = "keep = 'of a cell below'"
ROW = ".fv-list .fv-scroll tbody tr"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    write_notebook(folder / "cams.ipynb", [CELL.strip(), BELOW])
    with lab(folder) as served:
        yield served


@pytest.fixture
def live(page, address):
    """The page with the explorer of a fresh kernel, when all maps of its first choice have come."""
    open_notebook(page, address, "cams.ipynb")
    run_all(page)
    page.wait_for_selector(".fv-cams[data-seq]")
    page.locator(".fv-cams").scroll_into_view_if_needed()
    complete(page)
    yield page
    ask_kernel(page, "explorer.close()")
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    page.close()  # before its server goes, which it would complain about


@pytest.fixture(scope="module")
def oracle():
    """The same explorer in this process: the networks are drawn from a seed."""
    made = famviz.CamExplorer(comparison())
    made.store.maps(range(COUNT), made.choice)
    made.comparison.predict()
    yield made
    made.close()


def complete(page) -> None:
    """Wait until the maps of all images are there."""
    settled(page)
    page.wait_for_function("() => document.querySelector('.fv-work').hidden")
    page.wait_for_function("() => document.querySelector('.fv-cams:not(.fv-wait)')")
    settled(page)


def reaches(page, trait: str, wanted) -> None:
    """Wait until the kernel has a value; the comm's messages may take another way than a question to it."""
    wait_until(lambda: ask_kernel(page, f"explorer.{trait}") == str(wanted))


def agreement(explorer) -> np.ndarray:
    """Rank correlation of the student's maps (N,) with the teacher's."""
    found = explorer.store.maps(range(COUNT), explorer.choice)
    return np.array([each["student"].figures["rank correlation"] for each in found])


def test_filters_of_the_wall_leave_the_images_that_they_name(live, oracle):
    logits, labels = oracle.comparison.logits, oracle.comparison.labels
    right = {name: each.argmax(1) == labels for name, each in logits.items()}
    live.fill(".fv-left .fv-class input", "kind 3")
    live.keyboard.press("Enter")
    reaches(live, "only_class", 3)
    settled(live)
    assert listed(live) == (labels == 3).sum() > 0
    live.fill(".fv-left .fv-class input", "")
    live.keyboard.press("Enter")
    reaches(live, "only_class", -1)
    for words, wanted in {
        "both wrong": ~right["teacher"] & ~right["student"],
        "only the reference right": right["teacher"] & ~right["student"],
        "all": labels >= 0,
    }.items():
        live.select_option(".fv-only select", words)
        reaches(live, "only", words)
        settled(live)
        assert listed(live) == wanted.sum()
    live.focus(".fv-agreement select")
    live.keyboard.type("low")  # chooses by its first letters
    reaches(live, "agreement", "low")
    settled(live)
    agree = agreement(oracle)
    assert listed(live) == np.ceil((~np.isnan(agree)).sum() / 4)
    live.select_option(".fv-order select", "agreement")
    live.focus(".fv-wall")
    live.keyboard.press("Home")
    reaches(live, "image", np.nanargmin(agree))


def test_images_are_chosen_on_the_wall_in_the_diagram_and_in_the_list(live, oracle):
    box = live.locator(".fv-wall").bounding_box()
    live.mouse.click(box["x"] + 2.5 * 68, box["y"] + 30)
    drawn(live, 2)
    reaches(live, "image", 2)
    live.keyboard.press("ArrowRight")  # the click gave the wall the keys
    drawn(live, 3)
    reaches(live, "image", 3)

    dots = live.locator(".fv-scatter .fv-dot")
    agree = agreement(oracle)
    shown = np.flatnonzero(~np.isnan(agree))
    assert dots.count() == len(shown)
    at = int(np.argmin(dots.evaluate_all(ACROSS)))
    dots.nth(at).scroll_into_view_if_needed()
    dot = dots.nth(at).bounding_box()
    live.mouse.click(dot["x"] + dot["width"] / 2, dot["y"] + dot["height"] / 2)
    sure = oracle.comparison.answers["student"].probabilities.max(1)
    least = int(shown[np.argmin(sure[shown].round(4))])
    drawn(live, least)
    reaches(live, "image", least)

    rows = live.locator(ROW)
    wanted = shown[np.argsort(agree[shown].round(4), kind="stable")].tolist()
    assert [int(text) for text in live.locator(f"{ROW} td:first-child").all_inner_texts()] == wanted
    rows.nth(2).click()
    drawn(live, wanted[2])
    live.focus(".fv-list .fv-scroll tbody")
    live.keyboard.press("ArrowDown")
    drawn(live, wanted[3])
    reaches(live, "image", wanted[3])
    live.click(".fv-list thead >> text=image")
    settled(live)
    assert [int(text) for text in live.locator(f"{ROW} td:first-child").all_inner_texts()] == sorted(shown)[::-1]


def test_maps_follow_method_layer_class_colours_and_outline(live, oracle):
    live.locator(".fv-blend input").press("End")  # the map alone
    reaches(live, "blend", 1.0)
    chosen = {"method": "LayerCAM", "layer": "-2", "target": "each"}
    for trait, value in chosen.items():
        live.select_option(f".fv-{trait} select", value)
        reaches(live, trait, value)
        drawn(live, 0)
    live.focus(".fv-wall")
    live.keyboard.press("s")
    reaches(live, "scale", "own")
    check_colours(live, oracle, **chosen, scale="own")

    live.select_option(".fv-target select", "class")
    live.fill(".fv-search input", "kind 5")
    live.keyboard.press("Enter")
    reaches(live, "target", 5)
    drawn(live, 0)
    live.select_option(".fv-scale select", "shared")
    reaches(live, "scale", "shared")
    check_colours(live, oracle, **{**chosen, "target": "5"}, scale="shared")

    edge = live.locator(f"{STUDENT} >> .fv-stack path").first.get_attribute("d")
    for _ in range(20):
        live.locator(".fv-top input").press("ArrowRight")
    reaches(live, "top", 0.4)
    settled(live)
    assert "top 40 %" in live.locator(".fv-figures th").nth(2).inner_text()
    assert live.locator(f"{STUDENT} >> .fv-stack path").first.get_attribute("d") != edge


def check_colours(page, oracle, scale: str, **choice) -> None:
    """Compare the student's pixels with the map that this process computes."""
    for trait, value in choice.items():
        setattr(oracle, trait, value)
    oracle.image = 0
    settled(page)
    maps = oracle.maps()
    most = max(values.max() for values in maps.values()) if scale == "shared" else maps["student"].max()
    at = np.rint(maps["student"] / most * 255).astype(int)
    assert np.abs(pixels(page, f"{STUDENT} >> .fv-stack canvas")[..., :3] - TABLE[at]).max() <= 6


def test_keys_of_the_explorer_leave_the_notebook_alone(live):
    """`d d` deletes a cell of JupyterLab in command mode, arrows choose another one."""
    for where in (".fv-wall", ".fv-scatter", ".fv-list .fv-scroll tbody", ".fv-method select", ".fv-top input"):
        live.focus(where)
        for key in ("d", "d", "b", "ArrowDown"):
            live.keyboard.press(key)
    settled(live)
    cells = "[...window.jupyterapp.shell.currentWidget.content.model.cells].map((cell) => cell.sharedModel.source)"
    assert live.evaluate(f"() => {cells}") == [CELL.strip(), BELOW]
    assert live.evaluate("() => document.activeElement.matches('.fv-top input')")
