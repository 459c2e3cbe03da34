"""All levels of an explorer that stay in their files: what the page holds of them, and answers to its questions."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from famkd.errors import as_sentence
from famviz.analysis.filter_search import search
from famviz.explorer import encode
from famviz.explorer.large import LargeLevel
from famviz.explorer.page import Message
from famviz.load import LoadedRun

SECONDS = 0.8  # that a page waits at most for the next part of a survey
ROWS = 2000  # of the table in an answer
PAGE_ROWS = 20000  # of the table in a saved page


class LargeLevels:
    """The large levels of some runs by key, "RUN.LEVEL"."""

    def __init__(self, runs: list[LoadedRun]):
        self.levels = {
            f"{r}.{at}": LargeLevel(each, *encode.history_of(run, each))
            for r, run in enumerate(runs)
            for at, each in enumerate(run.filters)
            if each.survey
        }

    def figures(self) -> dict[str, Any]:
        """Figures of each level, by key."""
        return {key: level.figures() for key, level in self.levels.items()}

    def parts(self) -> dict[str, bytes]:
        """What a page holds of each level whatever is chosen: "KEY.base", the wall of the strongest and the history."""
        found = {}
        for key, level in self.levels.items():
            found[f"{key}.base"] = level.base_bytes()
            found[f"{key}.wall"] = level.set_bytes(*level.wall())
            found[f"{key}.kept"] = level.kept_bytes()
        return found

    def rows(self, keys: Iterable[str], c_out: int, c_in: int, with_output: bool) -> dict[str, bytes]:
        """Filters of the chosen channels: those of the input channel, and the strongest of the output channel.

        Args:
            with_output: whether those of the output channel are shown.
        """
        found = {}
        for key in keys:
            level = self.levels.get(key)
            if level is None or c_out >= level.filter.channels[0] or c_in >= level.filter.channels[1]:
                continue
            sets = {f"{key}.in{c_in}": level.of_input(c_in)}
            if with_output:
                sets[f"{key}.out{c_out}"] = level.of_pairs(level.strongest_of_output(c_out))
            found |= {name: level.set_bytes(*filters) for name, filters in sets.items()}
        return found

    def references(self) -> list[float]:
        """The amplitude of 0 dB of each level, which grows while it is read."""
        return [level.reference for level in self.levels.values()]

    def finish(self) -> None:
        """Read all levels to their ends."""
        for level in self.levels.values():
            level.survey.finish()

    def strongest_rows(self, budget: int, chosen: int) -> dict[str, bytes]:
        """Filters of the chosen and of the strongest input channels of each level, as many as fit into some bytes."""
        found: dict[str, bytes] = {}
        for key, level in self.levels.items():
            room = budget // len(self.levels)
            strongest = map(int, np.argsort(-level.survey.energy.sum(0), kind="stable"))
            first = [chosen] if chosen < level.filter.channels[1] else []
            for c_in in dict.fromkeys([*first, *strongest]):
                data = level.set_bytes(*level.of_input(c_in))
                room -= len(data)
                if room < 0:
                    break
                found[f"{key}.in{c_in}"] = data
        return found

    def messages(self) -> list[Message]:
        """The strongest rows of the table of each level, for a saved page."""
        return [self.found({"key": key, "search": "", "sort": [2, -1]}, PAGE_ROWS) for key in self.levels]

    def answer(self, question: dict[str, Any]) -> Message:
        """Read on in a level, or find rows of its table; or a message that says in a sentence why this failed."""
        try:
            if question["ask"] == "rows":
                return self.found(question)
            self.levels[question["key"]].survey.advance(SECONDS)
            return {"kind": "survey", "key": question["key"]}, []
        except Exception as error:  # a damaged file fails in any way; the page shows the reason
            return {
                "kind": question["ask"],
                "failed": as_sentence(error),
                "question": question,
                "key": question["key"],
            }, []

    def found(self, question: dict[str, Any], most: int = ROWS) -> Message:
        """Rows of the table that meet some conditions, the first ones in an order, of what is read of a level."""
        level = self.levels[question["key"]]
        column, direction = question["sort"]
        pairs, count = search(level.survey, str(question["search"]), int(column), int(direction) < 0, most)
        of = int(level.survey.read.sum()) * level.filter.channels[0]
        content = {"kind": "rows", "question": question, "count": count, "of": of, "shown": len(pairs)}
        return content, [level.rows_bytes(pairs)]
