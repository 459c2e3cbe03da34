"""One folder of runs for all notebooks of a test session, so that what one has trained the next finds."""

import os

import pytest


@pytest.fixture(scope="session")
def notebook_runs(tmp_path_factory):
    """The folder, already in the environment of kernels; FAMKD_RUNS names one that is kept."""
    kept = os.environ.get("FAMKD_RUNS")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads that wait for one another crawl where others work too
    os.environ["FAMKD_RUNS"] = folder = kept or str(tmp_path_factory.mktemp("runs"))
    yield folder
    if kept is None:
        del os.environ["FAMKD_RUNS"]
