"""Rows of figures as a table: in a notebook by itself, elsewhere as text."""

from collections.abc import Iterable, Mapping

from famkd.formats import write_table


class Table:
    """Rows by column name, numbers rounded to `digits` significant digits but never shorter than whole."""

    def __init__(self, rows: Iterable[Mapping[str, object]], digits: int = 3):
        self.rows, self.digits = list(rows), digits

    def _written(self, form: str) -> str:
        header = list(dict.fromkeys(key for row in self.rows for key in row))
        words = sum(any(isinstance(row.get(key), str) for row in self.rows) for key in header[:2])
        cells = [[self._cell(row.get(key)) for key in header] for row in self.rows]
        return write_table(form, header, cells, [], left=max(1, words))

    def _cell(self, value: object) -> str:
        if value is None:
            return ""
        if not isinstance(value, float):
            return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
        return f"{value:.{self.digits}g}" if abs(value) < 10**self.digits else f"{value:,.0f}"

    def __repr__(self) -> str:
        return self._written("table")

    def _repr_html_(self) -> str:
        return self._written("html")
