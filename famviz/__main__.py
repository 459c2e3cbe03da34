"""The command line: famviz report | lab."""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from famkd.errors import UserError, nearest, while_read

USAGE = """famviz: look at what frequency attention learned

  famviz report RUN... [-o report.html]    one self-contained page; RUN is a run directory or a released .pth
  famviz lab RUN [--no-browser ...]        JupyterLab on a notebook prepared for the run; further flags are JupyterLab's

A run may still be training. In Python: import famviz; famviz.FilterExplorer("runs/...")
"""


@while_read()
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
    """Become JupyterLab on a notebook for the run, in a folder of its own."""
    parser = argparse.ArgumentParser(prog="famviz lab", description="Open JupyterLab on a notebook for a run.")
    parser.add_argument("run", metavar="RUN", help="run directory or released .pth")
    asked, further = parser.parse_known_args(argv)
    notebook = prepare_notebook(asked.run, Path(tempfile.mkdtemp(prefix="famviz-")))
    print(f"notebook: {notebook}", flush=True)
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    command = [sys.executable, "-m", "jupyterlab", str(notebook), f"--ServerApp.root_dir={notebook.parent}"]
    if os.name == "posix":  # its own process, so that Ctrl-C and signals reach JupyterLab alone
        os.execv(sys.executable, [*command, *root, *further])
    sys.exit(subprocess.call([*command, *root, *further]))


def prepare_notebook(run: str, folder: Path) -> Path:
    """Write a notebook that opens a run, without output; its kernel works where the command was given.

    Errors: UserError where the run cannot be opened.
    """
    import nbformat

    from famviz.opening import open_runs

    opened = open_runs(run)
    path = str(Path(run).resolve())
    cells = [
        (
            "markdown",
            f"# {opened.name}\nRun menu, Run All Cells; after the first cell each stands alone.",
        ),
        (
            "code",
            f"%matplotlib inline\nimport os\n\nimport famviz\n\nos.chdir({os.getcwd()!r})\nrun = famviz.open({path!r})",
        ),
        ("markdown", "## Filters\nArrow keys on the energy map choose a filter; every view follows."),
        ("code", "explorer = famviz.FilterExplorer(run)\nexplorer"),
        ("code", "from famviz import plots\n\nplots.contact_sheet(run.filters[0])"),
    ]
    if opened.run:
        cells += [
            ("markdown", "## Training\nFollows the run while it trains."),
            ("code", "dashboard = famviz.Dashboard(run)\ndashboard"),
            ("markdown", "## Amplitude differences and evidence\nThese load the run's data and networks."),
            ("code", "from famviz import features\n\nfeatures.differences_figure(run.run)"),
            ("code", "from famviz import cam\n\ncam.grid_figure(run.run)"),
        ]
    make = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    book = nbformat.v4.new_notebook(cells=[make[kind](text) for kind, text in cells], metadata=kernel)
    place = folder / "look.ipynb"
    nbformat.write(book, place)
    return place


COMMANDS = {"report": report_command, "lab": lab_command}

if __name__ == "__main__":
    main()
