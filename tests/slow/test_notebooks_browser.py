"""Notebook 3 in a real JupyterLab in headless Chromium: run all, then drive the explorer as a reader would."""

import re
from importlib.util import find_spec

import numpy as np
import pytest
from helpers.browser import ask_kernel, lab, open_notebook, pixels, run_all, settled

from notebooks import SOURCES, paired

pytest_plugins = ("helpers.browser", "helpers.notebook_runs")
pytestmark = pytest.mark.slow
MAIN, MAP = ".fv-main .fv-stack canvas", ".fv-nav .fv-stack canvas"
TRAITS = "explorer.level, explorer.c_out, explorer.c_in, explorer.view"


def chosen(page) -> list[str]:
    """Level, output channel, input channel and view, as the kernel has them."""
    return ask_kernel(page, TRAITS).split()


def changed(page, before: np.ndarray) -> np.ndarray:
    """The large picture, which must not be what it was."""
    settled(page)
    now = pixels(page, MAIN)
    assert now.shape != before.shape or not np.array_equal(now, before)
    return now


@pytest.mark.timeout(1800)
@pytest.mark.skipif(find_spec("jupyterlab") is None, reason="jupyterlab is not installed: pip install famkd[viz]")
def test_the_explorer_answers_key_mouse_and_menu_in_jupyterlab(page, notebook_runs, tmp_path):
    source = next(path for path in SOURCES if path.stem.startswith("03"))
    (tmp_path / "03.ipynb").write_text(paired(source))
    with lab(tmp_path) as address:
        open_notebook(page, address, "03.ipynb")
        run_all(page, timeout=1200)
        page.wait_for_selector(".famviz[data-seq]")
        page.locator(MAP).first.scroll_into_view_if_needed()
        picture, level = pixels(page, MAIN), ask_kernel(page, "explorer.filter.channels")
        c_out, c_in = map(int, re.findall(r"\d+", level))

        page.locator(MAP).first.focus()
        start = chosen(page)
        key, other = ("ArrowLeft", "ArrowUp") if int(start[2]) and int(start[1]) else ("ArrowRight", "ArrowDown")
        page.keyboard.press(key)
        page.keyboard.press(other)
        picture = changed(page, picture)
        moved = chosen(page)
        assert all(moved[at] != start[at] for at in (1, 2)), (start, moved)

        box = page.locator(MAP).first.bounding_box()
        page.mouse.click(box["x"] + box["width"] * (c_in - 0.5) / c_in, box["y"] + box["height"] * 0.5 / c_out)
        picture = changed(page, picture)
        assert chosen(page)[1:3] == ["0", str(c_in - 1)]

        page.locator(".fv-level select").first.select_option("1")
        picture = changed(page, picture)
        page.locator(".fv-view select").first.select_option("kernel")
        changed(page, picture)
        assert chosen(page)[0::3] == ["1", "kernel"]

        slider = page.locator(".fv-epoch input").first
        slider.press("ArrowLeft")  # a shortcut of the notebook, if it gets there
        page.wait_for_function("() => document.querySelector('.fv-epoch span').textContent !== 'now'")
        last = int(slider.get_attribute("max"))
        assert ask_kernel(page, "explorer.epoch") == str(last)  # a summary of every epoch
        slider.press("ArrowRight")
        page.wait_for_function("() => document.querySelector('.fv-epoch span').textContent === 'now'")

        ask_kernel(page, "setattr(explorer, 'view', 'phase')")  # and back: what the kernel sets, the page shows
        page.wait_for_function("() => document.querySelector('.fv-view select').value === 'phase'")
        page.close()  # before its server goes, which it would complain about
