"""YAML files of settings, and the same settings as command-line flags."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from famkd.errors import UserError, inert

MOST_BYTES = 1 << 15  # size limit of a recipe or a sweep; the longest built-in one has 800 bytes

# Names that may become flags: not the parser's own flags, which print and write files.
SETTING = re.compile(r"(?!help$|tyro[-_])[a-z][\w.-]*", re.ASCII)


def read_yaml(path: Path, what: str = "recipe") -> Any:
    """Read a YAML file with every scalar as a string; UserError if it is not valid.

    Refused are aliases, because a few lines of them can expand to gigabytes, duplicate keys and control characters.
    Tags are ignored, so that none can create an object.
    """
    try:
        if os.path.getsize(path) > MOST_BYTES:
            raise ValueError(f"it is larger than {MOST_BYTES:,} bytes")
        return yaml.load(path.read_text(encoding="utf-8"), Loader=StringLoader)
    except RecursionError as error:
        raise UserError(f"Cannot read the {what} {path}: it is nested too deeply.") from error
    except (OSError, ValueError, OverflowError, yaml.YAMLError) as error:
        raise UserError(f"Cannot read the {what} {path}: {' '.join(str(error).split())[:300]}") from error


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def as_flags(tree: dict, prefix: str = "") -> list[str]:
    """Nested settings, every scalar a string, as command-line flags."""
    flags: list[str] = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if not SETTING.fullmatch(name):
            raise UserError(f"{name[:60]!r} is not the name of a setting: see famkd train RECIPE --help.")
        if isinstance(value, dict):
            flags += as_flags(value, f"{name}.")
        elif value in ("true", "false"):
            parent, _, leaf = name.rpartition(".")
            flags.append(f"--{name}" if value == "true" else f"--{parent}{'.' if parent else ''}no_{leaf}")
        else:
            flags += [f"--{name}", *_values(name, value if isinstance(value, list) else [value])]
    return flags


class StringLoader(yaml.BaseLoader):
    """Loads tables, lists and strings only, and no aliases."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"*{self.peek_event().anchor} stands for another value: write the value out")
        return super().compose_node(parent, index)

    def construct_scalar(self, node: yaml.ScalarNode) -> str:
        text = super().construct_scalar(node)
        if text != inert(text):
            raise yaml.YAMLError(f"{inert(text)[:60]!r} holds characters that cannot be printed: leave them out")
        return text

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        table = super().construct_mapping(node, deep)
        keys = [self.construct_object(key) for key, _ in node.value]
        if len(table) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise yaml.YAMLError(f"{twice!r} is set twice in one table: keep one")
        return table


def _values(name: str, values: list) -> list[str]:
    """Values that follow a flag; UserError for one that is no plain value or would be parsed as another flag."""
    for value in values:
        if not isinstance(value, str) or re.match(r"-[^\d.]", value):
            raise UserError(f"The setting {name} cannot hold {str(value)[:60]!r}: give plain words and numbers.")
    return values
