"""The command line: famviz report and famviz lab."""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from famkd.errors import UserError, nearest, quiet_on_closed_pipe

USAGE = """famviz: look at what frequency attention learned

  famviz report RUN... [-o report.html]    write one self-contained page
  famviz lab RUN... [--no-browser ...]     open JupyterLab on a notebook for the runs; other flags go to JupyterLab

RUN is a run directory, also of a run that is still training, or a released .pth file. The first one is shown first.
In Python: import famviz; famviz.FilterExplorer("runs/...")
"""
RUN_HELP = "run directory or released .pth file; the first one is shown first"


@quiet_on_closed_pipe()
def main(argv: list[str] | None = None) -> None:
    """Run one command. An error that the user can fix is printed as one sentence, with exit code 2."""
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
    """Write the report and print its path."""
    parser = argparse.ArgumentParser(prog="famviz report", description="Write one self-contained page about runs.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help=RUN_HELP)
    parser.add_argument("-o", "--out", default="report.html", help="file to write (default: report.html)")
    given = parser.parse_args(argv)
    from famviz.report import write_report

    path = write_report(given.runs, given.out)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, opens without a network")


def lab_command(argv: list[str]) -> None:
    """Replace this process by JupyterLab on a notebook for the runs, in a temporary folder."""
    parser = argparse.ArgumentParser(
        prog="famviz lab",
        description="Open JupyterLab on a notebook for runs.",
        epilog="Other flags go to JupyterLab, such as --no-browser.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help=RUN_HELP)
    given, further = parser.parse_known_args(argv)
    from famviz.lab.prepare import prepare_notebook

    notebook = prepare_notebook(given.runs, Path(tempfile.mkdtemp(prefix="famviz-")))
    print(f"notebook: {notebook}", flush=True)
    command = [sys.executable, "-m", "jupyterlab", str(notebook), f"--ServerApp.root_dir={notebook.parent}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    command += further
    if os.name == "posix":  # in place of this process, so that Ctrl-C and signals reach JupyterLab alone
        os.execv(sys.executable, command)
    sys.exit(subprocess.call(command))


COMMANDS = {"report": report_command, "lab": lab_command}
