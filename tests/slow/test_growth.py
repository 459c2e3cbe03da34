"""benchmarks/growth.py from end to end, with two small points of each quantity; its slopes on known numbers."""

import csv
import math
import sys
from pathlib import Path

import pytest
from helpers.processes import ROOT, finish

SCRIPT = str(ROOT / "benchmarks/growth.py")


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak memory of a process is read as on Linux"
)
@pytest.mark.slow
def test_every_quantity_is_measured_at_two_sizes(tmp_path, background):
    code, out, err = finish(background(SCRIPT, "--tiny", "--out", str(tmp_path)))
    assert code == 0, out + err
    assert {path.stem for path in tmp_path.iterdir()} == {"methods", "compare", "report", "explorer", "crd", "store"}
    rows = [row for path in tmp_path.iterdir() for row in csv.DictReader(path.read_text().splitlines())]
    assert all(float(row["seconds"]) > 0 for row in rows)
    quantities = {(row["name"], row["axis"]) for row in rows}
    assert len(rows) == 2 * len(quantities)
    assert sum(line.startswith("| ") for line in out.splitlines()) == len(quantities) + 1  # and a header
    images = [row for row in rows if row["part"] == "crd"]
    assert float(images[1]["mib"]) > float(images[0]["mib"])


def test_a_slope_is_that_of_the_two_largest_points(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    growth = pytest.importorskip("growth")
    try:
        assert growth.slope([1, 10, 100], [7.0, 3.0, 300.0]) == pytest.approx(2)
        assert growth.slope([2, 4], [5.0, 5.0]) == 0
        assert math.isnan(growth.slope([2, 4], [0.0, 5.0]))
        assert math.isnan(growth.slope([2, 4], [math.nan, 5.0]))
    finally:
        sys.modules.pop("growth", None)
        sys.modules.pop("growth_parts", None)
