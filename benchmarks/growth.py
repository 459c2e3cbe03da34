"""How time and memory grow with the size of what is worked on, as slopes in log-log.

python benchmarks/growth.py [--tiny] [--only methods compare ...] [--out benchmarks/results/growth]

Each point is measured in a process of its own, on one thread: processor seconds, and the most memory above what the
process held before. A slope of 1 means that twice as much takes twice as long. It is that of the two largest points,
where constant costs matter least. `expected` is the slope of the data: a dense filter has channels x channels weights,
and a map side x side pixels.
"""

import math
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, NamedTuple

import growth_parts as parts
import torch

from famkd.command_line.main import run_script
from famkd.errors import UserError
from famkd.files import write_csv
from famkd.run.environment import environment_info

Point = dict[str, Any]
Part = Literal["methods", "compare", "report", "explorer", "crd", "store"]


class Sweep(NamedTuple):
    """A quantity that grows: what is measured against what, and the slope of the data."""

    part: Part
    name: str
    axis: str
    measure: Callable[[int], parts.Measured]
    sizes: Sequence[int]
    tiny: Sequence[int]
    expected: float


def sweeps(place: Path) -> list[Sweep]:
    """Everything that is measured. Folders of runs are made below `place`."""
    found = []
    for method in ("fam", "fam_review"):
        for axis, sizes, tiny, expected in (
            ("side", (16, 32, 64, 128), (8, 16), 2),
            ("channels", (16, 32, 64, 128), (4, 8), 2),
            ("classes", (10, 100, 1000), (10, 20), 1),
            ("batch", (16, 32, 64, 128), (2, 4), 1),
        ):
            measure = parts.MethodStep(method, axis)
            found.append(Sweep("methods", method, axis, measure, sizes, tiny, expected))
    found += [
        Sweep("compare", "famkd compare", "runs", parts.Compare(place), (20, 200, 2000), (2, 4), 1),
        Sweep("report", "report", "runs", parts.Report(place, "runs"), (1, 2, 4), (1, 2), 1),
        Sweep("report", "report", "levels", parts.Report(place, "levels"), (2, 4, 8), (1, 2), 1),
        Sweep("explorer", "FilterExplorer", "channels", parts.Open(place), (128, 512, 2048), (4, 8), 2),
        Sweep("crd", "CRD", "images", parts.CrdMemory(), (50_000, 200_000, 1_300_000), (100, 200), 1),
        Sweep("store", "store of a teacher", "views", parts.Store(place), (1, 2, 4), (1, 2), 1),
    ]
    return found


def in_own_process(measure: Callable[[int], parts.Measured], size: int) -> parts.Measured:
    """The result of a call in a new process, so that no point inherits the memory of another."""
    context = get_context("fork")  # what was imported stays imported
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sending, measure, size))
    process.start()
    sending.close()
    try:
        return receiving.recv()
    except EOFError:
        raise UserError(f"{measure} of {size} ended without a result.") from None
    finally:
        process.join()


def _send(sending: Connection, measure: Callable[[int], parts.Measured], size: int) -> None:
    torch.set_num_threads(1)
    sending.send(measure(size))
    sending.close()


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope between the last two points in log-log; NaN if one of them is zero or not known."""
    (x0, x1), (y0, y1) = sizes[-2:], values[-2:]
    if not (y0 > 0 and y1 > 0):
        return math.nan
    return math.log(y1 / y0) / math.log(x1 / x0)


def measured(sweep: Sweep, tiny: bool) -> list[Point]:
    """The points of a sweep, and a line on standard error for each."""
    points = []
    for size in sweep.tiny if tiny else sweep.sizes:
        seconds, mib, size_mib = in_own_process(sweep.measure, size)
        point = {"part": sweep.part, "name": sweep.name, "axis": sweep.axis, "size": size}
        points.append({**point, "seconds": seconds, "mib": mib, "written_mib": size_mib})
        print(f"{sweep.name}, {sweep.axis} {size}: {seconds:.3f} s, {mib:.1f} MiB", file=sys.stderr, flush=True)
    return points


def table(found: list[tuple[Sweep, list[Point]]]) -> str:
    """A row for each sweep: its slopes, and its largest point."""
    rows = ["| of | against | expected | time | memory | written | largest point |", "|---|---|---|---|---|---|---|"]
    for sweep, points in found:
        sizes = [point["size"] for point in points]
        slopes = [slope(sizes, [point[key] for point in points]) for key in ("seconds", "mib", "written_mib")]
        cells = ["" if math.isnan(value) else f"{value:.2f}" for value in slopes]
        last = points[-1]
        largest = f"{last['size']:,}: {last['seconds']:.2f} s, {last['mib']:.0f} MiB"
        rows.append(f"| {sweep.name} | {sweep.axis} | {sweep.expected:g} | {' | '.join(cells)} | {largest} |")
    return "\n".join(rows)


def growth(tiny: bool = False, only: tuple[Part, ...] = (), out: Path = Path("benchmarks/results/growth")) -> None:
    """Measure how time and memory grow, print the slopes, and write a CSV file for each part.

    Args:
        tiny: two small points of each.
        only: parts to measure; by default all.
        out: folder of the CSV files.
    """
    out = out.resolve()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        wanted = [sweep for sweep in sweeps(Path(place)) if not only or sweep.part in only]
        found = [(sweep, measured(sweep, tiny)) for sweep in wanted]
    machine = environment_info("cpu")
    print(f"{machine['device']}, torch {machine['torch']}, Python {machine['python']}, one thread\n")
    print(table(found))
    for part in dict.fromkeys(sweep.part for sweep, _ in found):
        rows = [point for sweep, points in found if sweep.part == part for point in points]
        write_csv(out / f"{part}.csv", rows, digits=5)
    print(f"\nsaved in {out}, a file for each part")


if __name__ == "__main__":
    run_script(growth)
