"""Flags become a dataclass or the arguments of a function; what cannot be read is told in one sentence.

tyro builds the parser from the annotations and prints the help. Before it reads the flags, each value gets the spelling
that tyro takes, so that `--baseline yes`, `--seed 1.0` and `--optim.steps 1,2` work too.
"""

import contextlib
import functools
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, fields, is_dataclass
from inspect import Parameter, cleandoc, signature
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import tyro

from famkd.command_line.other_names import OTHER_NAMES
from famkd.command_line.values import as_bool, is_list, is_switch, spelled
from famkd.errors import RecipeError, nearest
from famkd.ranges import check_ranges, check_values

Parsed = TypeVar("Parsed")


class Flag(NamedTuple):
    """A flag that a parser knows."""

    name: str  # dotted, where a dataclass holds it
    hint: Any  # its annotation
    default: Any


def parse(kind: type[Parsed], argv: Sequence[str], *, prog: str, default: Parsed | None = None) -> Parsed:
    """Parse flags into a dataclass. `--help` prints and exits.

    Args:
        default: an instance of the dataclass, whose values are the defaults.

    Errors: RecipeError, which names the setting, for a value of the wrong type or outside of its annotated range.
    """
    known = flags_of(kind)
    argv = normalised(argv, known)
    _refuse_unknown(argv, known, prog)
    options: dict[str, Any] = {} if default is None else {"default": default}
    with _refusing():
        parsed = tyro.cli(kind, args=argv, prog=prog, use_underscores=True, **options)
    check_ranges(parsed)
    return parsed


def parse_known(kind: type[Parsed], argv: Sequence[str], *, prog: str) -> tuple[Parsed, list[str]]:
    """Parse the flags that a dataclass has; return the others too, `--help` among them."""
    argv = normalised(argv, flags_of(kind))
    options: dict[str, Any] = {"add_help": False, "return_unknown_args": True}
    with _refusing():
        parsed, others = tyro.cli(kind, args=argv, prog=prog, use_underscores=True, **options)
    check_ranges(parsed)
    return parsed, others


def call(function: Callable[..., Parsed], argv: Sequence[str], *, prog: str) -> Parsed:
    """Call a function with the arguments on a command line. `--help` prints and exits.

    Errors: RecipeError where they cannot be read.
    """
    known = flags_of(function)
    argv = normalised(argv, known)
    _refuse_unknown(argv, known, prog)
    with _refusing():  # around the parser alone, not around the function
        bound = tyro.cli(_bound(function), args=argv, prog=prog, use_underscores=True)
    return _called(bound)


def call_known(function: Callable[..., Parsed], argv: Sequence[str], *, prog: str) -> tuple[Parsed, list[str]]:
    """`call` with the arguments that belong to the function; what it returns, and the other arguments."""
    argv = normalised(argv, flags_of(function))
    with _refusing():
        bound, others = tyro.cli(_bound(function), args=argv, prog=prog, use_underscores=True, return_unknown_args=True)
    return _called(bound), others


def _bound(function: Callable[..., Parsed]) -> Callable[..., functools.partial[Parsed]]:
    """A function of the same arguments that returns the call instead of making it."""

    @functools.wraps(function)
    def bind(*args: Any, **options: Any) -> functools.partial[Parsed]:
        return functools.partial(function, *args, **options)

    return bind


def _called(bound: functools.partial[Parsed]) -> Parsed:
    """Make a call, once its arguments are in their annotated ranges."""
    values = signature(bound.func).bind(*bound.args, **bound.keywords).arguments
    check_values(values, get_type_hints(bound.func, include_extras=True))
    return bound()


def flags_of(kind: Any) -> dict[str, Flag]:
    """The flags of a dataclass or a function, by name and by alias. Positional arguments are left out."""
    known: dict[str, Flag] = {}
    for flag in _flags(kind):
        known[flag.name] = flag
        for alias in _aliases(flag.hint):
            known[_name(alias)] = flag
    return known


def _flags(kind: Any) -> Iterator[Flag]:
    for name, hint, default in _members(kind):
        if is_dataclass(default):
            prefix = "" if tyro.conf.OmitArgPrefixes in _metadata(hint) else f"{name}."
            for flag in _flags(default):
                yield flag._replace(name=prefix + flag.name)
        else:
            yield Flag(name, hint, default)


def _members(kind: Any) -> Iterator[tuple[str, Any, Any]]:
    """Name, annotation and default of each field of a dataclass (a class or an instance), or of each argument."""
    if is_dataclass(kind):
        hints = get_type_hints(kind if isinstance(kind, type) else type(kind), include_extras=True)
        for each in fields(kind):
            if tyro.conf.Positional in _metadata(hints[each.name]):
                continue
            if not isinstance(kind, type):
                yield each.name, hints[each.name], getattr(kind, each.name)
            elif each.default_factory is not MISSING:
                yield each.name, hints[each.name], each.default_factory()
            else:
                yield each.name, hints[each.name], each.default
        return
    hints = get_type_hints(kind, include_extras=True)
    for each in signature(kind).parameters.values():
        if each.kind is not Parameter.POSITIONAL_ONLY:
            yield each.name, hints.get(each.name, str), each.default


def _aliases(hint: Any) -> list[str]:
    """Further names that an annotation gives a flag by `tyro.conf.arg`, whatever section holds it."""
    return [alias for item in _metadata(hint) for alias in getattr(item, "aliases", None) or ()]


def _metadata(hint: Any) -> tuple[Any, ...]:
    return get_args(hint)[1:] if get_origin(hint) is Annotated else ()


def normalised(argv: Sequence[str], known: dict[str, Flag]) -> list[str]:
    """The flags with every value spelled as the parser takes it. Flags that are not known are left alone.

    Errors: RecipeError for a value that its flag cannot have.
    """
    waiting, done = list(argv), []
    while waiting:
        word = waiting.pop(0)
        head, equals, value = word.partition("=")
        flag = known.get(_name(head)) if re.match("--|-.$", head) else None
        if flag is None:
            done.append(word)
        elif is_switch(flag.hint):
            done += _switch(flag, head, value if equals else _next_bool(waiting))
        else:
            values = [value] if equals else _values(flag, waiting)
            done += _spelled(flag, head, values)
    return done


def _name(head: str) -> str:
    return head.lstrip("-").replace("-", "_")


def _next_bool(waiting: list[str]) -> str:
    """Take the next word if it is true or false."""
    return waiting.pop(0) if waiting and as_bool(waiting[0]) is not None else "true"


def _switch(flag: Flag, head: str, word: str) -> list[str]:
    """A flag that is on or off, as `--name` or `--no_name`."""
    value = as_bool(word)
    if value is None:
        raise RecipeError(f"--{flag.name} is {word!r}: pass true or false.", flag.name)
    if value:
        return [head]
    return [off] if (off := off_form(flag)) else []


def off_form(flag: Flag) -> str:
    """`--no_NAME` of a flag that can be turned off in this way, else nothing."""
    return "" if tyro.conf.FlagCreatePairsOff in _metadata(flag.hint) else f"--{_off(flag.name)}"


def _values(flag: Flag, waiting: list[str]) -> list[str]:
    """Take the words that follow a flag: one, or for a list all up to the next flag."""
    taken: list[str] = []
    while waiting and not re.match(r"-[^\d.]", waiting[0]) and (is_list(flag.hint) or not taken):
        taken.append(waiting.pop(0))
    return taken


def _spelled(flag: Flag, head: str, words: list[str]) -> list[str]:
    if not words and not is_list(flag.hint):
        raise RecipeError(f"--{flag.name} needs a value.", flag.name)
    try:
        words = spelled(flag.hint, words, flag.default)
    except ValueError as error:
        raise RecipeError(f"--{flag.name} is {' '.join(words)!r}: {_ended(str(error))}", flag.name) from None
    if is_list(flag.hint):
        return [head, *words]
    long = head if head.startswith("--") else f"--{flag.name}"  # tyro 1.0.0 does not read -o=FILE
    return [f"{long}={words[0]}"]


def _refuse_unknown(argv: Sequence[str], known: dict[str, Flag], prog: str) -> None:
    """RecipeError for the first flag that is not known, with the nearest that is."""
    names = {*known, "help"}
    off = {*map(_off, known)}
    for word in argv:
        head, equals, _ = word.partition("=")
        name = _name(head)
        if name in names or name.startswith("tyro_") or (name in off and not equals):
            continue
        if word.startswith("--"):
            raise RecipeError(f"--{name} is not a setting.{did_you_mean(name, known)} See {prog} --help.", name)


def _off(name: str) -> str:
    """The name with which a flag is turned off."""
    parent, dot, leaf = name.rpartition(".")
    return f"{parent}{dot}no_{leaf}"


def did_you_mean(name: str, known: dict[str, Flag]) -> str:
    """Return " Did you mean --optim.lr?": what other programs call so, the same last word, or the nearest names."""
    if (other := OTHER_NAMES.get(name)) in known:
        return f" Did you mean --{other}?"
    leaf = name.rpartition(".")[2]
    same = [f"--{other}" for other in known if other.rpartition(".")[2] == leaf != other]
    return f" Did you mean {' or '.join(same[:3])}?" if same else nearest(f"--{name}", [f"--{n}" for n in known])


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Turn the parser's exit into a RecipeError with the first paragraph of its message."""
    box = io.StringIO()
    _join_lines_of_help()
    tyro._experimental_options["ansi_codes"] = not os.environ.get("NO_COLOR")  # tyro itself does not look at it
    try:
        with contextlib.redirect_stderr(box):
            yield
    except SystemExit as end:
        if not end.code:
            raise
        sentence = _sentence(box.getvalue())
        named = re.search(r"--([\w.-]+)", sentence)
        raise RecipeError(sentence, named[1] if named else "") from None


@functools.cache
def _join_lines_of_help() -> None:
    """Let the help run on where the docstring of a field has a line break: tyro keeps breaks before spaces.

    docstring_parser, which reads the fields for tyro, leaves the indentation of the source code in their docstrings.
    """
    from docstring_parser import attrdoc

    def value(node: Any) -> Any:
        return cleandoc(node.value) if isinstance(node.value, str) else node.value

    attrdoc.ast_get_constant_value = value


def _sentence(box: str) -> str:
    """The first paragraph of the parser's message, as one sentence."""
    plain = re.sub(r"\x1b\[[\d;]*m", "", box)
    lines = [line.strip("│| ") for line in plain.splitlines()[1:]]
    paragraph: list[str] = []
    for line in lines:
        if line.strip("─╰╯+- "):
            paragraph.append(line)
        elif paragraph:  # the rule that ends the paragraph, not one above it
            break
    text = " ".join(" ".join(paragraph).split())[:300] or "The settings cannot be read"
    if words := re.match("Unrecognized options: (.*)", text):
        return f"{words[1]!r} belongs to no flag: leave it out, or put a value with spaces in quotes."
    return _ended(text[:1].upper() + text[1:])


def _ended(text: str) -> str:
    return text if text.endswith("?") else f"{text.rstrip('.')}."
