"""How a file and command-line flags become a recipe: a recipe is a saved command line, read by one parser."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import field, fields, make_dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import Any

import tyro

from famkd.command_line.parse import flags_of, parse, parse_known
from famkd.config.builtin import find_recipe
from famkd.config.choice import CHOOSING, Choice, of_chosen, refuse_optim_flags, refuse_options_of_others
from famkd.config.plugins import import_plugins, require_imported
from famkd.config.recipe import HEADER, NOT_PART_OF_RESULT, Recipe, Teacher, split_methods
from famkd.config.sections import WEIGHT_OPTIONS, data_options, data_section, method_options, recipe_type
from famkd.config.settings import Settings, settings_of
from famkd.config.starter import starting_settings
from famkd.config.yaml_flags import YamlFile, as_flags, flatten, read_yaml
from famkd.data import DATA
from famkd.errors import RecipeError, UserError, inert, nearest
from famkd.methods import METHODS
from famkd.tasks import TASKS

# Fields that every recipe of version 0.1.0 named, whatever its data set was.
OLD_DATA_FIELDS = {"sides", "longest", "size", "splits", "workers", "gpu_decode"}


def load_recipe(source: str | Path, *flags: str, prog: str = "famkd train", own: type | None = None) -> Recipe:
    """Read a built-in recipe by name or a YAML file by path; flags override the file.

    Args:
        source: name or path; "" for a recipe of flags alone, whose method is fam_review where a teacher is named.
        prog: the command that the help text names.
        own: a dataclass of flags that the command takes itself, for the help text and for hints.

    Errors: UserError for an unknown recipe, an unreadable file, or plug-ins in it that the flags do not name;
    RecipeError for an unknown field or a value of the wrong type, with the line of the file.
    """
    if not source:
        tree, name = starting_settings(list(flags), prog)
        return parse_recipe(tree, flags, name=name, prog=prog, own=own)
    path, name = find_recipe(str(source))
    file = read_yaml(path)
    return parse_recipe(_table(file), flags, name=name, prog=f"{prog} {source}", own=own, file=file)


def parse_recipe(
    tree: dict[str, Any],
    flags: Sequence[str],
    *,
    name: str,
    prog: str = "famkd train RECIPE",
    own: type | None = None,
    file: YamlFile | None = None,
) -> Recipe:
    """A recipe from nested settings and flags; flags override settings."""
    settings = settings_of(tree, str(file.path) if file else f"the recipe {name}", file)
    settings.table.setdefault("name", name)
    choice = _choose(settings, flags, prog)
    methods = known_methods(choice.method)
    _must_be_known("task", choice.task, TASKS)
    _must_be_known("data set", choice.data.name, DATA)
    settings = of_chosen(settings, methods, choice)
    settings = settings._replace(table=_task_defaults(choice.task, methods) | settings.table)
    refuse_options_of_others([*as_flags(settings.table), *flags], methods, choice.data.name)
    kind = recipe_type(methods, choice.data.name)
    recipe = _parse_with_defaults(kind, flags, _saved(kind, settings, prog), prog, own)
    refuse_optim_flags(flags, recipe.optim)
    if not _names_a_folder(recipe.name):
        raise UserError(
            f"{recipe.name[:60]!r} cannot name a folder of runs: pass --name with a short path without `..`."
        )
    return replace(recipe, method="+".join(methods) or "none")  # one spelling, since it names a folder too


def _saved(kind: type[Recipe], settings: Settings, prog: str) -> Recipe:
    """The recipe that the settings of a file give; RecipeError with the line of what is wrong."""
    _refuse_words_for_sections(kind, settings)
    try:
        return parse(kind, as_flags(settings.table), prog=prog)
    except RecipeError as error:
        raise error.in_file(settings.place(error.setting)) from None


def _refuse_words_for_sections(kind: type[Recipe], settings: Settings) -> None:
    """RecipeError for a section that holds a word instead of a table."""
    flags = flags_of(kind)
    for name, value in settings.table.items():
        inside = [flag.partition(".")[2] for flag in flags if flag.startswith(f"{name}.")]
        if inside:
            raise settings.error(name, f"{name} is a section: write `{name}: {{{inside[0]}: {value}}}`.")


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
    kept = {"batch_size": data.batch_size, "augment": data.augment, "classes": data.classes}
    changed = data_section(name)(name=name, root=root or data.root, **kept)
    return replace(recipe, data=changed)


def differences(one: Recipe, other: Recipe) -> list[str]:
    """Dotted names of the fields in which two recipes differ, except those that do not change the result."""
    ours, theirs = flatten(one.to_dict()), flatten(other.to_dict())
    keys = (ours.keys() | theirs.keys()) - {*NOT_PART_OF_RESULT, "plugins"}
    return sorted(key for key in keys if ours.get(key) != theirs.get(key))


def _table(file: YamlFile) -> dict[str, Any]:
    if file.tree is None:
        return {}
    if not isinstance(file.tree, dict):
        raise UserError(f"The recipe {file.path} is not a table of settings: write lines such as `seed: 1`.")
    if file.text.startswith(HEADER):
        _drop_old_data_fields(file.tree)
    return file.tree


def _drop_old_data_fields(tree: dict[str, Any]) -> None:
    """Leave out fields of other data sets, which a run of version 0.1.0 saved with their default values."""
    data = tree.get("data")
    if not isinstance(data, dict):
        return
    own = data_options(str(data.get("name", "")))
    for key in OLD_DATA_FIELDS - own.keys():
        data.pop(key, None)


def _choose(settings: Settings, flags: Sequence[str], prog: str) -> Choice:
    """The chosen methods, task and data set, once the plug-ins that the flags name are imported.

    A file alone never gets anything imported: whoever runs a recipe must name its plug-ins.
    """
    chosen = {key: settings.table[key] for key in CHOOSING if key in settings.table}
    choice, _ = parse_known(Choice, [*as_flags(chosen), *flags], prog=prog)
    import_plugins(choice.plugins)
    asked = settings.table.get("plugins", [])
    asked = asked if isinstance(asked, list) else [asked]
    if settings.section("plugins") or not all(isinstance(each, str) for each in asked):
        raise UserError("The setting plugins is a list of Python files, as in `plugins: [mine.py]`.")
    require_imported(asked)
    return choice


def known_methods(method: str) -> tuple[str, ...]:
    """Names of the methods in a sum; UserError for an unknown one and for one named twice."""
    names = split_methods(method)
    if "," in method:
        raise UserError(f"Several methods are joined by +: write {'+'.join(re.split(r'[, ]+', method))}.")
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


def _task_defaults(task: str, methods: tuple[str, ...]) -> dict[str, Any]:
    """The defaults of method options that the task changes, by full name."""
    defaults: dict[str, Any] = {}
    for name in methods:
        changed = TASKS[task].option_defaults([*method_options(METHODS[name]), *WEIGHT_OPTIONS])
        defaults |= {f"{name}.{key}": str(value) for key, value in changed.items()}
    return defaults


def _parse_with_defaults(
    kind: type[Recipe], flags: Sequence[str], saved: Recipe, prog: str, own: type | None
) -> Recipe:
    """Parse flags with a saved recipe as default, so that the help text shows the recipe's own values."""
    extra = [("training", tyro.conf.OmitArgPrefixes[own], field(default_factory=own))] if own else []
    shown = make_dataclass("Recipe", extra, bases=(kind,), frozen=True, namespace={"__doc__": kind.__doc__})
    parsed = parse(shown, flags, default=shown(**vars(saved)), prog=prog)
    return kind(**{each.name: getattr(parsed, each.name) for each in fields(kind)})


def _names_a_folder(name: str) -> bool:
    """Whether a name leads to a folder inside the one it is put in, on any system."""
    path = PureWindowsPath(name)  # it takes both kinds of slash as separators
    inside = bool(path.parts) and not path.anchor and ".." not in path.parts
    return inside and inert(name) == name and max(map(len, path.parts)) <= 100
