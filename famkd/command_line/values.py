"""One spelling for the values of settings, which people write in many ways: `True`, `yes`, `1.0`, `[1, 2]`, `~/data`.

A value is one or more words. Its type is an annotation such as `int`, `tuple[float, ...]` or `Annotated[str, PLACE]`.
"""

import os
import re
from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from famkd.errors import UserError, either, nearest

PLACE = "place"  # metadata of an annotation: the text is a path, in which `~` and `$NAME` are replaced

TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
NOTHING = ("none", "null", "~")
VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


def spelled(hint: Any, words: Sequence[str], default: Any = None) -> list[str]:
    """The words of a value as the parser takes them.

    Args:
        hint: the annotation of the setting.
        default: its default. For a text that is empty by default, `none` and `null` mean that.

    Errors: ValueError that says what the value must be.
    """
    kind, metadata = _plain(hint)
    if get_origin(kind) is tuple:
        items = get_args(kind)
        words = _listed(words, numbers=_plain(items[0])[0] in (int, float))
        if items[-1:] == (Ellipsis,):
            items = (items[0],) * len(words)
        if len(words) != len(items):
            raise ValueError(f"pass {len(items)} values")
        return [_one(*_plain(item), word) for item, word in zip(items, words)]
    if len(words) != 1:
        raise ValueError("pass one value")
    if kind is str and default == "" and words[0].lower() in NOTHING and not os.path.exists(words[0]):
        return [""]
    return [_one(kind, metadata, words[0])]


def is_list(hint: Any) -> bool:
    """Whether a setting takes several words."""
    return get_origin(_plain(hint)[0]) is tuple


def is_switch(hint: Any) -> bool:
    """Whether a setting is on or off."""
    return _plain(hint)[0] is bool


def as_bool(word: str) -> bool | None:
    """True or False for a word such as `yes`, in any case; None for any other word."""
    word = word.strip().lower()
    return True if word in TRUE else False if word in FALSE else None


def expanded(path: str) -> str:
    """A path with `~` and `$NAME` replaced; UserError for a variable that is not set.

    The name of an existing file is returned as it is.
    """
    if os.path.exists(path):
        return path
    prefix = "recipe:" if path.startswith("recipe:") else ""
    for plain, braced in VARIABLE.findall(path):
        name = plain or braced
        if name not in os.environ:
            raise UserError(f"The path {path} names ${name}, which is not set: set it, or write the path out.")
    return prefix + os.path.expandvars(os.path.expanduser(path.removeprefix(prefix)))


def _one(kind: Any, metadata: tuple[Any, ...], word: str) -> str:
    """One word of a value, spelled as its type asks."""
    if get_origin(kind) in (Union, UnionType):
        return _optional(kind, metadata, word)
    if get_origin(kind) is Literal:
        return _choice([str(choice) for choice in get_args(kind)], word)
    if kind is bool:
        if (value := as_bool(word)) is None:
            raise ValueError("pass true or false")
        return str(value)
    if kind is int:
        return str(_whole(word))
    if kind is float:
        return _number(word)
    return expanded(word) if PLACE in metadata else word


def _optional(kind: Any, metadata: tuple[Any, ...], word: str) -> str:
    """A word for `X | None`; a union of other types is left to the parser."""
    members = [member for member in get_args(kind) if member is not NoneType]
    if len(members) < len(get_args(kind)) and word.lower() in NOTHING:
        return "None"
    return _one(members[0], metadata, word) if len(members) == 1 else word


def _choice(choices: list[str], word: str) -> str:
    for choice in choices:
        if choice.lower() == word.strip().lower():
            return choice
    raise ValueError(f"pass {either(choices)}.{nearest(word, choices)}")


def _whole(word: str) -> int:
    try:
        return int(word)
    except ValueError:
        number = float(_number(word, "a whole number"))
    if not number.is_integer():
        raise ValueError("pass a whole number")
    return int(number)


def _number(word: str, what: str = "a number") -> str:
    try:
        float(word)
    except ValueError:
        raise ValueError(f"pass {what}") from None
    return word


def _listed(words: Sequence[str], numbers: bool) -> list[str]:
    """The items of a list that is written as words, with commas or in brackets."""
    if numbers:
        words = [part for word in words for part in word.split()]
    text = ",".join(words).strip()
    if text[:1] + text[-1:] in ("[]", "()"):
        text = text[1:-1]
    elif not any("," in word for word in words):
        return list(words)
    return [item for item in (part.strip().strip("'\"") for part in text.split(",")) if item]


def _plain(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type without its metadata, and the metadata."""
    if get_origin(hint) is Annotated:
        kind, *metadata = get_args(hint)
        return kind, tuple(metadata)
    return hint, ()
