"""The command line: famviz report | lab."""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from famkd.errors import UserError, nearest, quiet_on_closed_pipe

USAGE = """famviz: look at what frequency attention learned

  famviz report RUN... [-o report.html]    one self-contained page; RUN is a run directory or a released .pth
  famviz lab RUN... [--no-browser ...]     JupyterLab on a notebook for the runs; further flags are JupyterLab's

A run may still be training. In Python: import famviz; famviz.FilterExplorer("runs/...")
"""


@quiet_on_closed_pipe()
def main(argv: list[str] | None = None) -> None:
    """Run one command; what the user can mend ends in one sentence and exit code 2."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        sys.exit(0 if argv else 2)
    command, *rest = argv
    try:
        if command not in COMMANDS:
            raise UserError(f"There is no command {command!r}.{nearest(command, COMMANDS)} See famviz --help.")
        COMMANDS[command](rest)
    except UserError as error:
        print(f"famviz: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("famviz: interrupted", file=sys.stderr)
        sys.exit(130)


def report_command(argv: list[str]) -> None:
    """Write the report page and say where it is."""
    parser = argparse.ArgumentParser(prog="famviz report", description="Write one self-contained page about runs.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run directory or released .pth; the first is in front")
    parser.add_argument("-o", "--out", default="report.html", help="where to write the page")
    asked = parser.parse_args(argv)
    from famviz.report import write_report

    path = write_report(asked.runs, asked.out)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, opens without a network")


def lab_command(argv: list[str]) -> None:
    """Become JupyterLab on a notebook for the runs, in a folder of its own."""
    parser = argparse.ArgumentParser(prog="famviz lab", description="Open JupyterLab on a notebook for runs.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run directory or released .pth; the first is in front")
    asked, further = parser.parse_known_args(argv)
    notebook = prepare_notebook(asked.runs, Path(tempfile.mkdtemp(prefix="famviz-")))
    print(f"notebook: {notebook}", flush=True)
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    command = [sys.executable, "-m", "jupyterlab", str(notebook), f"--ServerApp.root_dir={notebook.parent}"]
    if os.name == "posix":  # its own process, so that Ctrl-C and signals reach JupyterLab alone
        os.execv(sys.executable, [*command, *root, *further])
    sys.exit(subprocess.call([*command, *root, *further]))


def prepare_notebook(runs: Sequence[str], folder: Path) -> Path:
    """Write a notebook that opens runs, the first in front, without output; its kernel works where it was asked for.

    Errors: UserError where a run cannot be opened.
    """
    import nbformat

    from famviz.load import open_runs

    opened, paths = open_runs(list(runs)), [str(Path(run).resolve()) for run in runs]
    several = len(runs) > 1
    cells = [
        (
            "markdown",
            f"# {', '.join(each.name for each in opened)}\n"
            "Run menu, Run All Cells; after the first cell each stands alone.",
        ),
        (
            "code",
            f"%matplotlib inline\nimport os\n\nimport famviz\n\nos.chdir({os.getcwd()!r})\n"
            f"runs = famviz.open({paths!r})\nrun = runs[0]",
        ),
        (
            "markdown",
            "## Filters\nArrow keys on the energy map choose a filter; every view follows."
            + " Another run to compare with is in the menu." * several,
        ),
        ("code", "explorer = famviz.FilterExplorer([each for each in runs if each.filters] or runs)\nexplorer"),
        ("markdown", "How strong each level is over frequency: point at a curve."),
        ("code", _profiles(opened)),
        ("code", "from famviz import plots\n\nplots.contact_sheet(run.filters[0])"),
    ]
    if any(each.run for each in opened):
        cells += [
            (
                "markdown",
                "## Training\nPoint at a curve for its figures; another column: `training_curves(runs, 'lr')`.",
            ),
            ("code", "famviz.hover.training_curves(runs)"),
        ]
    if opened[0].run:
        cells += [
            ("markdown", "The dashboard follows the run while it trains."),
            ("code", "dashboard = famviz.Dashboard(run)\ndashboard"),
            ("markdown", "## Amplitude differences and evidence\nThese load the run's data and networks."),
            ("code", "from famviz import features\n\nfeatures.differences_figure(run.run)"),
            ("code", "from famviz import effect\n\neffect.effect_figure(run.run)"),
            ("code", "from famviz import cam\n\ncam.grid_figure(run.run)"),
        ]
    make = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    book = nbformat.v4.new_notebook(cells=[make[kind](text) for kind, text in cells], metadata=kernel)
    place = folder / "look.ipynb"
    nbformat.write(book, place)
    return place


def _profiles(opened: Sequence) -> str:
    """A cell of hoverable radial profiles: of a run's levels, or of the first level of each run."""
    if len(opened) == 1:
        return "famviz.hover.radial_curves(run.filters)"
    return (
        "held = [each for each in runs if each.filters]\n"
        "famviz.hover.radial_curves([each.filters[0] for each in held], [each.name for each in held])"
    )


COMMANDS = {"report": report_command, "lab": lab_command}
