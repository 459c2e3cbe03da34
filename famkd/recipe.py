"""A recipe is a saved command line: file and flags -> Recipe -> file, through one parser."""

import inspect
import os
import re
from collections.abc import Mapping
from dataclasses import field, fields, make_dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path, PureWindowsPath
from typing import Any, get_type_hints

import tyro
import yaml

from famkd.errors import UserError, inert, nearest
from famkd.method import Method
from famkd.methods import METHODS
from famkd.schema import Data, Net, Optim, Recipe, split_methods  # noqa: F401  (the types are this module's too)

PLACE = ("accelerator", "devices", "nodes", "data.workers")  # fields that do not decide what comes out

MOST_BYTES = 1 << 15  # of a recipe or a sweep: the longest shipped one has 800

SETTING = re.compile(r"(?!help$|tyro[-_])[a-z][\w.-]*", re.ASCII)  # the parser's own flags print and write files

GRID = 16  # of filters in detection, whose maps differ in size from batch to batch and would fill a GPU's memory

LOOP_OPTIONS = {
    "weight": "Weight of this method's losses.",
    "task_weight": "Weight of the student's own loss beside it; of several methods the largest counts.",
    "warmup": "Epochs over which this method's weight rises linearly.",
}


def method_options(cls: type[Method]) -> dict[str, tuple[Any, Any]]:
    """Type and default of each keyword-only argument of a method: its config section."""
    hints = get_type_hints(cls.__init__)
    parameters = inspect.signature(cls.__init__).parameters.values()
    return {p.name: (hints[p.name], p.default) for p in parameters if p.kind is p.KEYWORD_ONLY}


def section_type(name: str) -> type:
    """The dataclass of a method's section: the loop's weights, then the method's own options."""
    cls = METHODS[name]
    loop = [(key, type(getattr(cls, key)), getattr(cls, key)) for key in LOOP_OPTIONS]
    own = [(key, hint, default) for key, (hint, default) in method_options(cls).items()]
    section = make_dataclass(f"{cls.__name__}Options", loop + own, frozen=True)
    summary, _, rest = inspect.cleandoc(cls.__doc__ or "").partition("\nArgs:")
    helps = "".join(f"\n    {key}: {text}" for key, text in LOOP_OPTIONS.items())
    section.__doc__ = f"{summary.splitlines()[0]}\n\nArgs:{helps}{rest}"
    return section


@cache
def recipe_type(methods: tuple[str, ...]) -> type[Recipe]:
    """`Recipe` with a section for each chosen method."""
    sections = [(name, (kind := section_type(name)), field(default_factory=kind)) for name in methods]
    return make_dataclass("Recipe", sections, bases=(Recipe,), frozen=True, namespace={"__doc__": Recipe.__doc__})


def load_recipe(source: str | Path, *flags: str) -> Recipe:
    """Read a shipped recipe by name or a YAML file by path, with command-line flags on top.

    Errors: UserError for an unknown recipe or an unreadable file; an unknown or ill-typed field, in the file as in
    the flags, ends the process with exit code 2 and the parser's own words, as a command line does.
    """
    path, name = find_recipe(str(source))
    return parse_recipe(_read_yaml(path), list(flags), name=name, prog=f"famkd train {source}")


def parse_recipe(tree: dict, flags: list[str], *, name: str, prog: str = "famkd train RECIPE") -> Recipe:
    """One frozen recipe from nested settings and flags; the flags win."""
    tree = {"name": name, **tree}
    for key in ("name", "method", "task"):
        if not isinstance(tree.get(key, ""), str):
            raise UserError(f"The setting {key} is one word, as in `{key}: ...`, not a list or a table.")
    names = split_methods(_chosen(flags, "method") or tree.get("method", "none"))
    for unknown in [n for n in names if n not in METHODS]:
        raise UserError(f"There is no method {unknown!r}.{nearest(unknown, METHODS)} See `famkd ls methods`.")
    if len(set(names)) < len(names):
        raise UserError(f"The method {'+'.join(names)} names one method twice: pass each once and raise its weight.")
    if (_chosen(flags, "task") or tree.get("task")) == "detection":
        filtered = [name for name in names if "grid" in method_options(METHODS[name])]
        tree |= {name: {"grid": str(GRID), **_section(tree, name)} for name in filtered}
    chosen = {key: value for key, value in tree.items() if key in names or key not in METHODS}
    recipe = tyro.cli(recipe_type(names), args=[*as_flags(chosen), *flags], prog=prog, use_underscores=True)
    if not _names_a_folder(recipe.name):
        raise UserError(
            f"{recipe.name[:60]!r} cannot name a folder of runs: pass --name with a short path without `..`."
        )
    return recipe


def read_yaml(path: Path, what: str = "recipe") -> Any:
    """What a YAML file says, every scalar a string; UserError where it is none, or more than a setting needs.

    Aliases, which can make gigabytes of a few lines, keys that are given twice, and characters that a terminal would
    obey are refused. Tags mean nothing here, so none can make an object.
    """
    try:
        if os.path.getsize(path) > MOST_BYTES:
            raise ValueError(f"it is larger than {MOST_BYTES:,} bytes")
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Plain)
    except RecursionError as error:
        raise UserError(f"Cannot read the {what} {path}: it nests too deep.") from error
    except (OSError, ValueError, OverflowError, yaml.YAMLError) as error:
        raise UserError(f"Cannot read the {what} {path}: {' '.join(str(error).split())[:300]}") from error


def without_teacher(recipe: Recipe) -> Recipe:
    """The same student under the same protocol, taught by nobody."""
    kept = {f.name: getattr(recipe, f.name) for f in fields(Recipe)}
    return recipe_type(())(**kept | {"teacher": Net(), "method": "none", "baseline": False})


def shipped_recipes() -> dict[str, Path]:
    """Every recipe in the package: name to file."""
    root = Path(str(files("famkd") / "recipes"))
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.rglob("*.yaml"))}


def find_recipe(source: str) -> tuple[Path, str]:
    """File and name of a recipe given by shipped name, by path, or by the directory of a run made from it."""
    shipped = shipped_recipes()
    if source in shipped:
        return shipped[source], source
    path = Path(source)
    if os.path.isfile(path / "recipe.yaml"):  # unlike Path's own, it takes a name that is too long as missing
        path = path / "recipe.yaml"
    if os.path.isfile(path):
        return path, path.stem
    raise UserError(f"There is no recipe or file {source!r}.{nearest(source, shipped)} See `famkd ls recipes`.")


def differences(one: Recipe, other: Recipe) -> list[str]:
    """Dotted names of the fields in which two recipes differ, those aside that say where to run."""
    ours, theirs = flatten(one.to_dict()), flatten(other.to_dict())
    keys = (ours.keys() | theirs.keys()) - set(PLACE)
    return sorted(key for key in keys if ours.get(key) != theirs.get(key))


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def as_flags(tree: dict, prefix: str = "") -> list[str]:
    """Nested settings, every scalar a string, as the flags that say the same."""
    flags: list[str] = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if not SETTING.fullmatch(name):
            raise UserError(f"{name[:60]!r} is no name of a setting: see famkd train RECIPE --help.")
        if isinstance(value, dict):
            flags += as_flags(value, f"{name}.")
        elif value in ("true", "false"):
            parent, _, leaf = name.rpartition(".")
            flags.append(f"--{name}" if value == "true" else f"--{parent}{'.' if parent else ''}no_{leaf}")
        else:
            flags += [f"--{name}", *_values(name, value if isinstance(value, list) else [value])]
    return flags


def _chosen(flags: list[str], field: str) -> str | None:
    chosen = None
    for flag, value in zip(flags, [*flags[1:], ""]):
        if flag == f"--{field}":
            chosen = value
        elif flag.startswith(f"--{field}="):
            chosen = flag.partition("=")[2]
    return chosen


class _Plain(yaml.BaseLoader):
    """Tables, lists and strings, each written where it stands."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"*{self.peek_event().anchor} stands for another value: write the value out")
        return super().compose_node(parent, index)

    def construct_scalar(self, node: yaml.Node) -> str:
        text = super().construct_scalar(node)
        if text != inert(text):
            raise yaml.YAMLError(f"{inert(text)[:60]!r} holds characters that cannot be printed: leave them out")
        return text

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict:
        table = super().construct_mapping(node, deep)
        keys = [self.construct_object(key) for key, _ in node.value]
        if len(table) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise yaml.YAMLError(f"{twice!r} is set twice in one table: keep one")
        return table


def _read_yaml(path: Path) -> dict:
    tree = read_yaml(path)
    if tree is not None and not isinstance(tree, dict):
        raise UserError(f"The recipe {path} is not a table of settings: write lines like `seed: 1`.")
    return tree or {}


def _section(tree: dict, name: str) -> dict:
    section = tree.get(name) or {}
    if not isinstance(section, dict):
        raise UserError(f"The section {name} of the recipe is a table of options, as in `{name}: {{weight: 1}}`.")
    return section


def _names_a_folder(name: str) -> bool:
    """Whether a name leads to a folder under the one it is put in, on any system."""
    path = PureWindowsPath(name)  # which takes both kinds of slash for one
    inside = path.parts and not path.anchor and ".." not in path.parts
    return bool(inside) and inert(name) == name and max(map(len, path.parts)) <= 100


def _values(name: str, values: list) -> list[str]:
    """Values as they stand behind a flag; UserError for one that would be read as another flag, or is no value."""
    for value in values:
        if not isinstance(value, str) or re.match(r"-[^\d.]", value):
            raise UserError(f"The setting {name} cannot hold {str(value)[:60]!r}: give plain words and numbers.")
    return values
