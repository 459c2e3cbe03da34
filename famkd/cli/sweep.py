"""famkd sweep."""

import sys
from typing import Annotated, Any, Literal

from annotated_types import Ge

from famkd.cli.flags import Place, Plugins, Positional
from famkd.command_line.parse import call
from famkd.errors import UserError


def sweep_command(argv: list[str]) -> None:
    print_sweep(*call(sweep, argv, prog="famkd sweep"))


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
