"""Scripts of benchmarks/ and tools/ end as the command line does: one sentence and exit code 2 for a wrong path."""

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WRONG = [
    ("benchmarks/truth/cost.py", "nowhere"),
    ("benchmarks/truth/mechanism.py", "nowhere"),
    ("benchmarks/truth/mechanism.py", "nowhere", "out"),
    ("benchmarks/truth/subset.py", "nowhere.npz", "out.npz"),
    ("benchmarks/against_released.py", "nowhere"),
    ("benchmarks/check_files.py", "nowhere"),
    ("benchmarks/coco_overfit.py", "--root", "nowhere"),
    ("benchmarks/loader.py", "nowhere"),
    ("benchmarks/memory.py", "nowhere.yaml"),
    ("benchmarks/store.py", "nowhere.yaml"),
    ("benchmarks/kernels.py", "--pair", "nowhere"),
]


@pytest.mark.sample(3)
@pytest.mark.parametrize("arguments", WRONG, ids=lambda each: " ".join(each))
def test_a_wrong_path_is_one_sentence(arguments, monkeypatch, capsys, tmp_path):
    code, out, err = run(arguments, monkeypatch, capsys, tmp_path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"{Path(arguments[0]).name}: ")
    assert "nowhere" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("script", ["tools/faults.py", "tools/long_run.py", "benchmarks/spectral.py"])
def test_a_wrong_flag_is_one_sentence(script, monkeypatch, capsys, tmp_path):
    code, out, err = run((script, "--shrot"), monkeypatch, capsys, tmp_path)
    assert (code, out) == (2, "")
    assert err.startswith(f"{Path(script).name}: --shrot is not a setting.")


def run(arguments, monkeypatch, capsys, folder: Path) -> tuple[object, str, str]:
    """Run a script in this process, which has imported what most of them import; exit code, stdout and stderr."""
    script, *rest = arguments
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [str(ROOT / script), *rest])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    return end.value.code, *capsys.readouterr()
