"""The dashboard in a real JupyterLab beside a real training: what it shows is what the training has written."""

import re
import signal
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from helpers.browser import ask_kernel, lab, open_notebook, run_all, settled, write_notebook
from helpers.dashboard_pages import OVERLAPS, legend
from helpers.famviz_runs import make_run
from helpers.processes import finish, wait_for_epochs, wait_until

from famkd.models import build_model
from famkd.run.directory import Run

pytest_plugins = ("helpers.browser",)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("jupyterlab") is None, reason="jupyterlab is not installed: pip install famkd[viz]"),
]
ROOT = Path(__file__).parents[2]
EPOCHS = 40
TRAIN = ("--teacher.model", "resnet8x0.5", "--teacher.weights", "teacher.pt", "--method", "fam_review")
BEGUN = 3  # epochs that the training has written when the notebook opens it
LINES = ".fv-chart-scores .fv-lines"


class Training:
    """A training in a process of its own that is stopped and continued, so that a test sees it at rest."""

    def __init__(self, process, path: Path):
        self.process, self.path = process, path

    @property
    def rows(self) -> list[dict]:
        return Run(self.path).metrics()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def until(self, epochs: int) -> None:
        """Let it train until it has written some epochs, then pause it."""
        self.go_on()
        wait_for_epochs(self.path, epochs, self.process)
        self.pause()


@pytest.fixture
def training(small, background, tmp_path):
    """A training of a small student on digits, paused after its first epochs."""
    torch.manual_seed(0)
    torch.save(build_model("resnet8x0.5", 3).state_dict(), "teacher.pt")
    process = background("-m", "famkd", "train", "small.yaml", "--out", "run", *TRAIN, "--epochs", str(EPOCHS))
    started = Training(process, tmp_path / "run")
    started.until(BEGUN)
    yield started
    started.go_on()  # a process that is stopped does not end


def cell(*runs: Path) -> str:
    """Code that opens a dashboard of this checkout."""
    lines = (
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})",
        "import famviz",
        f"dashboard = famviz.Dashboard({[str(run) for run in runs]!r}, every=0.2)",
        "dashboard",
    )
    return "\n".join(lines)


def shown(page, run: int = 0) -> int:
    """The epoch that the table of progress says."""
    said = page.locator(".fv-progress tbody tr").nth(run).locator("td").nth(1).inner_text()
    return int(said.split(" of ")[0])


def points(page, at: int) -> int:
    """How many points the curve of a run has in the diagram of figures."""
    path = page.locator(f"{LINES} .fv-curve-line").nth(at).get_attribute("d")
    return len(re.findall("[ML]", path))


def test_a_dashboard_follows_a_training_that_runs_beside_it(page, training, tmp_path):
    done = make_run(tmp_path / "done", seed=1, shapes=((2, 4),))
    folder = tmp_path / "notebooks"
    folder.mkdir()
    write_notebook(folder / "look.ipynb", [cell(training.path, done.path)])
    with lab(folder) as address:
        open_notebook(page, address, "look.ipynb")
        run_all(page)
        page.wait_for_selector(".fv-dashboard[data-seq]")
        page.locator(".fv-dashboard").scroll_into_view_if_needed()
        begun = len(training.rows)
        assert BEGUN <= begun < EPOCHS
        wait_until(lambda: shown(page) == begun)
        assert shown(page, run=1) == 3
        assert [points(page, 0), points(page, 1)] == [begun, 3]
        follow(page, training, begun + 4)
        read_by_mouse_and_keys(page, training)
        settled(page)
        assert page.evaluate(OVERLAPS) == []

        training.go_on()
        page.wait_for_function("() => document.querySelector('.fv-progress td:last-child').textContent"
                               ".startsWith('finished after')")  # fmt: skip
        assert finish(training.process)[0] == 0
        wait_until(lambda: ask_kernel(page, "dashboard.finished, dashboard.following") == "True False")
        assert points(page, 0) == EPOCHS
        ask_kernel(page, "dashboard.close()")
        page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        page.close()  # before its server goes, which it would complain about


def follow(page, training, epochs: int) -> None:
    """Let the training write more epochs; curves, values and filters follow without a key or a click."""
    training.until(epochs)
    rows = training.rows
    wait_until(lambda: shown(page) == len(rows))
    settled(page)
    assert points(page, 0) == len(rows)
    assert points(page, 1) == 3
    name = f"{training.path.parent.name}/{training.path.name}"
    assert legend(page, "scores")[0] == (name, f"{rows[-1]['top1']:.4g}")
    saved = Run(training.path).filter_epochs()
    row = "document.querySelector('.fv-level-row')"
    page.wait_for_function(f"(n) => {row}.querySelectorAll('.fv-cell canvas[data-seq]').length === n", arg=len(saved))
    newest = page.locator(".fv-level-row").first.locator(".fv-cell figcaption").last
    assert newest.inner_text() == str(saved[-1])


def read_by_mouse_and_keys(page, training) -> None:
    """The first epoch is read under the mouse, and an arrow key chooses the one before the newest."""
    rows = training.rows
    box = page.locator(LINES).bounding_box()
    page.mouse.move(box["x"] + 47, box["y"] + box["height"] / 2)
    page.wait_for_function("() => document.querySelector('.fv-read').textContent.startsWith('Values after epoch 1 of')")
    assert legend(page, "scores")[0][1] == f"{rows[0]['top1']:.4g}"
    assert legend(page, "scores")[1][1] == "51"  # the other run's
    page.mouse.move(0, 0)
    page.focus(LINES)
    page.keyboard.press("ArrowLeft")
    wait_until(lambda: ask_kernel(page, "dashboard.epoch") == str(len(rows) - 1))
    assert page.locator(".fv-read").inner_text() == f"Values after epoch {len(rows) - 1} of {len(rows)}."
    page.keyboard.press("n")
    wait_until(lambda: ask_kernel(page, "dashboard.epoch") == "0")
