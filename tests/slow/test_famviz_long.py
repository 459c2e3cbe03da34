"""What a kernel that lives for days must not collect: widgets, open files, hooks, figures, memory."""

import gc
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.famviz_runs import make_run
from ipywidgets.widgets import widget
from matplotlib.figure import Figure
from torch import nn

import famviz
from famkd.models import build_model
from famviz.figures import cam

SMALL = {"shapes": ((2, 5), (2, 4))}


def memory() -> float:
    """Megabytes of this process that lie in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def kept() -> tuple[int, int, int]:
    """Widgets, open files and figures that are there now."""
    gc.collect()
    figures = sum(isinstance(each, Figure) for each in gc.get_objects())
    return len(widget._instances), len(os.listdir("/proc/self/fd")), figures


def repeat(do: Callable[[], object], times: int) -> None:
    """Do it a few times, then many times: nothing may be there afterwards that was not there before."""
    for _ in range(3):  # libraries keep what they load at first
        do()
    before, megabytes = kept(), memory()
    for _ in range(times):
        do()
    assert kept() == before
    assert times < 100 or memory() - megabytes < 20  # a few are too few to tell a leak from what an allocator keeps


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="there is no /proc to count in"),
]


def test_explorers_opened_and_closed_leave_nothing(tmp_path):
    runs = famviz.open([make_run(tmp_path / "a", **SMALL).path, make_run(tmp_path / "b", seed=1, **SMALL).path])

    def look():
        explorer = famviz.FilterExplorer(runs, other=runs[1].name)
        explorer.c_in, explorer.view = 1, "phase"
        explorer.close()

    repeat(look, 200)


@pytest.mark.parametrize(("epochs", "times"), [(0, 200), (1, 30)])
def test_dashboards_opened_and_closed_leave_nothing(tmp_path, epochs, times):
    run = make_run(tmp_path / "run", epochs=epochs, **SMALL)
    repeat(lambda: famviz.Dashboard(run).close(), times)


@pytest.mark.parametrize("method", ["GradCAM", "EigenCAM"])
def test_class_activation_maps_leave_nothing_on_the_network(method):
    net, images = build_model("resnet8x0.5", 5), torch.rand(2, 3, 16, 16)

    def hooks(module: nn.Module) -> int:
        return len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)

    repeat(lambda: cam.cam(net, images, 1, method), 200)
    assert sum(map(hooks, net.modules())) == 0
    assert all(parameter.grad is None for parameter in net.parameters())
