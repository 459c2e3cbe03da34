"""The notebooks: each .ipynb is its .py and nothing else, and each runs on runs that it trains itself."""

import os
import shutil
import time
from pathlib import Path

import nbformat
import pytest

import famkd
from notebooks import NOTEBOOKS, SOURCES, paired

pytest_plugins = ("helpers.notebook_runs",)
pytestmark = pytest.mark.slow

names = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
CELL_SECONDS = 600  # a cell may train a teacher on a starved machine; on two idle cores none takes a minute


def test_all_ten_are_there():
    assert [path.stem[:2] for path in SOURCES] == [f"{n:02d}" for n in range(1, 11)]
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == {path.stem for path in SOURCES}


@names
def test_the_pair_is_equal(source):
    path = source.with_suffix(".ipynb")
    assert path.read_text() == paired(source), "run python tools/notebooks.py"
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    assert book.metadata.kernelspec.name == "python3"
    assert not [cell for cell in book.cells if cell.get("outputs") or cell.get("execution_count")]


@names
def test_short_cells_and_no_path_of_one_machine(source):
    code = [cell.source for cell in nbformat.reads(paired(source), 4).cells if cell.cell_type == "code"]
    lines = [sum(map(bool, map(str.strip, cell.splitlines()))) for cell in code]
    assert max(lines) <= 18
    assert sum(count <= 12 for count in lines) > 0.75 * len(lines)
    assert not [bad for bad in ("/home/", "/work/", "/tmp/", "/Users/", "http://") if bad in source.read_text()]
    assert sum('RUN = ""' in cell for cell in code) == 1  # the one variable to point it at another run


def executed(source: Path, folder: Path, run: str = ""):
    """The notebook after all of its cells have run in a folder, on a run where one is named."""
    from nbclient import NotebookClient

    book = nbformat.reads(paired(source), 4)
    for cell in book.cells:
        cell.source = cell.source.replace('RUN = ""', f"RUN = {run!r}")
    NotebookClient(
        book, timeout=CELL_SECONDS, kernel_name="python3", store_widget_state=False,
        resources={"metadata": {"path": str(folder)}},
    ).execute()  # fmt: skip
    return book


def said(book) -> str:
    """All text that its cells put out."""
    outputs = [out for cell in book.cells for out in cell.get("outputs", [])]
    return "\n".join(out.get("text", "") or out.get("data", {}).get("text/plain", "") for out in outputs)


@pytest.mark.timeout(1800)
@names
def test_it_runs(source, notebook_runs, tmp_path, capsys):
    start = time.perf_counter()
    book = executed(source, tmp_path)
    with capsys.disabled():
        print(f" {source.stem}: {time.perf_counter() - start:.0f} s", end="", flush=True)
    assert "Traceback" not in said(book)  # a failing command in the terminal is no error of the cell
    assert not list(tmp_path.iterdir())  # whatever it writes goes into the folder of runs, or a temporary one
    if keep := os.environ.get("FAMKD_NOTEBOOKS_OUT"):
        nbformat.write(book, Path(keep) / f"{source.stem}.ipynb")


WORDS = {
    "02": "is no run with frequency filters", "03": "holds no frequency filter", "04": "kd makes no maps of its own",
    "05": "known on bands only", "08": "kd has no frequency filters", "09": "holds no frequency filter",
}  # fmt: skip


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", WORDS)
def test_what_a_run_without_filters_cannot_show_is_said_in_words(number, notebook_runs, tmp_path):
    source = next(path for path in SOURCES if path.stem.startswith(number))
    run = famkd.train(famkd.load_recipe("quickstart", "--method", "kd"), runs=notebook_runs, resume=True)
    book = executed(source, tmp_path, str(run.path))
    assert WORDS[number] in said(book)
    assert "Traceback" not in said(book)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", ["04", "05"])
def test_the_shipped_run_without_its_data_is_a_sentence_and_the_notebook_goes_on(number, notebook_runs, tmp_path):
    source = next(path for path in SOURCES if path.stem.startswith(number))
    shipped = Path("runs/cifar100/resnet56-resnet20/fam_review-seed0")
    run = shutil.copytree(NOTEBOOKS / shipped, tmp_path / shipped)
    words = said(executed(source, tmp_path, str(run)))
    assert "There is no file data/cifar100.npz" in words
    assert "This notebook shows bands/student instead." in words
    assert "On 3 seeds fam_review is" in words  # the answer, in the last cell
    assert "Traceback" not in words
