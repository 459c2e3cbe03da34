"""The reference of the documentation, written from the code: methods, fields of a recipe, public names, commands."""

import ast
import csv
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import docstring_parser
import yaml

import famkd
import famviz
from famkd import losses
from famkd.command_line.parse import flags_of
from famkd.config.builtin import builtin_recipes
from famkd.config.recipe import Recipe
from famkd.config.sections import data_options, data_section, method_section
from famkd.data import DATA
from famkd.methods import METHODS

COSTS = Path(__file__).parents[1] / "docs" / "method_costs.csv"
LOSSES = {"crd": "crd_nce"}  # functions of famkd.losses that are not called as their method is
SIGNS = {"Ge": "at least", "Gt": "above", "Le": "at most", "Lt": "below"}
SECTIONS = {each.name: each.default_factory for each in fields(Recipe) if isinstance(each.default_factory, type)}


def methods_page() -> str:
    """Every method: what it computes, its source, its options, its weight for each pair, and what it costs."""
    parts = [METHODS_INTRO, costs_table(), *(_method(name) for name in METHODS)]
    return "\n\n".join(parts) + "\n"


METHODS_INTRO = """# Methods

This page is written from the code. The loss of a method is
`weight` x its losses + `task_weight` x the student's own loss; methods that are joined by + are summed.

Weights of pairs are those of the recipes that come with famkd. Where a recipe names none, the default counts.

Costs are of resnet56 -> resnet20 at 32 px and 64 images a step: the parameters that the method trains beside the
student, and its matrix products and convolutions in a forward pass for one image, next to those of the two networks.
Element-wise operations and Fourier transforms are not counted. `python tools/method_costs.py` writes these figures. For
times on your machine: `famkd bench RECIPE --method METHOD`."""


def _method(name: str) -> str:
    method = METHODS[name]
    described = docstring_parser.parse(inspect.getdoc(method) or "", docstring_parser.DocstringStyle.GOOGLE)
    lines = [f"## {name}", _paragraphs(described.description or "")]
    lines += [_formula(name), _needs(method), _option_table(method_section(name)), _weights_of_pairs(name), _cost(name)]
    return "\n\n".join(filter(None, lines))


def _formula(name: str) -> str:
    """The loss as a sentence and as the code that computes it."""
    known = LOSSES.get(name, name)
    function = getattr(losses, known, None) or METHODS[name].forward
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    if function is METHODS[name].forward:
        return f'??? note "Code of the loss"\n\n{_indented(_fenced(source))}'
    text = inspect.getdoc(function) or ""
    sentence = text.split("\n\nArgs:")[0]
    where = re.search(r"Source: .*", text, re.DOTALL)
    parts = [f"**Loss** (`famkd.losses.{known}`): {_paragraphs(sentence)}"]
    if where:
        parts.append(f"**Source:** {' '.join(where[0].removeprefix('Source: ').split())}")
    parts.append(f'??? note "Code of the loss"\n\n{_indented(_fenced(source))}')
    return "\n\n".join(parts)


def _needs(method: type) -> str:
    wants = {"logits": "logits", "stages": "the map after each stage", "preact": "these maps before their activation",
             "embed": "the input of the classifier", "last": "the last map"}  # fmt: skip
    needed = ", ".join(wants[each] for each in method.wants.split("+"))
    notes = [f"**Compares:** {needed}."]
    if method.relates_images:
        notes.append("It compares the images of a step with one another.")
    if not method.takes_mixed:
        notes.append("It cannot learn from mixed images (mixup, cutmix).")
    return " ".join(notes)


def _option_table(section: type) -> str:
    return _table(("option", "value", "default", "what it does"), _rows(section, flags_of(section)))


def _rows(section: type, flags: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    helps = help_of(section)
    for name, flag in flags.items():
        if name == flag.name:
            yield f"`{name}`", kind_of(flag.hint), _default(flag.default), helps.get(name, "")


def _weights_of_pairs(name: str) -> str:
    rows = []
    for recipe, tree in _recipes().items():
        own = tree.get(name)
        if own or name in str(tree.get("method", "")).split("+"):
            chosen = ", ".join(f"{key} {value}" for key, value in (own or {}).items())
            rows.append((f"`{recipe}`", chosen or "defaults"))
    if not rows:
        return "No recipe has a value of its own for this method: the defaults count."
    table = _table(("recipe", "its options"), rows)
    return f'??? note "Options for each pair ({len(rows)} recipes)"\n\n{_indented(table)}'


@cache
def _recipes() -> dict[str, dict[str, Any]]:
    return {name: yaml.safe_load(path.read_text()) for name, path in builtin_recipes().items()}


@cache
def costs() -> dict[str, dict[str, str]]:
    """The row of each method in docs/method_costs.csv."""
    with COSTS.open(newline="") as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def _cost(name: str) -> str:
    row = costs().get(name)
    if row is None:
        return ""
    return f"**Cost:** {int(row['parameters']):,} trained parameters; {float(row['mflop']):.1f} MFLOP an image."


def costs_table() -> str:
    """The costs of all methods."""
    rows = [(f"[{n}](#{n})", f"{int(r['parameters']):,}", f"{float(r['mflop']):.1f}") for n, r in costs().items()]
    return _table(("method", "trained parameters", "MFLOP an image"), rows)


def recipe_page() -> str:
    """Every field of a recipe, with its type, range, default and help."""
    own = {name: flag for name, flag in flags_of(Recipe).items() if "." not in name and name == flag.name}
    parts = [RECIPE_INTRO, "## Top level", _table(FIELD_HEADS, _rows(Recipe, own))]
    for name, section in SECTIONS.items():
        parts += [f"## {name}", _paragraphs(inspect.getdoc(section) or "")]
        parts.append(_table(FIELD_HEADS, _rows(section, flags_of(section))))
    for name in DATA:
        own = set(data_options(name))
        kind = data_section(name)
        rows = list(_rows(kind, {key: flag for key, flag in flags_of(kind).items() if key in own}))
        described = docstring_parser.parse(inspect.getdoc(getattr(DATA[name], "func", DATA[name])) or "")
        parts += [f"## data: {name}", _paragraphs(described.short_description or "")]
        parts += [_table(FIELD_HEADS, rows)] if rows else ["It has no options of its own."]
    return "\n\n".join(filter(None, parts)) + "\n"


FIELD_HEADS = ("field", "value", "default", "what it does")
RECIPE_INTRO = """# Fields of a recipe

This page is written from the code. A recipe is a YAML file; each field is also a flag: `optim.lr` is `--optim.lr`.
A recipe contains only what differs from the defaults. Each method has a section of its own: see
[Methods](methods.md)."""


def help_of(section: type) -> dict[str, str]:
    """The help of each field of a dataclass: the string under it, or its entry in the docstring of the class."""
    found: dict[str, str] = {}
    for each in reversed(section.__mro__[:-1]):
        found |= _attribute_help(each)
        doc = docstring_parser.parse(each.__doc__ or "", docstring_parser.DocstringStyle.GOOGLE)
        found |= {item.arg_name: " ".join((item.description or "").split()) for item in doc.params}
    return found


def _attribute_help(kind: type) -> dict[str, str]:
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0].body  # pyright: ignore
    except (OSError, TypeError):  # made by make_dataclass
        return {}
    found = {}
    for field, text in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            found[field.target.id] = " ".join(str(text.value.value).split())  # pyright: ignore
    return found


def kind_of(hint: Any) -> str:
    """A type in words: "number at least 0", "kd, at or sp", "words"."""
    if get_origin(hint) is Annotated:
        kind, *metadata = get_args(hint)
        limits = [f"{SIGNS[type(item).__name__]} {_limit(item)}" for item in metadata if type(item).__name__ in SIGNS]
        return " ".join([kind_of(kind), " and ".join(limits)]).strip()
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return ", ".join(f"`{choice}`" if choice != "" else "nothing" for choice in inner)
    if origin is tuple:
        return f"list: {kind_of(inner[0])}"
    if origin in (Union, UnionType):
        return " or ".join(kind_of(each) for each in inner if each is not NoneType)
    return {bool: "yes or no", int: "whole number", float: "number", str: "text"}.get(hint, str(hint))


def _limit(item: Any) -> str:
    value = next(getattr(item, name) for name in ("ge", "gt", "le", "lt") if hasattr(item, name))
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _default(value: Any) -> str:
    if value in ("", ()) or value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"`{' '.join(map(str, value)) if isinstance(value, tuple) else value}`"


def recipes_page() -> str:
    """Every recipe that comes with famkd, with its first comment and its text."""
    parts = ["# Recipes\n\nThis page is written from the recipes that come with famkd: `famkd train NAME`."]
    for name, path in builtin_recipes().items():
        parts.append(f"## {name}\n\n{_fenced(path.read_text(), 'yaml')}")
    return "\n\n".join(parts) + "\n"


def names_page(package: ModuleType) -> str:
    """A page that has mkdocstrings document every public name of a package."""
    title = package.__name__
    intro = " ".join((inspect.getdoc(package) or "").split("\n\n")[0].split())
    parts = [f"# {title}\n\n{intro}"]
    for name in sorted(package.__all__, key=str.lower):
        place = place_of(package, name)
        if place:
            parts.append(f"## {title}.{name}\n\n::: {place}")
    for name, place in sorted(getattr(package, "_MODULES", {}).items()):
        parts.append(f"## {title}.{name}\n\n::: {title}.{place}")
    return "\n\n".join(parts) + "\n"


def place_of(package: ModuleType, name: str) -> str:
    """Where a public name is defined, such as famkd.layers.fourier.FAM; "" for a module."""
    value = getattr(package, name)
    if inspect.ismodule(value) and not callable(value):
        return ""
    if inspect.ismodule(value):  # famkd.distill is a package that can be called
        return f"{package.__name__}.own_loop.{name}"
    homes = getattr(package, "_HOMES", {})
    home = homes.get(name) or inspect.getmodule(inspect.unwrap(value)).__name__  # pyright: ignore
    return f"{home}.{name if name in homes else inspect.unwrap(value).__name__}"


def commands_page() -> str:
    """The usage of both programs."""
    from famkd.cli import USAGE
    from famviz.cli import USAGE as VIZ

    parts = ["# Commands\n\nThis page is written from the code. `famkd COMMAND --help` has every flag."]
    parts += [f"## {name}\n\n{_fenced(text, 'text')}" for name, text in (("famkd", USAGE), ("famviz", VIZ))]
    return "\n\n".join(parts) + "\n"


def pages() -> dict[str, str]:
    """Every generated page of the reference by its path in the site."""
    return {
        "reference/methods.md": methods_page(),
        "reference/recipe.md": recipe_page(),
        "reference/recipes.md": recipes_page(),
        "reference/commands.md": commands_page(),
        "reference/famkd.md": names_page(famkd),
        "reference/losses.md": names_page(import_module("famkd.losses")),
        "reference/famviz.md": names_page(famviz),
    }


def _table(heads: tuple[str, ...], rows: Any) -> str:
    lines = [_row(heads), "|" + "---|" * len(heads), *(_row(row) for row in rows)]
    return "\n".join(lines)


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _fenced(text: str, language: str = "python") -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def _indented(text: str) -> str:
    return textwrap.indent(text, "    ")
