"""The command line: famkd train | eval | compare | sweep | store | export | bench | ls."""

import sys
from collections.abc import Callable
from importlib.metadata import version

from famkd.cli.bench import bench_command
from famkd.cli.commands import compare_command, eval_command, export_command, sweep_command
from famkd.cli.listing import ls_command
from famkd.cli.store import store_command
from famkd.cli.train import train_command
from famkd.errors import RecipeError, TrainingStopped, UserError, is_first_process, nearest, quiet_on_closed_pipe

USAGE = """famkd: knowledge distillation with frequency attention

  famkd train RECIPE|FILE [--flag value ...]   train a student; RECIPE --help explains every field
  famkd eval RUN                               evaluate a run's student on the test set
  famkd eval --model M --weights F --data D --root DIR    evaluate a bare checkpoint
  famkd compare RUN ...                        compare runs over seeds; takes folders and patterns too
  famkd sweep NAME|FILE                        train a grid of settings, then compare; can be resumed
  famkd store RECIPE --views K                 run the teacher once and store its outputs, for trainings without it
  famkd export RUN --to onnx|pt2|safetensors   write the student alone, checked against the run
  famkd bench RECIPE [--against naive]         time the parts of a training step on this machine
  famkd ls recipes|models|methods|data|optimizers|sweeps  list what is available, one name per line

famkd COMMAND --help explains a command; famkd --version. First steps: famkd train quickstart
"""

COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": train_command,
    "eval": eval_command,
    "compare": compare_command,
    "sweep": sweep_command,
    "store": store_command,
    "export": export_command,
    "bench": bench_command,
    "ls": ls_command,
}

AFTER_CTRL_C = {
    "train": "; the run directory holds the last finished epoch, --resume continues from it",
    "store": "; the same command continues",
    "sweep": "; each run directory holds its last finished epoch, the same command continues",
}


@quiet_on_closed_pipe()
def main(argv: list[str] | None = None) -> None:
    """Run one command. An error that the user can fix ends in one sentence and exit code 2."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        sys.exit(0 if argv else 2)
    if argv == ["--version"]:
        print(f"famkd {version('famkd')}")
        return
    command, *rest = argv
    try:
        if command not in COMMANDS:
            raise UserError(f"There is no command {command!r}.{nearest(command, COMMANDS)} See famkd --help.")
        COMMANDS[command](rest)
    except RecipeError as error:
        print(error.box or f"famkd: {error}", file=sys.stderr, end="" if error.box else "\n")
        sys.exit(2)
    except UserError as error:
        print(f"famkd: {error}", file=sys.stderr)
        sys.exit(2)
    except TrainingStopped as stop:
        if is_first_process():
            print(f"famkd: {stop}", file=sys.stderr)
        sys.exit(stop.exit_code)
    except KeyboardInterrupt:
        if is_first_process():
            print(f"famkd: interrupted{AFTER_CTRL_C.get(command, '')}", file=sys.stderr)
        sys.exit(130)
