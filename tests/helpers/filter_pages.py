"""Pages of the filter explorer, and what tests read of them."""

import numpy as np
import pytest
from helpers.famviz_runs import make_run

import famviz

STEP = 80 / 254 / 60 * 255  # one amplitude code, in entries of the colour table


def close(got: np.ndarray, wanted: np.ndarray, entries: float, table: np.ndarray) -> bool:
    """Whether colours differ by no more than a table changes over some entries."""
    slope = np.abs(np.diff(table, axis=0)).max() * 255
    return np.abs(got[..., :3].astype(float) - 255 * wanted).max() <= entries * slope + 1


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    return famviz.open([make_run(folder / "a").path, make_run(folder / "b", seed=1).path])


@pytest.fixture
def shown(page, runs, tmp_path):
    """A function that opens an explorer's page; the page itself, and the traits as the page holds them."""

    def show(source=None, budget=4 << 20, **traits):
        explorer = famviz.FilterExplorer(runs if source is None else source, **{"floor": -60, **traits})
        explorer.to_html(tmp_path / "page.html", budget=budget)
        page.goto(f"file://{tmp_path / 'page.html'}")
        page.wait_for_selector(".famviz[data-seq]")
        return explorer

    return show
