"""A long training holds what it held at its beginning; `python tools/long_run.py` does the same for 2,000 epochs."""

import shutil
import sys

import long_run
import pytest

pytestmark = pytest.mark.slow


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_long_training_takes_no_more_with_time(tmp_path, few_digits):
    shutil.copy(few_digits, tmp_path / "few.npz")
    seen = long_run.watched(tmp_path, 80, 20, "--accelerator", "cpu")
    assert [row.epoch for row in seen] == [20, 40, 60, 80]
    first, last = seen[0], seen[-1]
    assert last[3:] == first[3:]  # files, threads, hooks, tensors: the very same number
    assert last.hooks > 0
    assert last.mib < first.mib + 8  # a leaked batch, or one of its graphs, would be far more in 60 epochs
