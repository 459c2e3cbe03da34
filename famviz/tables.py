"""Rows of figures as a table: HTML in a notebook, text elsewhere, a DataFrame where pandas is installed."""

import html
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from numbers import Integral, Real
from typing import Any

from famkd.tables import Format, write_table


def frame_of(rows: Iterable[Mapping[str, object]]) -> Any:
    """The rows as a pandas DataFrame, or as they are, a list of dicts, where pandas is not installed."""
    listed = [dict(row) for row in rows]
    if find_spec("pandas") is None:
        return listed
    import pandas

    return pandas.DataFrame(listed)


class Rows:
    """What has its figures as rows by column name."""

    def rows(self) -> list[dict[str, object]]:
        raise NotImplementedError

    def frame(self) -> Any:
        """The rows as a pandas DataFrame, or as a list of dicts where pandas is not installed."""
        return frame_of(self.rows())


class Table:
    """Rows by column name. `pandas.DataFrame(table)` and `table.frame()` hold every digit.

    Args:
        digits: significant digits of numbers; the digits before the decimal point are always kept.
        otherwise: what to show if there is no row.
    """

    def __init__(self, rows: Iterable[Mapping[str, object]], digits: int = 3, otherwise: str = "There are no rows."):
        self.rows, self.digits, self.otherwise = list(rows), digits, otherwise

    def __iter__(self) -> Iterator[Mapping[str, object]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def frame(self) -> Any:
        """The rows as a pandas DataFrame, or as a list of dicts where pandas is not installed."""
        return frame_of(self.rows)

    def _written(self, form: Format) -> str:
        header = list(dict.fromkeys(key for row in self.rows for key in row))
        cells = [[self._cell(row.get(key)) for key in header] for row in self.rows]
        words = [key for key in header[:2] if self._holds_words(key)]
        return write_table(form, header, cells, [], left=max(1, len(words)))

    def _holds_words(self, key: str) -> bool:
        return any(isinstance(row.get(key), str) for row in self.rows)

    def _cell(self, value: object) -> str:
        if value is None:
            return ""
        if value != value:  # NaN: there was nothing to measure
            return "\u2013"
        if isinstance(value, bool) or not isinstance(value, Real):
            return str(value)
        rounded = f"{value:.{self.digits}g}"
        whole = isinstance(value, Integral) or abs(float(rounded)) >= 10**self.digits
        return f"{value:,.0f}" if whole else rounded

    def __repr__(self) -> str:
        return self._written("table") if self.rows else self.otherwise

    def _repr_html_(self) -> str:
        return self._written("html") if self.rows else f"<p>{html.escape(self.otherwise)}</p>"
