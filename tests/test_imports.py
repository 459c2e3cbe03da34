"""Who may import whom, read from the source itself; and importing anything does nothing but define."""

import ast
from pathlib import Path

import pytest

import famkd

PACKAGE = Path(famkd.__file__).parent
FILES = {path.relative_to(PACKAGE.parent).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}

# Each part and the parts that it may import, besides errors. A part is a folder or a file at the root of famkd.
MAY = {
    "errors": "",
    "ranges": "",
    "command_line": "ranges",
    "files": "",
    "distributed": "",
    "console": "",
    "tables": "",
    "layers": "",
    "features": "",
    "models": "features files",
    "distill": "features distributed ranges",
    "methods": "distill layers distributed",
    "data": "distill distributed files",
    "tasks": "data distill distributed features models",
    "store": "data distill files",
    "config": "command_line data distill methods models ranges store tasks",
    "run": "config distributed files",
    "training": "config console data distill distributed features files layers methods models run store tasks",
    "losses": "methods",
    "own_loop": "config distill features methods ranges tasks training",
    "compare": "config files run tables",
    "bench": "config console data distill files layers run tables training",
    "evaluate": "config console data distill files methods models ranges run tables tasks training",
    "export": "distill evaluate features files models ranges run tasks training",
    "sweep": "bench command_line compare config console data distill evaluate files run store tables training",
}
NEVER = {
    "famviz",
    "plotly",
    "matplotlib",
    "ipywidgets",
    "anywidget",
    "pytorch_grad_cam",
    "pandas",
    "tests",
    "benchmarks",
}
ONLY_INSIDE = {
    "timm",
    "pycocotools",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "tensorboard",
    "wandb",
    "mlflow",
    "sklearn",
    "ray",
    "optuna",
}


def imports(path: Path, inside: bool = True) -> set[str]:
    """Dotted names that a file imports; without those inside functions if asked so."""
    found, waiting = set(), list(ast.parse(path.read_text()).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports by dots"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif not inside and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        waiting.extend(ast.iter_child_nodes(node))
    return found


def part(file: str) -> str:
    return file.removeprefix("famkd/").split("/")[0].removesuffix(".py")


def parts_used(file: str) -> set[str]:
    """Other parts of famkd that a file imports."""
    parts = {part(other) for other in FILES}
    used = {name.split(".")[1] for name in imports(FILES[file]) if name.startswith("famkd.")}
    return used & parts - {part(file)}  # `from famkd import thing` may name no part


@pytest.mark.parametrize("file", FILES)
def test_parts_import_only_what_they_may(file):
    own = part(file)
    if own in MAY:
        assert parts_used(file) <= {"errors", *MAY[own].split()}
    else:
        assert own in ("cli", "__init__", "__main__")


def test_the_table_goes_upwards_and_names_what_there_is():
    order = list(MAY)
    for own, others in MAY.items():
        assert all(order.index(other) < order.index(own) for other in others.split()), own
    assert set(order) <= {part(file) for file in FILES}


def test_no_part_imports_itself_by_a_detour():
    uses = {part(file): set() for file in FILES}
    for file in FILES:
        uses[part(file)] |= parts_used(file)
    while free := {own for own, others in uses.items() if not others & uses.keys()}:
        uses = {own: others for own, others in uses.items() if own not in free}
    assert uses == {}


@pytest.mark.parametrize("file", FILES)
def test_outside_packages(file):
    def packages(names):
        return {name.split(".")[0] for name in names}

    assert not packages(imports(FILES[file])) & NEVER
    assert not packages(imports(FILES[file], inside=False)) & ONLY_INSIDE


def test_the_walk_sees_what_it_should(tmp_path):
    path = tmp_path / "sample.py"
    path.write_text("import a.b\nif 1:\n    from c import d\nclass K:\n    def f(self):\n        import timm\n")
    assert imports(path) == {"a.b", "c", "c.d", "timm"}
    assert imports(path, inside=False) == {"a.b", "c", "c.d"}


def test_importing_everything_prints_nothing_and_loads_nothing_optional(python):
    modules = [file.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for file in FILES]
    # lightning_fabric imports torchmetrics where it is installed, which imports matplotlib
    code = "import sys, importlib\nsys.modules['torchmetrics'] = None\n"
    code += f"[importlib.import_module(name) for name in {modules!r}]\n"
    code += f"print(sorted(set(sys.modules) & {NEVER | ONLY_INSIDE!r}))"
    assert python("-c", code) == (0, "[]\n", "")
