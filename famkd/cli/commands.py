"""The commands for finished, many and timed runs: famkd compare | sweep | bench | export."""

import argparse
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from famkd.config.plugins import import_plugins
from famkd.errors import UserError


def compare_command(argv: list[str]) -> None:
    from famkd.tables import Format

    def show(
        runs: Annotated[tuple[str, ...], tyro.conf.Positional] = ("runs",),
        /,
        against: str = "",
        published: bool = False,
        format: Format = "table",
        plugins: tuple[str, ...] = (),
    ) -> None:
        """Runs side by side: mean and spread over seeds, and a paired test.

        Args:
            runs: Run directories, folders of them, or patterns; by itself the folder runs.
            against: Method or group to test the others against; by itself `none`, the student alone.
            published: Figures of other papers for the same pairs beside ours.
            format: How the table is written.
            plugins: Python files that register models, methods or data of the runs' own; they are imported.
        """
        from famkd.compare import compare

        import_plugins(plugins)
        print(compare(runs, against=against, published=published, format=format), end="")

    tyro.cli(show, args=argv, prog="famkd compare", use_underscores=True)


def sweep_command(argv: list[str]) -> None:
    def run(
        source: Annotated[str, tyro.conf.Positional],
        /,
        jobs: int = 0,
        on: Literal["local", "ray"] = "local",
        runs: str = "runs",
        against: str = "",
        plugins: tuple[str, ...] = (),
    ) -> None:
        """Train a grid of recipes, methods, seeds and flags, then compare; finished runs are not repeated.

        Args:
            source: A sweep from `famkd ls sweeps`, or a YAML file: `recipe: quickstart`, `method: [kd, at]`, ...
            jobs: Trainings at once; by itself one per GPU, or one on a machine without.
            on: This machine, or a Ray cluster.
            runs: Folder of run directories.
            against: Method or group to test the others against.
            plugins: Python files that register models, methods or data of your own; every training imports them.
        """
        from famkd.sweep.grid import sweep

        text, failed = sweep(source, jobs=jobs, on=on, runs=runs, against=against, plugins=plugins)
        close_sweep(text, failed)

    tyro.cli(run, args=argv, prog="famkd sweep", use_underscores=True)


def bench_command(argv: list[str]) -> None:
    """Measure a recipe's training step: images/s, its parts, its share of the device, and against the naive form."""
    from famkd.bench.modules import cost_table
    from famkd.bench.step import as_json, as_text, bench, save_csv
    from famkd.config.load import load_recipe

    own = argparse.ArgumentParser(prog="famkd bench", description=bench_command.__doc__, allow_abbrev=False)
    own.add_argument("recipe", help="a recipe; every flag of famkd train goes behind it")
    own.add_argument("--against", choices=["naive"], help="also time the literal formulation, in the same process")
    own.add_argument("--steps", type=int, default=20, help="timed steps; the median counts")
    own.add_argument("--noise", action="store_true", help="random 32 px images, where the data set is not at hand")
    own.add_argument("--attention", action="store_true", help="cost of each attention module instead")
    own.add_argument("--format", choices=["text", "json"], default="text")
    own.add_argument("--save", metavar="FOLDER", help="append a row to FOLDER/<device>-<torch>.csv")
    known, flags = own.parse_known_args(argv)
    if known.attention and (known.save or known.noise or known.against):
        raise UserError("--attention goes without --save, --noise and --against.")
    recipe = load_recipe(known.recipe, *flags)
    if known.attention:
        print(cost_table(recipe, known.steps, known.format), end="")
        return
    figures = bench(recipe, steps=known.steps, against_naive=bool(known.against), noise=known.noise)
    print(as_json(figures) if known.format == "json" else as_text(figures))
    if known.save:
        print(f"kept in {save_csv(figures, Path(known.save))}", file=sys.stderr)


def close_sweep(text: str, failed: list) -> None:
    """Print a comparison, then what failed; exit code 1 if anything did."""
    print(text, end="")
    if failed:
        print(f"{len(failed)} failed:", *(f"  {job.title}: {why}" for job, why in failed), sep="\n", file=sys.stderr)
        sys.exit(1)


def export_command(argv: list[str]) -> None:
    def write(
        run: Annotated[str, tyro.conf.Positional],
        /,
        to: Literal["onnx", "pt2", "safetensors"] = "onnx",
        input: Literal["normalized", "unit", "bytes"] = "normalized",
        out: str = "",
        root: str = "",
        best: bool = False,
        plugins: tuple[str, ...] = (),
    ) -> None:
        """Write a run's student alone, checked on test images of the run.

        Args:
            run: Run directory.
            to: ONNX, a torch.export program, or plain weights.
            input: What the file takes: normalized floats as in training, unit floats in 0..1, or bytes (uint8, 0..255).
            out: The file; by itself student.onnx and so on in the run directory.
            root: Folder or .npz file of the data, where it has moved since.
            best: Weights of the run's best epoch in place of the last.
            plugins: Python files that register the run's own model, method or data; they are imported.
        """
        from famkd.export import export

        import_plugins(plugins)
        print(export(run, to, input=input, out=out, root=root, best=best))

    tyro.cli(write, args=argv, prog="famkd export", use_underscores=True)
