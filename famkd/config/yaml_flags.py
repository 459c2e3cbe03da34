"""YAML files of settings with the line of each, and settings as command-line flags."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from famkd.errors import UserError, inert, one_line

MOST_BYTES = 1 << 15  # size limit of a recipe or a sweep; the longest built-in one has 800 bytes

# Names that may become flags: not the parser's own flags, which print and write files.
SETTING = re.compile(r"(?!help$|tyro[-_])[a-z][\w.-]*", re.ASCII)
NULL = re.compile(r"|~|null|Null|NULL")  # YAML's words for no value, where they are not in quotes

# What YAML's own messages mean, by a part of them.
MEANT = {
    r"'\t'": "indent with spaces, not with tabs",
    "could not find expected ':'": "write `name: value`, with a space after the colon",
    "mapping values are not allowed here": "check the indentation, the space after each colon, and the quotes around "
    "values that contain `: `",
}


class YamlFile(NamedTuple):
    """What a YAML file holds: tables, lists and texts, with None for no value."""

    path: Path
    text: str
    tree: Any
    lines: dict[str, int]  # line of each setting, counted from 1, by dotted name

    def place(self, setting: str) -> str:
        """The file, and the line of a setting where it is known."""
        line = self.lines.get(setting)
        return f"{self.path}, line {line}" if line else str(self.path)


def read_yaml(path: Path, what: str = "recipe") -> YamlFile:
    """Read a YAML file with every scalar as a text; UserError, with the line, if it is not valid.

    Refused are aliases, because a few lines of them can expand to gigabytes, duplicate keys and control characters.
    Tags are ignored, so that none can create an object.
    """
    try:
        if os.path.getsize(path) > MOST_BYTES:
            raise ValueError(f"it is larger than {MOST_BYTES:,} bytes")
        text = path.read_text(encoding="utf-8-sig")
        lines: dict[str, int] = {}
        root = yaml.compose(_plain_spaces(text), Loader=_NoAliases)
        return YamlFile(path, text, None if root is None else _plain(root, "", lines), lines)
    except FileNotFoundError as error:
        raise UserError(f"There is no {what} {path}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"Cannot read the {what} {path}: it is no text in UTF-8, save it as such.") from error
    except RecursionError as error:
        raise UserError(f"Cannot read the {what} {path}: it is nested too deeply.") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"Cannot read the {what} {path}{line}: {_meaning(error)}.") from error
    except (OSError, ValueError, OverflowError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise UserError(f"Cannot read the {what} {path}: {reason}.") from error


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def as_flags(tree: Mapping[str, Any]) -> list[str]:
    """Nested settings, every scalar a text, as command-line flags. Settings without a value are left out."""
    flags: list[str] = []
    for name, value in flatten(tree).items():
        if not SETTING.fullmatch(name):
            raise UserError(f"{name[:60]!r} is not the name of a setting: see famkd train RECIPE --help.")
        if isinstance(value, list):
            flags += [f"--{name}", *_items(name, value)]
        elif value is not None:
            flags.append(f"--{name}={value}")
    return flags


class _NoAliases(yaml.SafeLoader):
    """Composes nodes of tables, lists and scalars only, and no aliases."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(
                problem=f"*{event.anchor} stands for another value: write the value out", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)


def _plain(node: yaml.Node, name: str, lines: dict[str, int]) -> Any:
    """A node as a table, a list, a text or None; the lines of its settings are added to `lines`."""
    if isinstance(node, yaml.MappingNode):
        return _table(node, name, lines)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, name, {}) for item in node.value]
    assert isinstance(node, yaml.ScalarNode)
    text = node.value
    if text != inert(text):
        raise _at(node, f"{inert(text)[:60]!r} holds characters that cannot be printed: leave them out")
    return None if node.style is None and NULL.fullmatch(text) else text


def _table(node: yaml.MappingNode, name: str, lines: dict[str, int]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise _at(key_node, "the name of a setting is one word")
        key = str(_plain(key_node, "", {}) or "")
        dotted = f"{name}.{key}" if name else key
        line = key_node.start_mark.line + 1
        if dotted in lines:
            raise _at(key_node, f"{dotted!r} is set twice, first in line {lines[dotted]}: keep one")
        lines[dotted] = line
        table[key] = _plain(value_node, dotted, lines)
    return table


def _at(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _meaning(error: yaml.MarkedYAMLError) -> str:
    """What is wrong, in words that say what to write where YAML's own do not."""
    problem = " ".join(str(error.problem or error).split())[:300]
    meant = next((words for part, words in MEANT.items() if part in problem), "")
    return f"{problem}; {meant}" if meant else problem


def _plain_spaces(text: str) -> str:
    """The text with a plain space for each tab that does not indent and for each no-break space."""
    text = re.sub(r"^[ \t\xa0]+$", "", text.replace("\xa0", " "), flags=re.MULTILINE)
    return re.sub(r"(?<=[^\s])[ \t]+", lambda found: " " * len(found[0]), text)


def _items(name: str, values: list) -> list[str]:
    """The items of a list; UserError for one that is no plain value or would be parsed as another flag."""
    for value in values:
        if not isinstance(value, str) or re.match(r"-[^\d.]", value):
            raise UserError(f"The setting {name} cannot hold {str(value)[:60]!r}: give plain words and numbers.")
    return values
