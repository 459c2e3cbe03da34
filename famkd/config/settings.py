"""The settings of a recipe file by their full names, and the line of each."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from famkd.command_line.parse import flags_of
from famkd.config.recipe import Recipe
from famkd.config.yaml_flags import YamlFile, flatten
from famkd.errors import RecipeError, UserError


class Settings(NamedTuple):
    """The settings of a recipe that have a value."""

    table: dict[str, Any]  # dotted name to a text or a list of texts
    places: dict[str, str]  # the same names to a file and a line
    source: str  # the file, or another name of where they come from

    def place(self, name: str) -> str:
        """Where a setting comes from."""
        return self.places.get(name, self.source)

    def section(self, name: str) -> dict[str, Any]:
        """The settings of a section by their own names."""
        prefix = f"{name}."
        return {key.removeprefix(prefix): value for key, value in self.table.items() if key.startswith(prefix)}

    def without(self, *names: str) -> "Settings":
        """The settings without some of them."""
        return self._replace(table={key: value for key, value in self.table.items() if key not in names})

    def error(self, name: str, text: str) -> RecipeError:
        """The error that a setting causes, with its place."""
        return RecipeError(text, name).in_file(self.place(name))


def settings_of(tree: Mapping[str, Any], source: str, file: YamlFile | None = None) -> Settings:
    """The settings of nested tables; short names such as `lr` become full ones.

    Errors: RecipeError for a setting that is given under two names.
    """
    short = {alias: flag.name for alias, flag in flags_of(Recipe()).items()}
    settings = Settings({}, {}, source)
    for written, value in flatten(tree).items():
        name = written.replace("-", "_")
        name = short.get(name, name)
        if value is None:
            continue
        place = file.place(written) if file else source
        if name in settings.table:
            raise RecipeError(f"{written} sets {name} again, after {settings.place(name)}: keep one").in_file(place)
        settings.table[name] = value
        settings.places[name] = place
    for key in ("name", "method", "task", "data.name"):
        _must_be_one_word(settings, key)
    return settings


def _must_be_one_word(settings: Settings, key: str) -> None:
    value = settings.table.get(key, "")
    if isinstance(value, list):
        cure = f"write `{key}: {'+'.join(map(str, value))}`" if key == "method" and value else f"as in `{key}: ...`"
        raise UserError(f"The setting {key} takes one word, not a list: {cure}.")
