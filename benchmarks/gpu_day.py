"""All figures that need a GPU, in one call of under nine minutes; a part that is finished is not measured again.

    python benchmarks/gpu_day.py [--out benchmarks/results/gpu_day] [--released CLONE] [--minutes 8.5]
    python benchmarks/gpu_day.py --long --root DATA     start the 240-epoch runs, which go on after this command ends

Each part runs in a process of its own and writes each row to <out>/<part>.csv when it is measured. What was measured is
kept when a part breaks or time is up, and the same command measures what is missing. The parts:

    parity    losses and weights after a few steps by each engine, against eager in float32
    pairs     step and epoch time, images/s and memory of the seven pairs, against the released code where it is given
    launches  kernels that a step starts, by engine
    seeds     trainings of one recipe side by side on one device
    store     a step with a stored teacher against one with a live teacher

Images are random. --tiny does all of it with small networks and few steps, also on a CPU.
"""

import argparse
import csv
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from famkd.tables import rich_table

FOLDER = Path(__file__).parent
PARTS = ("parity", "pairs", "launches", "seeds", "store")
LEAST = 20  # seconds that a part needs to start; with less time left none does
LONG = ("resnet56-resnet20", "resnet32x4-resnet8x4", "wrn_40_2-wrn_16_2")  # pairs of the 240-epoch runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FOLDER / "results" / "gpu_day", help="folder of the tables")
    parser.add_argument("--released", default="", help="folder of the released FAM-KD code, to time beside ours")
    parser.add_argument("--minutes", type=float, default=8.5, help="time for all parts together")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="by default all")
    parser.add_argument("--tiny", action="store_true", help="small networks and few steps")
    parser.add_argument("--long", action="store_true", help="start the 240-epoch runs instead, in the background")
    parser.add_argument("--root", default="", help="with --long: folder of CIFAR-100")
    args = parser.parse_args()
    if args.long:
        start_long_runs(args.root, args.out)
        return
    ends = time.monotonic() + 60 * args.minutes
    failed = [part for part in args.parts if not run_part(part, args, ends)]
    show(args.out)
    if failed:
        raise SystemExit(f"not complete: {', '.join(failed)}; the same command measures what is missing")


def run_part(part: str, args: argparse.Namespace, ends: float) -> bool:
    """Measure one part in a process of its own; returns whether it is complete."""
    done = args.out / f"{part}.done"
    if done.is_file():
        return True
    left = ends - time.monotonic()
    if left < LEAST:
        return False
    args.out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(FOLDER / "gpu_day_parts.py"), part, str(args.out)]
    command += ["--tiny"] if args.tiny else []
    command += ["--released", args.released] if args.released else []
    print(f"{part}: {left:.0f} s left", flush=True)
    try:
        code = subprocess.run(command, timeout=left).returncode
    except subprocess.TimeoutExpired:
        print(f"{part}: time is up")
        return False
    if code == 0:
        done.touch()
    return code == 0


def show(out: Path) -> None:
    """Print the table of each part."""
    console = Console()
    for part in PARTS:
        path = out / f"{part}.csv"
        if not path.is_file():
            continue
        with path.open(newline="") as file:
            rows = list(csv.reader(file))
        console.print(rich_table(part, rows[0], rows[1:]))


def start_long_runs(root: str, out: Path) -> None:
    """Start the 240-epoch runs of some pairs with three seeds each, in one process that lives on."""
    if not root:
        raise SystemExit("--long trains on CIFAR-100: pass --root with its folder")
    out.mkdir(parents=True, exist_ok=True)
    recipes = ", ".join(f"cifar100/{pair}" for pair in LONG)
    grid = out / "long.yaml"
    grid.write_text(
        f"recipe: [{recipes}]\nmethod: [none, fam_review]\nseed: [0, 1, 2]\ndata.root: {Path(root).resolve()}\n"
    )
    command = [sys.executable, "-m", "famkd", "sweep", str(grid.resolve()), "--runs", str((out / "runs").resolve())]
    with (out / "long.log").open("a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    print(f"process {process.pid} trains {len(LONG) * 6} runs; see {out / 'long.log'}; the same command continues them")


if __name__ == "__main__":
    main()
