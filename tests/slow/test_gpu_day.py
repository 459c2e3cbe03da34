"""benchmarks/gpu_day.py from end to end, with small networks, on whatever device there is."""

import csv
from pathlib import Path

import pytest
from helpers.processes import ROOT, finish

PARTS = ("parity", "pairs", "launches", "seeds", "store")
SCRIPT = str(ROOT / "benchmarks/gpu_day.py")


def rows(part: str) -> list[dict[str, str]]:
    with Path("day", f"{part}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_part_is_measured_once(tmp_path, monkeypatch, background):
    monkeypatch.chdir(tmp_path)
    command = (SCRIPT, "--tiny", "--out", "day", "--minutes", "60")
    for part in PARTS:  # one at a time, as a busy machine needs minutes for some of them
        code, out, err = finish(background(*command, "--parts", part))
        assert code == 0, out + err
    first, *others = rows("parity")
    assert (first["engine"], first["noise"], first["weights_apart"]) == ("eager", "0", "0")
    assert [row["engine"] for row in others][:2] == ["eager", "compile"]
    assert all(float(row["loss_apart"]) < 1e-4 for row in others)
    assert all(0 < float(row["weights_apart"]) < 0.1 for row in others)  # a wrong gradient: about 1
    assert len({row["pair"] for row in rows("pairs")}) == 7
    assert all(float(row["images_per_s"]) > 0 for row in rows("pairs"))
    assert all(int(row["a_step"]) > 0 for row in rows("launches"))
    assert [row["at_once"] for row in rows("seeds")] == ["1", "2"]
    assert [row["method"] for row in rows("store")] == ["kd", "fam_review"]
    before = {path: path.read_bytes() for path in Path("day").iterdir()}

    Path("day/store.done").unlink()  # as if time had been up before the end of this part
    code, out, err = finish(background(*command))
    assert code == 0, out + err
    assert "parity:" not in out
    assert "store:" in out
    assert {path: path.read_bytes() for path in Path("day").iterdir()} == before


def test_long_runs_need_the_data(python, tmp_path):
    code, _, err = python(SCRIPT, "--long", "--out", str(tmp_path))
    assert code == 1
    assert "pass --root" in err
