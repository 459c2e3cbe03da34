"""A view that is removed from a notebook listens to its model no more."""

import pytest
import torch
from helpers.famviz_runs import make_run
from torch import nn

import famviz
from famviz.explorer.page import module

pytest_plugins = ("helpers.browser",)
pytestmark = pytest.mark.slow

# Renders a second view of the page's widget on a model of its own, and removes it: how many listen before and after.
LISTENING = """async (code) => {
  const { default: widget } = await import("data:text/javascript," + encodeURIComponent(code));
  const listeners = new Set(), el = document.body.appendChild(document.createElement("div"));
  const model = {
    get: window.famviz[0].get, set() {}, save_changes() {}, send() {},
    on: (name, call) => listeners.add(call), off: (name, call) => listeners.delete(call),
  };
  const remove = widget.render({ model, el }), before = listeners.size;
  remove();
  return [before, listeners.size];
}"""


def cams():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 3))
    return famviz.CamExplorer({"a": network}, torch.rand(5, 3, 8, 8))


def amplitude():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 3))
    return famviz.AmplitudeExplorer({"a": network}, torch.rand(5, 3, 8, 8))


@pytest.mark.parametrize("widget", ["filters", "dashboard", "cams", "amplitude"])
def test_nothing_listens_after_a_view_is_removed(widget, page, tmp_path):
    makers = {
        "filters": lambda: famviz.FilterExplorer(make_run(tmp_path / "run")),
        "dashboard": lambda: famviz.Dashboard(make_run(tmp_path / "run")),
        "cams": cams,
        "amplitude": amplitude,
    }
    makers[widget]().to_html(tmp_path / "page.html")
    page.goto(f"file://{tmp_path / 'page.html'}")
    page.wait_for_selector(".famviz[data-seq]")
    before, after = page.evaluate(LISTENING, module(widget))
    assert before > 0
    assert after == 0
