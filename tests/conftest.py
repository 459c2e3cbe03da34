"""Fixtures that several folders of tests share: a few real images, a small recipe, real processes, real data."""

import collections
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.processes import finish, start

from famkd.config.load import Recipe, load_recipe
from famkd.models import build_model

SMALL = """# a small student on a few digits
student: {model: resnet8x0.5}
data: {name: npz, batch_size: 16}
optim: {epochs: 3, lr: 0.05, steps: [2]}
"""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test marked `sample(n)`, mark all cases as slow but n that are spread evenly over them."""
    cases = collections.defaultdict(list)
    for item in items:
        if marker := item.get_closest_marker("sample"):
            cases[item.nodeid.partition("[")[0], marker.args[0]].append(item)
    for (_, n), group in cases.items():
        kept = {round(i * (len(group) - 1) / max(n - 1, 1)) for i in range(n)}
        for number, item in enumerate(group):
            if number not in kept:
                item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Sums over several threads differ in the last bit, and threads of several processes slow each other down."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for subprocesses


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
def small(tmp_path, few_digits, monkeypatch) -> Callable[..., Recipe]:
    """Change into an empty directory that holds small.yaml; call it with flags to load that recipe."""
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(SMALL.replace("batch_size", f"root: {few_digits}, batch_size"))

    def load(*flags: str) -> Recipe:
        return load_recipe("small.yaml", *flags)

    return load


@pytest.fixture
def pair(small) -> Callable[..., Recipe]:
    """`small`, with an untrained teacher of another width in teacher.pt."""
    torch.manual_seed(5)
    torch.save(build_model("resnet8", 3).state_dict(), "teacher.pt")
    return small


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Find a file or folder under FAMKD_DATA, the folder of real data sets; skips the test where it is missing."""
    folder = os.environ.get("FAMKD_DATA", "")

    def find(name: str) -> Path:
        if not folder:
            pytest.skip("FAMKD_DATA does not name a folder of real data")
        path = Path(folder) / name
        if not path.exists():
            pytest.skip(f"there is no {name} under FAMKD_DATA")
        return path

    return find


@pytest.fixture
def python() -> Callable[..., tuple[int, str, str]]:
    """Run `python ARGUMENTS` to its end; returns exit code, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        return finish(start(*arguments))

    return run


@pytest.fixture
def background():
    """Start `python ARGUMENTS` and leave it running; what still runs when the test ends is killed."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str, **options: Any) -> subprocess.Popen[str]:
        started.append(start(*arguments, **options))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()
