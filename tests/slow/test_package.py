"""The wheel and the sdist: what they hold, and a first hour with the wheel alone, without the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from helpers.processes import HANG

pytest.importorskip("build", reason="python -m build needs the package build")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
PACKAGES = ("famkd", "famviz")
IMPORT_ALL = """
import importlib, pkgutil, sys
for name in ("famkd", "famviz"):
    package = importlib.import_module(name)
    assert "site-packages" in package.__file__, package.__file__
    for each in pkgutil.walk_packages(package.__path__, f"{name}."):
        if not each.name.endswith("__main__") and each.name != "famviz.lab.look":  # the latter is a notebook
            importlib.import_module(each.name)
"""


def run(*command: str, folder: Path = ROOT) -> str:
    """Run a command without this checkout on Python's path; returns what it printed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=4 * HANG, env=environment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout + done.stderr


def tracked(*folders: str) -> set[str]:
    """Every file of some folders in the repository."""
    listed = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no git repository")
    return {*listed.stdout.split()}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Path]:
    """Wheel and sdist, made from a copy of the repository's files, in which no older build is left."""
    folder, source = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("source")
    for name in (*tracked(*PACKAGES), "pyproject.toml", "README.md", "LICENSE"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), folder=source)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def test_the_wheel_holds_every_file_of_the_packages_and_no_other(built):
    held = {name for name in zipfile.ZipFile(built[0]).namelist() if ".dist-info/" not in name}
    assert held == tracked(*PACKAGES)
    for suffix in (".yaml", ".js", ".css", ".html", ".csv", "py.typed"):
        assert any(name.endswith(suffix) for name in held), suffix


def test_the_sdist_holds_them_too(built):
    with tarfile.open(built[1]) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert tracked(*PACKAGES) | {"pyproject.toml", "README.md", "LICENSE"} <= held


def test_the_version_is_in_one_place(built):
    version = metadata.version("famkd")
    assert f"-{version}-" in built[0].name
    named = [path for path in [*ROOT.glob("*.toml"), *ROOT.glob("*.cff"), *(ROOT / "famkd").rglob("*.py")]
             if f'"{version}"' in path.read_text() or f"version: {version}" in path.read_text()]  # fmt: skip
    assert named == [ROOT / "pyproject.toml"]


@pytest.fixture(scope="module")
def python(built, tmp_path_factory) -> str:
    """Python of a new environment that holds the wheel, and the packages of this one but for the checkout."""
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", str(folder))
    python = str(folder / "bin" / "python")
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", str(built[0]), folder=folder)
    ours = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=folder).strip())
    # A .pth file is read after the environment's own folder, and the .pth files in the folder that it names are not.
    (ours / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_every_module_can_be_imported(python, tmp_path):
    run(python, "-c", IMPORT_ALL, folder=tmp_path)


def test_training_report_export_and_lists_without_the_checkout(python, tmp_path):
    program = str(Path(python).parent / "famkd")
    assert "quickstart" in run(program, "ls", "recipes", folder=tmp_path)
    out = run(program, "train", "quickstart", "--epochs", "1", "--no_baseline", folder=tmp_path)
    assert "last top-1 %" in out
    (trained,) = (tmp_path / "runs" / "quickstart").glob("fam_review-seed0")
    run(str(Path(python).parent / "famviz"), "report", str(trained), folder=tmp_path)
    assert (tmp_path / "report.html").read_text().count("<section") > 4
    assert "safetensors" in run(program, "export", str(trained), "--to", "safetensors", folder=tmp_path)
