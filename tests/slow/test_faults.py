"""The short list of the faults that `make faults` injects."""

import sys

import faults
import pytest

pytestmark = pytest.mark.slow
NAMES = [fault.name for fault in faults.few({})]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Results of a training without faults."""
    return faults.undisturbed(tmp_path_factory.mktemp("whole"))[0]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, mounts and signals of Linux")
@pytest.mark.parametrize("name", NAMES)
def test_a_training_survives(name, whole, tmp_path):
    faults.prepare(tmp_path)
    try:
        next(fault for fault in faults.few(whole) if fault.name == name).strike(tmp_path)
    except faults.Unavailable as why:
        pytest.skip(str(why))


def test_a_changed_figure_is_noticed(whole, tmp_path):
    """The comparison itself must be able to fail."""
    faults.prepare(tmp_path)
    faults.finish(tmp_path, tamper=None)
    faults.same(tmp_path, whole)
    row = (tmp_path / "run" / "metrics.jsonl").read_text()
    (tmp_path / "run" / "metrics.jsonl").write_text(row.replace("1", "2", 1))
    with pytest.raises(AssertionError, match=r"metrics\.jsonl'\] differ"):
        faults.same(tmp_path, whole)
