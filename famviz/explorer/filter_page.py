"""Everything that a page of the filter explorer starts with."""

from typing import Any, NamedTuple

import numpy as np

from famviz import spectra
from famviz.explorer import encode
from famviz.explorer.base import unique
from famviz.explorer.large_levels import LargeLevels
from famviz.explorer.pictures import coded_table, colour_tables
from famviz.filter import Filter
from famviz.load import LoadedRun


class PageData(NamedTuple):
    """What the page is told, and bytes by key."""

    meta: dict[str, Any]  # names of the runs, figures of their levels, colour tables
    whole: dict[str, bytes]  # base bytes of each level ("RUN.LEVEL.base"), and all filters of levels that fit
    rows: dict[str, bytes]  # filters of one output channel, by `encode.row_key`


def page_data(runs: list[LoadedRun], large: LargeLevels, budget: int, alone: bool = False, c_in: int = 0) -> PageData:
    """Everything that a page starts with: figures, whole levels, single rows, and filters as epochs kept them.

    Args:
        large: levels that stay in their files, of which it holds no bytes.
        budget: bytes of filters. A level that does not fit any more is sent one row at a time later.
        alone: for a page without a kernel, which can ask for nothing later: the strongest rows of levels that do not
            fit are included, and raw planes in the room that is left.
        c_in: the chosen input channel, whose filters such a page holds of large levels.
    """
    meta: dict[str, Any] = {
        "runs": unique([run.name for run in runs]),
        "levels": [],
        "tables": {**colour_tables(encode.TABLES), "complex": coded_table(spectra.hues())},
        "colormaps": list(encode.COLORMAPS),
        "alone": alone,
    }
    whole: dict[str, bytes] = {}
    left: list[_Rows] = []
    room = budget // 4 // max(1, sum(len(run.filters) for run in runs))
    for r, run in enumerate(runs):
        meta["levels"].append([])
        for at, each in enumerate(run.filters):
            key = f"{r}.{at}"
            if each.survey:
                meta["levels"][r].append(large.levels[key].figures())
                continue
            epochs, history = encode.history_of(run, each)
            figures, base = encode.level_data(each, epochs, history)
            meta["levels"][r].append(figures)
            whole[f"{key}.base"] = base
            whole[f"{key}.table"] = encode.table_bytes(each)
            kept = encode.kept_filters(each, history, figures["reference"], room)
            figures["kept"], whole[f"{key}.kept"] = kept
            budget -= len(base) + len(whole[f"{key}.table"]) + len(whole[f"{key}.kept"])
            figures["whole"] = encode.weight_bytes(each) <= budget
            if figures["whole"]:
                whole[key] = encode.weights(each, figures["reference"])
                budget -= len(whole[key])
            else:
                whole[f"{key}.wall"] = encode.strongest_weights(each, figures["reference"], whole[f"{key}.table"])
                budget -= len(whole[f"{key}.wall"])
                left.append(_Rows(key, each, figures["reference"], raw=False))
            if figures["raw"]:
                left.append(_Rows(key, each, figures["reference"], raw=True))
    rows = {**_strongest_rows(left, budget), **large.strongest_rows(budget, c_in)} if alone else {}
    return PageData(meta, whole, rows)


class _Rows(NamedTuple):
    """Rows of a level that a page does not hold yet."""

    key: str
    filter: Filter
    reference: float
    raw: bool


def _strongest_rows(left: list[_Rows], budget: int) -> dict[str, bytes]:
    """As many rows as fit into a budget: those that act first, raw planes last; within a level the strongest first."""
    rows = {}
    for each in sorted(left, key=lambda each: each.raw):
        size = encode.weight_bytes(each.filter, each.raw) // each.filter.channels[0]
        energies = each.filter.energy().sum(1)
        for row in map(int, np.argsort(energies)[::-1]):
            budget -= size
            if budget < 0:
                break
            rows[encode.row_key(each.key, row, each.raw)] = encode.weights(each.filter, each.reference, row, each.raw)
    return rows
