"""The dashboard and the filter explorer in a real JupyterLab: keys, kernel, and a training that goes on."""

import statistics
from importlib.util import find_spec

import nbformat
import pytest
import torch
from helpers.browser import ask_kernel, lab, open_notebook, run_all, settled
from helpers.famviz_runs import add_epoch, make_run
from torch import nn

from famkd.distill.types import Probe, View
from famkd.methods.review import FAMReview

pytest_plugins = ("helpers.browser",)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(find_spec("jupyterlab") is None, reason="jupyterlab is not installed: pip install famkd[viz]"),
]
MAP = ".fv-nav .fv-stack canvas"
# From the key to the end of the frame in which the large picture changed, in ms.
PRESS = """(key) => new Promise((done) => {
    const node = document.activeElement, main = document.querySelector(".fv-main .fv-stack canvas");
    const before = main.dataset.seq, start = performance.now();
    const look = () => requestAnimationFrame(() => (main.dataset.seq === before ? look()
      : setTimeout(() => done(performance.now() - start))));
    node.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
    look(); })"""


def notebook(folder, code: str) -> None:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbformat.write(book, folder / "look.ipynb")


def test_a_dashboard_shows_an_epoch_as_it_is_written(page, tmp_path):
    make_run(tmp_path / "run", epochs=1, shapes=((2, 4),))
    run = make_run(tmp_path / "run", "--epochs", "4", epochs=0, shapes=((2, 4),))
    feats = [torch.rand(2, 2, 4, 4), torch.rand(2, 2)]
    methods = nn.ModuleDict({"fam_review": FAMReview(Probe(View(None, feats), View(None, feats), None))})
    notebook(tmp_path, f"import famviz\ndashboard = famviz.Dashboard({str(run.path)!r}, every=0.2)\ndashboard")
    with lab(tmp_path) as address:
        open_notebook(page, address, "look.ipynb")
        run_all(page)
        page.wait_for_selector(".fv-dashboard[data-seq]")
        drawn = "(n) => document.querySelectorAll('.fv-cell canvas[data-seq]').length === n"
        page.wait_for_function(drawn, arg=1)
        add_epoch(run, methods, nn.Linear(2, 2))
        page.wait_for_function(drawn, arg=2)
        assert page.locator(".fv-progress td").nth(1).inner_text() == "2 of 4"
        page.focus(".fv-chart-scores .fv-lines")
        page.keyboard.press("ArrowLeft")  # a shortcut of the notebook, if it gets there
        page.wait_for_function("() => document.querySelector('.fv-read').textContent.includes('epoch 1 of 2')")
        assert ask_kernel(page, "dashboard.epoch") == "1"
        add_epoch(run, methods, nn.Linear(2, 2))
        page.wait_for_function(drawn, arg=3)
        assert ask_kernel(page, "dashboard.epoch") == "1"  # the chosen epoch stays
        add_epoch(run, methods, nn.Linear(2, 2))
        page.wait_for_function("() => document.querySelector('.fv-progress').textContent.includes('finished')")
        assert ask_kernel(page, "dashboard.finished") == "True"
        page.keyboard.press("n")
        page.wait_for_function("() => document.querySelector('.fv-read').textContent.includes('epoch 4, the newest')")
        assert ask_kernel(page, "dashboard.close(), dashboard.following") == "None False"


def test_the_filter_explorer_answers_keys_search_and_wall(page, tmp_path):
    run = make_run(tmp_path / "run", epochs=1, shapes=((24, 32),))
    notebook(tmp_path, f"import famviz\nexplorer = famviz.FilterExplorer({str(run.path)!r}, c_out=0, c_in=0)\nexplorer")
    with lab(tmp_path) as address:
        open_notebook(page, address, "look.ipynb")
        run_all(page)
        page.wait_for_selector(".famviz[data-seq]")
        page.focus(MAP)
        took = [page.evaluate(PRESS, ("ArrowRight", "ArrowDown")[n % 2]) for n in range(20)]
        print(f"key press to painted: median {statistics.median(took):.0f} ms of {len(took)}")
        assert ask_kernel(page, "explorer.c_out, explorer.c_in") == "10 10"
        page.keyboard.press("w")
        settled(page)
        page.wait_for_function("() => document.querySelectorAll('.fv-wall-cell').length === 48")
        page.locator(".fv-wall-cell canvas").nth(5).click()
        settled(page)
        words = page.locator(".fv-wall-cell figcaption").nth(5).inner_text()
        assert ask_kernel(page, "f'{explorer.c_in} → {explorer.c_out}'") == words
        page.fill("input[type=search]", "out = 3")
        page.wait_for_function("() => document.querySelectorAll('.fv-scroll tbody tr').length === 24")
        assert ask_kernel(page, "explorer.search") == "out = 3"
        ask_kernel(page, "setattr(explorer, 'colormap', 'gray')")
        page.wait_for_function("() => document.querySelector('.fv-colormap select').value === 'gray'")
        page.locator(".fv-effect button").first.click()  # a run of zeros and ones has neither data nor networks
        page.wait_for_function("() => document.querySelector('.fv-effect').textContent.includes('There is none: ')")
