"""The command line: famviz report and famviz lab."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import tyro

from famkd.command_line.main import run_command
from famkd.command_line.parse import call, call_known
from famkd.command_line.values import PLACE, expanded
from famkd.errors import UserError

USAGE = """famviz: look at what frequency attention learned

  famviz report RUN... [-o report.html]    write one self-contained page, several runs side by side
  famviz lab RUN... [--keep] [...]         open JupyterLab on a notebook for the runs; other flags go to JupyterLab

RUN is a run directory, also of a run that is still training, or a released .pth file. The first one is shown first.
In Python: import famviz; famviz.FilterExplorer("runs/...")
"""


# Printed under the help of each command.
EXAMPLES = {
    "report": (
        "famviz report runs/quickstart/fam_review-seed0",
        "famviz report runs/mine runs/quickstart/fam_review-seed0 -o compared.html --root DATA --images 8",
    ),
    "lab": ("famviz lab runs/quickstart/fam_review-seed0", "famviz lab runs/mine --keep --no-browser"),
}


def main(argv: list[str] | None = None) -> None:
    """Run one command of famviz, by default the one that this process was started with."""
    run_command("famviz", USAGE, COMMANDS, argv, examples=EXAMPLES)


def report_command(argv: list[str]) -> None:
    """Write the report and print its path."""
    path = call(report, argv, prog="famviz report")
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, opens without a network")


def report(
    runs: tyro.conf.Positional[tuple[str, ...]] = (),
    /,
    out: Annotated[str, PLACE, tyro.conf.arg(aliases=["-o"])] = "report.html",
    root: Annotated[str, PLACE] = "",
    teacher: Annotated[str, PLACE] = "",
    images: int = 4,
) -> Path:
    """Write one self-contained page about runs.

    Args:
        runs: Run directories or released .pth files; the first one is shown first.
        out: File to write.
        root: Folder or file with the data of the runs, if it was moved since the training.
        teacher: Weights or run directory of their teacher, if they were moved.
        images: Number of test images whose activation maps are shown.
    """
    runs = _some(runs, "famviz report")
    if images < 1:
        raise UserError(f"--images must be at least 1, not {images}.")
    for flag, place in (("--root", root), ("--teacher", teacher)):
        if place and not Path(place).exists():
            raise UserError(f"There is nothing at {place}, which {flag} names.")
    from famviz.report import write_report

    return write_report(runs, out, root=root, teacher=teacher, images=images)


def lab_command(argv: list[str]) -> None:
    """Replace this process by JupyterLab on a notebook for the runs."""
    notebook, further = call_known(lab, argv, prog="famviz lab")
    print(f"notebook: {notebook}", flush=True)
    command = [sys.executable, "-m", "jupyterlab", str(notebook), f"--ServerApp.root_dir={notebook.parent}"]
    command.append(f"--LabApp.default_url=/lab/tree/{notebook.name}")  # the address that --no-browser prints
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    command += further
    if os.name == "posix":  # in place of this process, so that Ctrl-C and signals reach JupyterLab alone
        os.execv(sys.executable, command)
    sys.exit(subprocess.call(command))


def lab(runs: tyro.conf.Positional[tuple[str, ...]] = (), /, keep: bool = False) -> Path:
    """Open JupyterLab on a notebook for runs. Other flags go to JupyterLab, such as --no-browser.

    Args:
        runs: Run directories or released .pth files; the first one is shown first.
        keep: Keep the notebook in the directory of the first run, and open it again if it is there already. By default
            it lies in a temporary folder.
    """
    runs = _some(runs, "famviz lab")
    from famviz.lab.prepare import NAME, prepare_notebook

    if not keep:
        return prepare_notebook(runs, Path(tempfile.mkdtemp(prefix="famviz-")))
    first = Path(runs[0]).resolve()
    folder = first if first.is_dir() else first.parent
    return folder / NAME if (folder / NAME).exists() else prepare_notebook(runs, folder)


def _some(runs: tuple[str, ...], command: str) -> tuple[str, ...]:
    """The runs, with `~` and `$NAME` in their paths replaced; UserError if none comes first, or for a wrong path.

    A wrong path is refused before torch is imported, which takes seconds.
    """
    if not runs:
        raise UserError(f"Name a run directory or a released .pth file first: {command} RUN. `famkd train` makes runs.")
    paths = tuple(map(expanded, runs))
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(f"There is nothing at {path}: pass a run directory or a .pth file.")
        if path.is_dir() and not (path / "recipe.yaml").is_file():
            raise UserError(f"{path} is no run directory: it holds no recipe.yaml.")
    return paths


COMMANDS = {"report": report_command, "lab": lab_command}
