"""The command line: famkd train | eval | compare | sweep | export | bench | ls."""

import argparse
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from famkd.commands import bench_command, close_sweep, compare_command, export_command, sweep_command
from famkd.errors import UserError, nearest, while_read
from famkd.signals import EXIT_CODE, Stopped

USAGE = """famkd: knowledge distillation with frequency attention

  famkd train RECIPE|FILE [--flag value ...]   train a student; RECIPE --help explains every field
  famkd eval RUN                               measure a run's student on the test set
  famkd eval --model M --weights F --data D --root DIR    measure a bare checkpoint
  famkd compare RUN ...                        runs side by side, over seeds; folders and patterns too
  famkd sweep NAME|FILE                        a grid of trainings: resumable, then compared
  famkd export RUN --to onnx|pt2|safetensors   the student alone, checked against the run
  famkd bench RECIPE [--against naive]         where a step's time goes on this machine
  famkd ls recipes|models|methods|data|sweeps  what there is, one name a line

famkd COMMAND --help tells more. First steps: famkd train quickstart
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
            raise UserError(f"There is no command {command!r}.{nearest(command, COMMANDS)} See famkd --help.")
        COMMANDS[command](rest)
    except UserError as error:
        print(f"famkd: {error}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stop:
        if first_process():
            print(f"famkd: {stop}", file=sys.stderr)
        sys.exit(EXIT_CODE)
    except KeyboardInterrupt:
        if first_process():
            text = "famkd: interrupted; the run directory holds its last finished epoch, --resume goes on"
            print(text, file=sys.stderr)
        sys.exit(130)


def first_process() -> bool:
    """Whether this is the one that speaks, of those that train together, also when they have parted again."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK")  # torchrun's, SLURM's, and those of famkd's own
    return all(os.environ.get(name, "0") == "0" for name in names)


def train_command(argv: list[str]) -> None:
    """Train, then close with a table of teacher, student alone and student distilled."""
    from famkd.recipe import load_recipe
    from famkd.results import closing_table
    from famkd.training import train

    place = argparse.ArgumentParser(prog="famkd train", add_help=False, allow_abbrev=False)
    place.add_argument("recipe", nargs="?")
    place.add_argument("--out")
    place.add_argument("--runs", default="runs")
    place.add_argument("--resume", action="store_true")
    place.add_argument("--seeds", type=int, nargs="+")
    place.add_argument("--jobs", type=int, default=0)
    known, flags = place.parse_known_args(argv)
    if known.recipe is None:
        if flags and flags[0] in ("-h", "--help"):
            load_recipe("quickstart", "--help")
        raise UserError("Name a recipe or a file: famkd train quickstart, or one of `famkd ls recipes`.")
    recipe = load_recipe(known.recipe, *flags)
    if known.seeds:
        if known.out:
            raise UserError("--seeds makes a run for each seed and cannot put them all into one --out: pass --runs.")
        from famkd.seeds import train_seeds

        options = {"runs": known.runs, "resume": known.resume, "jobs": known.jobs}
        close_sweep(*train_seeds(known.recipe, flags, known.seeds, **options))
        return
    run = train(recipe, out=known.out, resume=known.resume, runs=known.runs)
    if first_process():
        closing_table(run, known.runs)


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
    ) -> None:
        """Measure a run's student, or a bare checkpoint, on the test set.

        Args:
            run: Run directory; its recipe tells model and data.
            model: Model of a bare checkpoint, from `famkd ls models`.
            weights: Checkpoint file.
            data: Data set, from `famkd ls data`; of a run, by itself the one that it was trained on.
            root: Folder or .npz file that holds it.
            best: Weights of the run's best epoch in place of the last.
            batch_size: Images at once.
            accelerator: auto, cpu, cuda or mps.
        """
        from famkd.progress import table
        from famkd.results import measure as measured

        figures, by_class = measured(run, model, weights, data, root, best, batch_size, accelerator)
        print("  ".join(f"{name} {value:.2f}" for name, value in figures.items()))
        if by_class:
            rows = [[name, f"{value:.2f}" if value >= 0 else "–"] for name, value in by_class.items()]
            table("AP by class; – is a class without objects in the test set", ["class", "AP %"], rows)

    tyro.cli(measure, args=argv, prog="famkd eval", use_underscores=True)


def ls_command(argv: list[str]) -> None:
    def show(
        kind: Annotated[Literal["recipes", "models", "methods", "data", "sweeps"], tyro.conf.Positional], /
    ) -> None:
        """List what there is, one name a line, first the name."""
        if kind == "recipes":
            from famkd.recipe import shipped_recipes

            lines = [(name, _first_comment(path)) for name, path in shipped_recipes().items()]
        elif kind == "sweeps":
            from famkd.sweep import shipped_sweeps

            lines = [(name, _first_comment(path)) for name, path in shipped_sweeps().items()]
        elif kind == "models":
            from famkd.models import DETECTORS, MODELS

            lines = [(name, "") for name in (*MODELS, *DETECTORS)]
        elif kind == "methods":
            from famkd.methods import METHODS

            lines = [(name, _first_line(cls)) for name, cls in METHODS.items()]
        else:
            from famkd.data import DATA

            lines = [(name, _first_line(load)) for name, load in DATA.items()]
        width = max(len(name) for name, _ in lines) + 2
        print("\n".join(f"{name:{width}}{text}".rstrip() for name, text in lines))

    tyro.cli(show, args=argv, prog="famkd ls")


def _first_line(thing) -> str:
    return (thing.__doc__ or "").strip().splitlines()[0]


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

if __name__ == "__main__":
    main()
