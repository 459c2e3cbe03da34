"""How a file and command-line flags become a recipe: a recipe is a saved command line, read by one parser."""

import contextlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, fields, make_dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import Any, TypeVar

import tyro

from famkd.config.builtin import find_recipe
from famkd.config.choice import Choice, of_chosen, optim_choice, refuse_optim_flags, refuse_options_of_others
from famkd.config.plugins import import_plugins, require_imported
from famkd.config.recipe import HEADER, NOT_PART_OF_RESULT, Recipe, Teacher, split_methods
from famkd.config.sections import data_options, data_section, method_options, recipe_type
from famkd.config.yaml_flags import as_flags, flatten, read_yaml
from famkd.data import DATA
from famkd.errors import RecipeError, UserError, inert, nearest
from famkd.methods import METHODS
from famkd.tasks import TASKS

Parsed = TypeVar("Parsed")

# Fields that every recipe of version 0.1.0 named, whatever its data set was.
OLD_DATA_FIELDS = {"sides", "longest", "size", "splits", "workers", "gpu_decode"}


def load_recipe(source: str | Path, *flags: str, prog: str = "famkd train", own: type | None = None) -> Recipe:
    """Read a built-in recipe by name or a YAML file by path; flags override the file.

    Args:
        prog: the command that the help text names.
        own: a dataclass of flags that the command takes itself, for the help text and for hints.

    Errors: UserError for an unknown recipe, an unreadable file, or plug-ins in it that the flags do not name;
    RecipeError for an unknown field or a value of the wrong type.
    """
    path, name = find_recipe(str(source))
    return parse_recipe(_read_table(path), flags, name=name, prog=f"{prog} {source}", own=own)


def parse_recipe(
    tree: dict[str, Any],
    flags: Sequence[str],
    *,
    name: str,
    prog: str = "famkd train RECIPE",
    own: type | None = None,
) -> Recipe:
    """A recipe from nested settings and flags; flags override settings."""
    tree = {"name": name, **tree}
    for key in ("name", "method", "task"):
        if not isinstance(tree.get(key, ""), str):
            raise UserError(f"The setting {key} takes one word, as in `{key}: ...`, not a list or a table.")
    choice = _choose(tree, flags, prog)
    methods = _known_methods(choice.method)
    _must_be_known("task", choice.task, TASKS)
    _must_be_known("data set", choice.data.name, DATA)
    tree = of_chosen(_with_task_defaults(tree, choice.task, methods), methods, choice)
    settings = as_flags(tree)
    refuse_options_of_others([*settings, *flags], methods, choice.data.name)
    kind = recipe_type(methods, choice.data.name)
    saved = parse(kind, settings, prog=prog, where=f"the recipe {name}")
    recipe = _parse_with_defaults(kind, flags, saved, prog, own)
    refuse_optim_flags(flags, recipe.optim)
    if not _names_a_folder(recipe.name):
        raise UserError(
            f"{recipe.name[:60]!r} cannot name a folder of runs: pass --name with a short path without `..`."
        )
    return replace(recipe, method="+".join(methods) or "none")  # one spelling, since it names a folder too


def parse(
    kind: type[Parsed], flags: Sequence[str], *, prog: str, default: Parsed | None = None, where: str = ""
) -> Parsed:
    """Parse flags into a dataclass; RecipeError, with the parser's own message as `box`, for what it refuses.

    `where` says where the flags come from, if not from the command line. `--help` prints and exits.
    """
    options: dict[str, Any] = {} if default is None else {"default": default}
    with _refusing(where):
        return tyro.cli(kind, args=list(flags), prog=prog, use_underscores=True, **options)


def parse_known(kind: type[Parsed], flags: Sequence[str], *, prog: str) -> tuple[Parsed, list[str]]:
    """Parse the flags that a dataclass has; return the others too, `--help` among them."""
    with _refusing():
        return tyro.cli(
            kind, args=list(flags), prog=prog, use_underscores=True, add_help=False, return_unknown_args=True
        )


@contextlib.contextmanager
def _refusing(where: str = "") -> Iterator[None]:
    """Turn the parser's exit into a RecipeError."""
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            yield
    except SystemExit as end:
        if not end.code:
            raise
        raise RecipeError(_sentence(box.getvalue(), where), box.getvalue()) from None


def without_teacher(recipe: Recipe) -> Recipe:
    """The same student under the same protocol, trained without a teacher."""
    kept = {each.name: getattr(recipe, each.name) for each in fields(Recipe)}
    changed = {"teacher": Teacher(), "method": "none", "baseline": False}
    return recipe_type((), recipe.data.name)(**kept | changed)


def with_data(recipe: Recipe, name: str = "", root: str = "") -> Recipe:
    """The recipe on another data set, or on the same one in another place."""
    if name in ("", recipe.data.name):
        return replace(recipe, data=replace(recipe.data, root=root or recipe.data.root))
    data = recipe.data
    changed = data_section(name)(name=name, root=root or data.root, batch_size=data.batch_size, augment=data.augment)
    return replace(recipe, data=changed)


def differences(one: Recipe, other: Recipe) -> list[str]:
    """Dotted names of the fields in which two recipes differ, except those that do not change the result."""
    ours, theirs = flatten(one.to_dict()), flatten(other.to_dict())
    keys = (ours.keys() | theirs.keys()) - {*NOT_PART_OF_RESULT, "plugins"}
    return sorted(key for key in keys if ours.get(key) != theirs.get(key))


def _read_table(path: Path) -> dict[str, Any]:
    tree = read_yaml(path)
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UserError(f"The recipe {path} is not a table of settings: write lines such as `seed: 1`.")
    if path.read_text(encoding="utf-8").startswith(HEADER):
        _drop_old_data_fields(tree)
    return tree


def _drop_old_data_fields(tree: dict[str, Any]) -> None:
    """Leave out fields of other data sets, which a run of version 0.1.0 saved with their default values."""
    data = tree.get("data")
    if not isinstance(data, dict):
        return
    own = data_options(str(data.get("name", "")))
    for key in OLD_DATA_FIELDS - own.keys():
        data.pop(key, None)


def _choose(tree: dict[str, Any], flags: Sequence[str], prog: str) -> Choice:
    """The chosen methods, task and data set, once the plug-ins that the flags name are imported.

    A file alone never gets anything imported: whoever runs a recipe must name its plug-ins.
    """
    data = tree.get("data")
    chosen = {key: tree[key] for key in ("method", "task") if key in tree}
    if isinstance(data, dict) and "name" in data:
        chosen["data"] = {"name": data["name"]}
    elif isinstance(data, str):
        chosen["data"] = {"name": data}
    optim = tree.get("optim")
    if isinstance(optim, dict):
        chosen["optim"] = optim_choice(optim)
    choice, _ = parse_known(Choice, [*as_flags(chosen), *flags], prog=prog)
    import_plugins(choice.plugins)
    asked = tree.get("plugins", [])
    asked = asked if isinstance(asked, list) else [asked]
    if not all(isinstance(each, str) for each in asked):
        raise UserError("The setting plugins is a list of Python files, as in `plugins: [mine.py]`.")
    require_imported(asked)
    return choice


def _known_methods(method: str) -> tuple[str, ...]:
    """Names of the methods in a sum; UserError for an unknown one and for one named twice."""
    names = split_methods(method)
    for name in names:
        _must_be_known("method", name, METHODS)
    if len(set(names)) < len(names):
        raise UserError(f"The method {'+'.join(names)} names one method twice: pass each once and raise its weight.")
    return names


def _must_be_known(kind: str, name: str, known: Mapping[str, Any]) -> None:
    if name in known:
        return
    where = {"method": " See `famkd ls methods`.", "data set": " See `famkd ls data`."}
    hint = nearest(name, known) + where.get(kind, f" There are {', '.join(known)}.")
    raise UserError(
        f"There is no {kind} {name!r}.{hint} If it is your own, name the file that registers it by --plugins."
    )


def _with_task_defaults(tree: dict[str, Any], task: str, methods: tuple[str, ...]) -> dict[str, Any]:
    """The settings, with the defaults of method options that the task changes."""
    sections: dict[str, Any] = {}
    for name in methods:
        defaults = TASKS[task].option_defaults(method_options(METHODS[name]))
        section = tree.get(name) or {}
        if not isinstance(section, dict):
            raise UserError(f"The section {name} of the recipe is a table of options, as in `{name}: {{weight: 1}}`.")
        if defaults:
            sections[name] = {key: str(value) for key, value in defaults.items()} | section
    return tree | sections


def _parse_with_defaults(
    kind: type[Recipe], flags: Sequence[str], saved: Recipe, prog: str, own: type | None
) -> Recipe:
    """Parse flags with a saved recipe as default, so that the help text shows the recipe's own values."""
    extra = [("training", tyro.conf.OmitArgPrefixes[own], field(default_factory=own))] if own else []
    shown = make_dataclass("Recipe", extra, bases=(kind,), frozen=True, namespace={"__doc__": kind.__doc__})
    parsed = parse(shown, flags, default=shown(**_values(saved)), prog=prog)
    return kind(**{each.name: getattr(parsed, each.name) for each in fields(kind)})


def _values(recipe: Recipe) -> dict[str, Any]:
    return {each.name: getattr(recipe, each.name) for each in fields(recipe)}


def _sentence(box: str, where: str) -> str:
    """The first paragraph of the parser's message, as one sentence."""
    plain = re.sub(r"\x1b\[[\d;]*m", "", box)
    lines = [line.strip("│| ") for line in plain.splitlines()[1:]]
    paragraph: list[str] = []
    for line in lines:
        if line.strip("─╰╯+- "):
            paragraph.append(line)
        elif paragraph:  # the rule that ends the paragraph, not one above it
            break
    text = " ".join(" ".join(paragraph).split())[:300].rstrip(".") or "The settings cannot be read"
    text = text[:1].upper() + text[1:]
    return f"In {where}: {text}." if where else f"{text}."


def _names_a_folder(name: str) -> bool:
    """Whether a name leads to a folder inside the one it is put in, on any system."""
    path = PureWindowsPath(name)  # it takes both kinds of slash as separators
    inside = bool(path.parts) and not path.anchor and ".." not in path.parts
    return inside and inert(name) == name and max(map(len, path.parts)) <= 100
