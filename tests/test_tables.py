"""Tables as text, Markdown, CSV and HTML."""

import csv
import io

from famkd.tables import write_table


def test_cells_of_csv_are_read_back_as_they_were():
    cells = ["-1.5", "+0.25 [-1.00, +1.50]", "a,b", 'say "a"', "a|b", "", "=1"]
    assert list(csv.reader(io.StringIO(write_table("csv", cells, [cells])))) == [cells, cells]
