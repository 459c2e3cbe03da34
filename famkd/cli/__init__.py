"""The command line: famkd train | init | eval | compare | sweep | tune | store | export | bench | ls | doctor."""

from collections.abc import Callable

from famkd.cli.bench import bench_command
from famkd.cli.compare import compare_command
from famkd.cli.completion import completion_command
from famkd.cli.doctor import doctor_command
from famkd.cli.eval import eval_command
from famkd.cli.examples import EXAMPLES
from famkd.cli.export import export_command
from famkd.cli.init import init_command
from famkd.cli.listing import ls_command
from famkd.cli.store import store_command
from famkd.cli.sweep import sweep_command
from famkd.cli.train import train_command
from famkd.cli.tune import tune_command
from famkd.command_line.main import run_command

USAGE = """famkd: knowledge distillation with frequency attention

  famkd train RECIPE|FILE [--flag value ...]   train a student; RECIPE --help explains every field
  famkd train --student.model M --teacher.model T --teacher.weights W --data D --root DIR    without a file
  famkd init [FILE] [--flag value ...]         write a commented recipe for a pair of your own
  famkd eval RUN                               evaluate a run's student on the test set
  famkd eval --model M --weights F --data D --root DIR    evaluate a bare checkpoint
  famkd compare RUN ...                        compare runs over seeds; takes folders and patterns too
  famkd sweep NAME|FILE                        train a grid of settings, then compare; can be resumed
  famkd tune FILE                              search for settings by held-out images; can be resumed
  famkd store RECIPE --views K                 run the teacher once and store its outputs, for trainings without it
  famkd export RUN --to onnx|pt2|safetensors|hub   write the student alone, checked against the run
  famkd bench RECIPE [--against naive]         time the parts of a training step on this machine
  famkd ls recipes|models|methods|data|optimizers|sweeps  list what is available, one name per line
  famkd doctor                                 print versions, devices and optional parts, for a bug report
  famkd completion bash|zsh|fish               print a script that completes commands, flags and names

famkd COMMAND --help explains a command; famkd --version. First steps: famkd train quickstart
"""

COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": train_command,
    "init": init_command,
    "eval": eval_command,
    "compare": compare_command,
    "sweep": sweep_command,
    "tune": tune_command,
    "store": store_command,
    "export": export_command,
    "bench": bench_command,
    "ls": ls_command,
    "doctor": doctor_command,
    "completion": completion_command,
}

AFTER_CTRL_C = {
    "train": "; the run directory holds the last finished epoch, --resume continues from it",
    "store": "; the same command continues",
    "sweep": "; each run directory holds its last finished epoch, the same command continues",
    "tune": "; each run directory holds its last finished epoch, the same command continues",
}


def main(argv: list[str] | None = None) -> None:
    """Run one command of famkd, by default the one that this process was started with."""
    run_command("famkd", USAGE, COMMANDS, argv, AFTER_CTRL_C, EXAMPLES)
