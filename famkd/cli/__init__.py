"""The command line: famkd train | eval | compare | sweep | export | bench | ls."""

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import tyro

from famkd.cli.commands import bench_command, compare_command, export_command, sweep_command
from famkd.cli.train import first_process, train_command
from famkd.config.plugins import import_plugins
from famkd.errors import TrainingStopped, UserError, nearest, while_read

USAGE = """famkd: knowledge distillation with frequency attention

  famkd train RECIPE|FILE [--flag value ...]   train a student; RECIPE --help explains every field
  famkd eval RUN                               measure a run's student on the test set
  famkd eval --model M --weights F --data D --root DIR    measure a bare checkpoint
  famkd compare RUN ...                        runs side by side, over seeds; folders and patterns too
  famkd sweep NAME|FILE                        a grid of trainings: resumable, then compared
  famkd export RUN --to onnx|pt2|safetensors   the student alone, checked against the run
  famkd bench RECIPE [--against naive]         where a step's time goes on this machine
  famkd ls recipes|models|methods|data|sweeps  what there is, one name a line

famkd COMMAND --help tells more; famkd --version. First steps: famkd train quickstart
"""

KEPT = {  # what is left of a training that Ctrl-C ended
    "train": "; the run directory holds its last finished epoch, --resume goes on",
    "sweep": "; each run directory holds its last finished epoch, the same command goes on",
}


@while_read()
def main(argv: list[str] | None = None) -> None:
    """Run one command; what the user can mend ends in one sentence and exit code 2."""
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
    except UserError as error:
        print(f"famkd: {error}", file=sys.stderr)
        sys.exit(2)
    except TrainingStopped as stop:
        if first_process():
            print(f"famkd: {stop}", file=sys.stderr)
        sys.exit(stop.exit_code)
    except KeyboardInterrupt:
        if first_process():
            print(f"famkd: interrupted{KEPT.get(command, '')}", file=sys.stderr)
        sys.exit(130)


def eval_command(argv: list[str]) -> None:
    def measure(
        run: Annotated[str, tyro.conf.Positional] = "",
        /,
        model: str = "",
        weights: str = "",
        data: str = "",
        root: str = "",
        best: bool = False,
        batch_size: int = 500,
        accelerator: str = "auto",
        plugins: tuple[str, ...] = (),
    ) -> None:
        """Measure a run's student, or a bare checkpoint, on the test set.

        Args:
            run: Run directory; its recipe tells model and data.
            model: Model of a bare checkpoint, from `famkd ls models`.
            weights: Checkpoint file, run directory, `recipe:NAME`, or `pretrained` where the model has such.
            data: Data set, from `famkd ls data`; of a run, by itself the one that it was trained on.
            root: Folder or .npz file that holds it.
            best: Weights of the run's best epoch in place of the last.
            batch_size: Images at once.
            accelerator: auto, cpu, cuda or mps.
            plugins: Python files that register the run's own model, method or data; they are imported.
        """
        import_plugins(plugins)
        from famkd.console import table
        from famkd.evaluate import measure as measured

        figures, by_class = measured(run, model, weights, data, root, best, batch_size, accelerator)
        print("  ".join(f"{name} {value:.2f}" for name, value in figures.items()))
        if by_class:
            rows = [[name, f"{value:.2f}" if value >= 0 else "–"] for name, value in by_class.items()]
            table("AP by class; – is a class without objects in the test set", ["class", "AP %"], rows)

    tyro.cli(measure, args=argv, prog="famkd eval", use_underscores=True)


def ls_command(argv: list[str]) -> None:
    def show(
        kind: Annotated[Literal["recipes", "models", "methods", "data", "sweeps"], tyro.conf.Positional],
        /,
        plugins: tuple[str, ...] = (),
    ) -> None:
        """List what there is, one name a line, first the name.

        Args:
            kind: What to list.
            plugins: Python files that register models, methods or data of your own; they are imported.
        """
        import_plugins(plugins)
        if kind == "recipes":
            from famkd.config.builtin import builtin_recipes

            lines = [(name, _first_comment(path)) for name, path in builtin_recipes().items()]
        elif kind == "sweeps":
            from famkd.config.builtin import builtin_sweeps

            lines = [(name, _first_comment(path)) for name, path in builtin_sweeps().items()]
        elif kind == "models":
            from famkd.models import DETECTORS, MODELS
            from famkd.models.sizes import size_of_model

            lines = [(name, size_of_model(name)) for name in (*MODELS, *DETECTORS)]
        elif kind == "methods":
            from famkd.methods import METHODS

            lines = [(name, _first_line(cls)) for name, cls in METHODS.items()]
        else:
            from famkd.data import DATA

            lines = [(name, _first_line(load)) for name, load in DATA.items()]
        width = max(len(name) for name, _ in lines) + 2
        print("\n".join(f"{name:{width}}{text}".rstrip() for name, text in lines))
        if kind == "models" and sys.stdout.isatty():  # not where names are read by the next command
            print("timm:NAME and torchvision:NAME are models too.", file=sys.stderr)

    tyro.cli(show, args=argv, prog="famkd ls")


def _first_line(thing) -> str:
    return next(iter((thing.__doc__ or "").strip().splitlines()), "")


def _first_comment(path: Path) -> str:
    line = path.read_text().splitlines()[0]
    return line.removeprefix("#").strip() if line.startswith("#") else ""


COMMANDS = {
    "train": train_command,
    "eval": eval_command,
    "compare": compare_command,
    "sweep": sweep_command,
    "export": export_command,
    "bench": bench_command,
    "ls": ls_command,
}
