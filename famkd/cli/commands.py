"""famkd compare and sweep: the commands for many trainings."""

import sys
from typing import Annotated, Any, Literal

import tyro
from annotated_types import Ge

from famkd.command_line.parse import call
from famkd.command_line.values import PLACE, expanded
from famkd.config.plugins import import_plugins
from famkd.errors import UserError
from famkd.tables import Format

Place = Annotated[str, PLACE]
Plugins = Annotated[
    tuple[Place, ...],
    tyro.conf.arg(help="Python files that register your own models, methods or data sets. They are imported."),
]
Positional = tyro.conf.Positional


def compare_command(argv: list[str]) -> None:
    print(call(compare, argv, prog="famkd compare"), end="")


def sweep_command(argv: list[str]) -> None:
    print_sweep(*call(sweep, argv, prog="famkd sweep"))


def compare(
    runs: Positional[tuple[str, ...]] = ("runs",),
    /,
    against: str = "",
    published: bool = False,
    explain: bool = False,
    format: Format = "table",
    save: Place = "",
    plugins: Plugins = (),
) -> str:
    """Compare runs: mean and spread over seeds, and a paired test.

    Args:
        runs: Run directories, folders of them or of saved results, or patterns. By default the folder runs.
        against: Method or group to test the others against. By default `none`, the student alone.
        published: Add the figures that other papers report for the same pairs.
        explain: Print each difference also as a sentence.
        format: Format of the table.
        save: Folder in which to save the results as CSV files and recipes, without the networks.
    """
    import_plugins(plugins)
    from famkd.compare import compare

    return compare(
        tuple(map(expanded, runs)), against=against, published=published, explain=explain, format=format, save=save
    )


def sweep(
    source: Positional[str] = "",
    /,
    jobs: Annotated[int, Ge(0)] = 0,
    on: Literal["local", "ray"] = "local",
    gpus: Annotated[float, Ge(0)] = 0,
    cpus: Annotated[float, Ge(0)] = 0,
    dry_run: bool = False,
    runs: Place = "runs",
    against: str = "",
    plugins: Plugins = (),
) -> Any:
    """Train a grid of recipes, methods, seeds and flags, then compare. Finished runs are not repeated.

    Args:
        source: A sweep from `famkd ls sweeps`, or a YAML file such as `recipe: quickstart`, `method: [kd, at]`.
        jobs: Trainings at once. By default one per GPU, or one on a machine without a GPU.
        on: This machine, or a Ray cluster, whose machines share the working folder.
        gpus: With --on ray: GPUs of each training, or a part of one such as 0.25. By default 1 if there are any.
        cpus: With --on ray: CPU cores of each training. By default 1.
        dry_run: Train nothing; print what the sweep will cost, from a few timed steps of each distinct training.
        runs: Folder of run directories.
        against: Method or group to test the others against.
    """
    if jobs and on == "ray":
        raise UserError("Ray decides how many trainings run at once: leave --jobs out, or --on ray.")
    if (gpus or cpus) and on != "ray":
        raise UserError("--gpus and --cpus are for --on ray: leave them out. Here, --jobs is the number of trainings.")
    from famkd.sweep.grid import sweep

    return sweep(
        source, jobs=jobs, on=on, gpus=gpus, cpus=cpus, dry_run=dry_run, runs=runs, against=against, plugins=plugins
    )


def print_sweep(text: str, failed: list) -> None:
    """Print a comparison, then the trainings that failed; exit code 1 if there are any."""
    print(text, end="")
    if failed:
        lines = [f"  {job.title}: {why}" for job, why in failed]
        print(f"{len(failed)} failed:", *lines, sep="\n", file=sys.stderr)
        sys.exit(1)
