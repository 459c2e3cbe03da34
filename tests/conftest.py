"""What several files of tests share: a few real images, a small recipe, real processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from famkd.config.load import Recipe, load_recipe

ROOT = Path(__file__).parents[1]
SMALL = """# a small student on a few digits
student: {model: resnet8x0.5}
data: {name: npz, batch_size: 16}
optim: {epochs: 3, lr: 0.05, steps: [2]}
"""


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Sums over several threads differ in the last bit, and CI has two cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory) -> Path:
    """An .npz of 48 + 32 real scans of the digits 0, 1 and 2, grey, 8 x 8."""
    from sklearn.datasets import load_digits

    scans = load_digits()
    kept = scans.target < 3
    x, y = (scans.images[kept] * (255 / 16)).round().astype(np.uint8), scans.target[kept]
    path = tmp_path_factory.mktemp("data") / "few.npz"
    np.savez(path, x_train=x[:48], y_train=y[:48], x_test=x[48:80], y_test=y[48:80])
    return path


@pytest.fixture
def small(tmp_path, few_digits, monkeypatch):
    """A directory of one's own to stand in, with small.yaml; called with flags it answers the recipe."""
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(SMALL.replace("batch_size", f"root: {few_digits}, batch_size"))

    def load(*flags: str) -> Recipe:
        return load_recipe("small.yaml", *flags)

    return load


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "120"}


def start(*arguments: str, **options) -> subprocess.Popen:
    """A real `python ARGUMENTS`, its output captured as text; it hears SIGINT even if the tests' own shell does not."""
    return subprocess.Popen(
        [sys.executable, *arguments], env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **options,
    )  # fmt: skip


@pytest.fixture
def python():
    """Run `python ARGUMENTS` to its end: exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        process = start(*arguments)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    return run


@pytest.fixture
def background():
    """Start `python ARGUMENTS` and leave it running; what still runs when the test ends is killed."""
    started = []

    def run(*arguments: str) -> subprocess.Popen:
        started.append(start(*arguments))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()
