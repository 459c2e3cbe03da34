"""The short half of the faults that `make faults` strikes and counts."""

import sys

import faults
import pytest

pytestmark = pytest.mark.slow
NAMES = [fault.name for fault in faults.short({})]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a training comes to that nothing happens to."""
    return faults.undisturbed(tmp_path_factory.mktemp("whole"))[0]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, mounts and signals of Linux")
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_lost_by(name, whole, tmp_path):
    faults.prepare(tmp_path)
    try:
        next(fault for fault in faults.short(whole) if fault.name == name).strike(tmp_path)
    except faults.Unavailable as why:
        pytest.skip(str(why))


def test_a_fault_that_is_not_survived_is_seen(whole, tmp_path):
    """The comparison itself: one figure of another run is enough."""
    faults.prepare(tmp_path)
    faults.finish(tmp_path, tamper=None)
    faults.same(tmp_path, whole)
    row = (tmp_path / "run" / "metrics.jsonl").read_text()
    (tmp_path / "run" / "metrics.jsonl").write_text(row.replace("1", "2", 1))
    with pytest.raises(AssertionError, match=r"metrics\.jsonl'\] differ"):
        faults.same(tmp_path, whole)
