"""Search the filters of a level that is too large for a table by conditions on their figures."""

import operator
import re

import numpy as np

from famkd.errors import UserError
from famviz import spectra
from famviz.analysis.filters import LOWEST_ENERGY
from famviz.survey import Survey

NAMES = ("out", "in", "energy", "centroid", "bandwidth", "angle", "coherence")
CONDITION = re.compile(r"\s*([a-z]+)\s*(?:(<=|>=|<|>|=)\s*(-?[\d.]+)|\s(-?[\d.]+)\s*\.\.\s*(-?[\d.]+))\s*")
TESTS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "=": operator.eq}


def search(survey: Survey, text: str, by: int = 2, descending: bool = True, most: int = 2000) -> tuple[np.ndarray, int]:
    """Pairs (N, 2) of output and input channel that meet all conditions, and how many there are.

    Only input channels that are read count.

    Args:
        text: conditions between commas, such as "out = 3, centroid > 0.5, angle 30..60". Names may be abbreviated.
        by: position in `NAMES` of the column by which they are sorted.
        most: pairs that are returned, the first ones in this order.

    Errors: UserError for a condition that is not understood.
    """
    found = np.broadcast_to(survey.read[:, None], survey.columns.shape[1:])
    for part in filter(str.strip, text.lower().split(",")):
        found = found & _meets(survey, part)
    at = np.flatnonzero(found)
    values = np.broadcast_to(_column(survey, by), found.shape).ravel()[at]
    values = -values if descending else values
    if len(at) > most:
        first = np.argpartition(values, most - 1)[:most]
        first.sort()  # so that equal values stay in the order of their channels
    else:
        first = np.arange(len(at))
    order = first[np.argsort(values[first], kind="stable")]
    ins, outs = np.unravel_index(at[order], found.shape)
    return np.stack((outs, ins), 1), len(at)


def _meets(survey: Survey, part: str) -> np.ndarray:
    """Which filters meet one condition, something that broadcasts to (C_in, C_out)."""
    match = CONDITION.fullmatch(part)
    at = next((n for n, name in enumerate(NAMES) if match and name.startswith(match[1])), None)
    if match is None or at is None:
        raise UserError(f'"{part.strip()}" is not understood: write conditions such as out = 3, centroid > 0.5.')
    values, (_, sign, value, low, high) = _column(survey, at), match.groups()
    if sign:
        return TESTS[sign](values, float(value))
    return (values >= float(low)) & (values <= float(high))


def _column(survey: Survey, at: int) -> np.ndarray:
    """A column of the table, something that broadcasts to (C_in, C_out)."""
    ins, outs = survey.columns.shape[1:]
    if at < 2:
        return np.arange(outs)[None] if at == 0 else np.arange(ins)[:, None]
    column = survey.columns[at - 2]
    if at > 2:
        return column
    return spectra.decibel(np.sqrt(column), float(column.max(initial=0)) ** 0.5, LOWEST_ENERGY)
