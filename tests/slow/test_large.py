"""A filter of 2048 x 2048 channels is opened within 300 MB."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.processes import ROOT

MEASURE = """
import sys
from pathlib import Path
import growth_parts as parts
print("MiB", parts.Open(Path(sys.argv[1]))(2048).mib)
"""
DISK, MEMORY = 3 << 30, 12 << 30  # bytes, most of them to write the run


def free_memory() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak memory is read as on Linux")
def test_a_filter_of_940_mb_is_opened_within_300_mb(tmp_path):
    if shutil.disk_usage(tmp_path).free < DISK or free_memory() < MEMORY:
        pytest.skip("there is not enough room to write a filter of 940 MB")
    paths = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])
    found = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": paths}, cwd=tmp_path, capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    mib = float(found.stdout.rpartition("MiB ")[2])
    assert 0 < mib * 2**20 < 300e6
