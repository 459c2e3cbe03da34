"""What tests read of a filter explorer in a page."""

import numpy as np

STEP = 80 / 254 / 60 * 255  # one amplitude code, in entries of the colour table


def trait(page, name: str):
    return page.evaluate("(name) => window.famviz[0].get(name)", name)


def close(got: np.ndarray, wanted: np.ndarray, entries: float, table: np.ndarray) -> bool:
    """Whether colours differ by no more than a table changes over some entries."""
    slope = np.abs(np.diff(table, axis=0)).max() * 255
    return np.abs(got[..., :3].astype(float) - 255 * wanted).max() <= entries * slope + 1
