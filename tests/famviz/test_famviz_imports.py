"""Which part of famviz may import which, of famviz and of famkd, read from the source."""

from pathlib import Path

import pytest
from test_imports import imports

import famviz

PACKAGE = Path(famviz.__file__).parent
FILES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
AT_ROOT = 10  # files at the root of famviz, at most

# Each part, the parts of famviz that it may import, and those of famkd besides errors. A part is a folder or a file at
# the root. filter.py is the class of a learned filter, which load.py builds.
MAY = {
    "spectra": ("", ""),
    "stored": ("", "files layers"),
    "survey": ("spectra stored", ""),
    "filter": ("spectra survey", ""),
    "released": ("filter", "layers models"),
    "load": ("filter released stored survey", "files run"),
    "networks": ("load", "config distill features models run tasks training"),
    "tables": ("", "tables"),
    "analysis": ("filter load networks spectra survey tables", "compare data distill features files layers run"),
    "figures": ("analysis filter load networks spectra", ""),
    "explorer": ("analysis figures filter load networks spectra tables", "run"),
    "report": ("analysis explorer figures filter load networks", "config run"),
    "lab": ("load", ""),
    "cli": ("lab report", "command_line"),
}
WHOLE = ("__init__.py", "__main__.py", "lab/look.py")  # the public names, the start, and a notebook as users see it
NEVER = {"cli", "sweep", "bench"}  # of famkd
FOR_DRAWING = {"matplotlib", "plotly", "ipywidgets", "anywidget", "IPython"}
WITHOUT_DRAWING = ("stored", "survey", "filter", "released", "load", "networks", "tables", "analysis", "lab", "cli")


def part(file: str) -> str:
    return file.split("/")[0].removesuffix(".py")


def parts_used(file: str, package: str) -> set[str]:
    """Parts of a package that a file imports, without its own."""
    names = [name.split(".") for name in imports(FILES[file]) if name.startswith(f"{package}.")]
    folder = Path(famviz.__file__).parents[1] / package
    used = {second for _, second, *_ in names if (folder / second).is_dir() or (folder / f"{second}.py").is_file()}
    return used - ({part(file)} if package == "famviz" else set())


@pytest.mark.parametrize("file", [file for file in FILES if file not in WHOLE])
def test_parts_import_only_what_they_may(file):
    own, theirs = MAY[part(file)]
    assert parts_used(file, "famviz") <= set(own.split())
    assert parts_used(file, "famkd") <= {"errors", *theirs.split()}


def test_the_table_goes_upwards_and_names_what_there_is():
    order = list(MAY)
    for name, (own, _) in MAY.items():
        assert all(order.index(other) < order.index(name) for other in own.split()), name
    assert set(order) == {part(file) for file in FILES if file not in WHOLE}


@pytest.mark.parametrize("file", FILES)
def test_no_part_imports_a_command_of_famkd(file):
    assert not parts_used(file, "famkd") & NEVER


@pytest.mark.parametrize("file", [file for file in FILES if part(file) in WITHOUT_DRAWING and file not in WHOLE])
def test_what_computes_imports_nothing_that_draws(file):
    assert not {name.split(".")[0] for name in imports(FILES[file])} & FOR_DRAWING


def test_analysis_loads_nothing_that_draws(python):
    names = [file for file in FILES if part(file) in ("analysis", "load", "networks")]
    modules = [f"famviz.{file.removesuffix('.py').removesuffix('/__init__').replace('/', '.')}" for file in names]
    # lightning_fabric imports torchmetrics where it is installed, which imports matplotlib
    code = "import importlib, sys\nsys.modules['torchmetrics'] = None\n"
    code += f"for name in {modules!r}: importlib.import_module(name)\n"
    code += f"print(sorted({FOR_DRAWING!r} & set(sys.modules)))"
    assert python("-c", code) == (0, "[]\n", "")


def test_the_root_stays_small():
    assert sum("/" not in file for file in FILES) <= AT_ROOT


@pytest.mark.parametrize(
    "name", ["answers", "plots", "cam", "features", "effect", "hover", "style", "report", "spectra"]
)
def test_public_modules_keep_their_names(name):
    assert getattr(famviz, name).__name__.startswith("famviz.")


def test_public_names_are_importable():
    assert all(callable(getattr(famviz, name)) for name in famviz.__all__)
    with pytest.raises(AttributeError, match="no attribute 'opne'"):
        _ = famviz.opne
