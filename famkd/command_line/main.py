"""Run a command or a script: what it prints and with which code it exits when it cannot go on."""

import contextlib
import io
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from famkd.errors import TrainingStopped, UserError, inert, is_first_process, nearest, quiet_on_closed_pipe

Commands = Mapping[str, Callable[[list[str]], None]]


@quiet_on_closed_pipe()
def run_command(
    program: str,
    usage: str,
    commands: Commands,
    argv: list[str] | None,
    after_ctrl_c: Mapping[str, str] = {},
    examples: Mapping[str, Sequence[str]] = {},
) -> None:
    """Run the command that `argv` names, by default the arguments of this process.

    An error that the user can fix is printed as one sentence, with exit code 2; Ctrl-C gives 130, and a training that
    a signal stopped 75.

    Args:
        after_ctrl_c: what to add to the word "interrupted", by command.
        examples: command lines to print under the help of a command.
    """
    argv = sys.argv[1:] if argv is None else argv
    _write_any_character()
    _write_warnings_as_sentences(program)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage, end="")
        sys.exit(0 if argv else 2)
    if argv in (["--version"], ["version"]):
        print(f"{program} {version('famkd')}")
        return
    command, *rest = argv
    with exiting(program, after_ctrl_c.get(command, "")):
        if command not in commands:
            raise UserError(f"There is no command {command!r}.{nearest(command, commands)} See {program} --help.")
        _run(commands[command], rest, examples.get(command, ()))


@quiet_on_closed_pipe()
def run_script(function: Callable[..., object]) -> None:
    """Call a function with the arguments of this process, which is a script. Errors end it as in `run_command`."""
    from famkd.command_line.parse import call  # imports tyro, which `famkd --help` does not need

    _write_any_character()
    with exiting(Path(sys.argv[0]).name):
        call(function, sys.argv[1:], prog=f"python {sys.argv[0]}")


@contextlib.contextmanager
def exiting(program: str, after_ctrl_c: str = "") -> Iterator[None]:
    """Print an error inside the block as one sentence, and exit with its code."""
    try:
        yield
    except UserError as error:
        print(f"{program}: {error}", file=sys.stderr)
        sys.exit(2)
    except TrainingStopped as stop:
        if is_first_process():
            print(f"{program}: {stop}", file=sys.stderr)
        sys.exit(stop.exit_code)
    except KeyboardInterrupt:
        if is_first_process():
            print(f"{program}: interrupted{after_ctrl_c}", file=sys.stderr)
        sys.exit(130)


def _run(command: Callable[[list[str]], None], argv: list[str], examples: Sequence[str]) -> None:
    """Run a command; after its help, print the examples."""
    try:
        command(argv)
    except SystemExit as end:
        if not end.code and examples and {"-h", "--help"} & {*argv}:
            print("\nexamples:", *(f"  {line}" for line in examples), sep="\n")
        raise


def _write_any_character() -> None:
    """Write a character that the terminal or the file cannot hold as an escape: Windows' own encodings have few."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower().replace("-", "") != "utf8":
            stream.reconfigure(errors="backslashreplace")


def _write_warnings_as_sentences(program: str) -> None:
    """Write a warning that is meant for the user without the line of code that it comes from."""
    usual = warnings.formatwarning

    def sentence(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> str:
        if category is not UserWarning:
            return usual(message, category, *place, **more)
        return f"{program}: warning: {inert(str(message))}\n"

    warnings.formatwarning = sentence
