"""A recipe is a saved command line: file and flags -> Recipe -> file, through one parser."""

import inspect
from dataclasses import field, fields, make_dataclass, replace
from functools import cache
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any, get_type_hints

import tyro
from annotated_types import Ge

from famkd.config.builtin import builtin_recipes, find_recipe  # noqa: F401
from famkd.config.plugins import import_plugins, must_be_imported, plugins_named
from famkd.config.recipe import Data, Net, Optim, Recipe, split_methods  # noqa: F401  (the types are this module's too)
from famkd.config.yaml_flags import as_flags, chosen, flatten, read_yaml
from famkd.distill.types import Method
from famkd.errors import UserError, inert, nearest
from famkd.methods import METHODS

NOT_PART_OF_RESULT = ("accelerator", "devices", "nodes", "data.workers")  # fields that do not decide what comes out

GRID = 16  # of filters in detection, whose maps differ in size from batch to batch and would fill a GPU's memory

LOOP_OPTIONS = {
    "weight": "Weight of this method's losses.",
    "task_weight": "Weight of the student's own loss beside it; of several methods the largest counts.",
    "warmup": "Epochs over which this method's weight rises linearly.",
}


def method_options(cls: type[Method]) -> dict[str, tuple[Any, Any]]:
    """Type and default of each keyword-only argument of a method: its config section."""
    hints = get_type_hints(cls.__init__, include_extras=True)
    parameters = inspect.signature(cls.__init__).parameters.values()
    return {p.name: (hints.get(p.name, type(p.default)), p.default) for p in parameters if p.kind is p.KEYWORD_ONLY}


def section_type(name: str) -> type:
    """The dataclass of a method's section: the loop's weights, then the method's own options."""
    cls = METHODS[name]
    loop = [(key, Annotated[type(getattr(cls, key)), Ge(0)], getattr(cls, key)) for key in LOOP_OPTIONS]
    own = [(key, hint, default) for key, (hint, default) in method_options(cls).items()]
    section = make_dataclass(f"{cls.__name__}Options", loop + own, frozen=True)
    summary, _, rest = inspect.cleandoc(cls.__doc__ or "Options of this method.").partition("\nArgs:")
    helps = "".join(f"\n    {key}: {text}" for key, text in LOOP_OPTIONS.items())
    section.__doc__ = f"{summary.rstrip()}\n\nArgs:{helps}{rest}"
    return section


@cache
def recipe_type(methods: tuple[str, ...]) -> type[Recipe]:
    """`Recipe` with a section for each chosen method."""
    sections = [(name, (kind := section_type(name)), field(default_factory=kind)) for name in methods]
    return make_dataclass("Recipe", sections, bases=(Recipe,), frozen=True, namespace={"__doc__": Recipe.__doc__})


def load_recipe(source: str | Path, *flags: str, beside: type | None = None) -> Recipe:
    """Read a shipped recipe by name or a YAML file by path, with command-line flags on top.

    `beside` is a dataclass of flags that a command takes itself: help and hints tell of them too.

    Errors: UserError for an unknown recipe, an unreadable file, or plug-ins in it that the flags do not name; an
    unknown or ill-typed field, in the file as in the flags, ends the process with exit code 2 and the parser's own
    words, as a command line does.
    """
    path, name = find_recipe(str(source))
    return parse_recipe(_read_table(path), list(flags), name=name, prog=f"famkd train {source}", beside=beside)


def parse_recipe(
    tree: dict, flags: list[str], *, name: str, prog: str = "famkd train RECIPE", beside: type | None = None
) -> Recipe:
    """One frozen recipe from nested settings and flags; the flags win."""
    tree = {"name": name, **tree}
    _import_plugins(tree, flags)
    for key in ("name", "method", "task"):
        if not isinstance(tree.get(key, ""), str):
            raise UserError(f"The setting {key} is one word, as in `{key}: ...`, not a list or a table.")
    method = chosen(flags, "method")
    names = _methods(tree.get("method", "none") if method is None else method)
    _must_be_of(names, flags)
    if (chosen(flags, "task") or tree.get("task")) == "detection":
        filtered = [name for name in names if "grid" in method_options(METHODS[name])]
        tree |= {name: {"grid": str(GRID), **_section(tree, name)} for name in filtered}
    settings = as_flags({key: value for key, value in tree.items() if key in names or key not in METHODS})
    kind = recipe_type(names)
    if beside or {"-h", "--help"} & {*flags}:
        recipe = _in_two_steps(kind, settings, flags, prog, beside)
    else:
        recipe = tyro.cli(kind, args=[*settings, *flags], prog=prog, use_underscores=True)
    if not _names_a_folder(recipe.name):
        raise UserError(
            f"{recipe.name[:60]!r} cannot name a folder of runs: pass --name with a short path without `..`."
        )
    return replace(recipe, method="+".join(names) or "none")  # it names a folder too, so however it was spaced


def without_teacher(recipe: Recipe) -> Recipe:
    """The same student under the same protocol, taught by nobody."""
    kept = {f.name: getattr(recipe, f.name) for f in fields(Recipe)}
    return recipe_type(())(**kept | {"teacher": Net(), "method": "none", "baseline": False})


def differences(one: Recipe, other: Recipe) -> list[str]:
    """Dotted names of the fields in which two recipes differ, those aside that say where to run or what to import."""
    ours, theirs = flatten(one.to_dict()), flatten(other.to_dict())
    keys = (ours.keys() | theirs.keys()) - {*NOT_PART_OF_RESULT, "plugins"}
    return sorted(key for key in keys if ours.get(key) != theirs.get(key))


def _read_table(path: Path) -> dict:
    tree = read_yaml(path)
    if tree is not None and not isinstance(tree, dict):
        raise UserError(f"The recipe {path} is not a table of settings: write lines like `seed: 1`.")
    return tree or {}


def _import_plugins(tree: dict, flags: list[str]) -> None:
    """Import what the flags name, which may be what the file asks for; the file alone gets nothing imported."""
    import_plugins(plugins_named(flags))
    asked = tree.get("plugins", [])
    asked = asked if isinstance(asked, list) else [asked]
    if not all(isinstance(each, str) for each in asked):
        raise UserError("The setting plugins is a list of Python files, as in `plugins: [mine.py]`.")
    must_be_imported(asked)


def _methods(method: str) -> tuple[str, ...]:
    """Names of the methods in a sum; UserError for an unknown one and for one named twice."""
    names = split_methods(method)
    for unknown in [n for n in names if n not in METHODS]:
        hint = nearest(unknown, METHODS)
        raise UserError(
            f"There is no method {unknown!r}.{hint} See `famkd ls methods`, or name the file that makes it your own "
            "with --plugins."
        )
    if len(set(names)) < len(names):
        raise UserError(f"The method {'+'.join(names)} names one method twice: pass each once and raise its weight.")
    return names


def _must_be_of(names: tuple[str, ...], flags: list[str]) -> None:
    """UserError for an option of a method that is not among the chosen ones."""
    for flag in flags:
        name, dot, _ = flag.partition("=")[0].removeprefix("--").replace("-", "_").partition(".")
        if flag.startswith("--") and dot and name in METHODS and name not in names:
            raise UserError(
                f"{name} is not among this run's methods ({'+'.join(names) or 'none'}): pass --method {name} or leave "
                f"{flag.partition('=')[0]} out."
            )


def _in_two_steps(kind: type[Recipe], settings: list[str], flags: list[str], prog: str, beside: type | None) -> Recipe:
    """The file's settings first and the flags on top of them, so that help shows what the file says."""

    def values(recipe: Recipe) -> dict[str, Any]:
        return {f.name: getattr(recipe, f.name) for f in fields(kind)}

    held = values(tyro.cli(kind, args=settings, prog=prog, use_underscores=True))
    own = [("training", tyro.conf.OmitArgPrefixes[beside], field(default_factory=beside))] if beside else []
    shown = make_dataclass("Recipe", own, bases=(kind,), frozen=True, namespace={"__doc__": kind.__doc__})
    return kind(**values(tyro.cli(shown, args=flags, default=shown(**held), prog=prog, use_underscores=True)))


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
