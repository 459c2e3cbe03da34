"""Tables of figures: what a cell says, as text and as HTML."""

import re

import numpy as np

import famviz

ROWS = [{"stage": "layer1", "count": 1234, "share": 0.123456}, {"stage": "layer2", "share": 98765.4, "far": None}]


def cells(table: famviz.Table) -> list[list[str]]:
    """Header and rows as HTML holds them."""
    lines = re.findall(r"<tr>(.*?)</tr>", table._repr_html_(), re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line, re.DOTALL) for line in lines]


def test_columns_are_those_of_all_rows_in_the_order_they_come():
    assert cells(famviz.Table(ROWS)) == [
        ["stage", "count", "share", "far"],
        ["layer1", "1,234", "0.123", ""],
        ["layer2", "", "98,765", ""],
    ]


def test_figures_keep_their_digits_but_never_lose_whole_ones():
    row = {"a": 0.00045678, "b": 1234.5, "c": -99.96, "d": np.float64(3.14159), "e": True, "f": float("nan")}
    assert cells(famviz.Table([row]))[1] == ["0.000457", "1,234", "-100", "3.14", "True", "\u2013"]
    assert cells(famviz.Table([row], digits=2))[1][:3] == ["0.00046", "1,234", "-100"]
    assert cells(famviz.Table([{"a": np.float32(0.5), "b": np.int64(12345)}]))[1] == ["0.5", "12,345"]


def test_rows_may_come_one_at_a_time_and_be_shown_twice():
    table = famviz.Table(row for row in ROWS)
    assert table._repr_html_() == table._repr_html_()
    text = repr(table).splitlines()
    assert [word in text[0] for word in ("stage", "count", "share", "far")] == [True] * 4
    assert "1,234" in repr(table)
    assert "layer2" in repr(table)


def test_what_a_cell_says_is_no_markup():
    table = famviz.Table([{"<b>": "<script>alert(1)</script>"}])
    assert "<script>" not in table._repr_html_()
    assert "&lt;script&gt;" in table._repr_html_()
    assert "<script>" in repr(table)


def test_without_rows_it_says_why():
    table = famviz.Table([], otherwise="Known on <bands> only.")
    assert repr(table) == "Known on <bands> only."
    assert table._repr_html_() == "<p>Known on &lt;bands&gt; only.</p>"
    assert repr(famviz.Table([])) == "There are no rows."
