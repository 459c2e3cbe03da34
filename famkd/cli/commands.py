"""famkd eval, compare, sweep and export: the commands for finished runs and for many trainings."""

import sys
from typing import Annotated, Any, Literal

import tyro

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


def eval_command(argv: list[str]) -> None:
    _print_lines(call(evaluate, argv, prog="famkd eval"))


def compare_command(argv: list[str]) -> None:
    print(call(compare, argv, prog="famkd compare"), end="")


def sweep_command(argv: list[str]) -> None:
    print_sweep(*call(sweep, argv, prog="famkd sweep"))


def export_command(argv: list[str]) -> None:
    print(call(export, argv, prog="famkd export"))


def evaluate(
    run: Positional[str] = "",
    /,
    model: str = "",
    weights: Place = "",
    data: str = "",
    root: Place = "",
    output: str = "",
    best: bool = False,
    ema: bool = False,
    split: Literal["test", "val"] = "test",
    batch_size: int = 0,
    accelerator: str = "auto",
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    size: tuple[int, ...] = (),
    interpolation: Literal["", "bilinear", "bicubic", "nearest", "area"] = "",
    plugins: Plugins = (),
) -> Any:
    """Evaluate a run's student, or a bare checkpoint, on the test set.

    Args:
        run: Run directory. Its recipe names the model and the data set.
        model: Model of a bare checkpoint, from `famkd ls models`.
        weights: Checkpoint file (FILE:ema for its averaged copy), folder of the Hugging Face hub, run directory,
            `recipe:NAME`, or `pretrained` where the model has such weights.
        data: Data set, from `famkd ls data`. For a run, by default the one that it was trained on.
        root: Folder or file of the data set.
        output: Where the logits are in what a bare checkpoint's model returns, such as `logits` or `1`. Found
            automatically where only one part can be the logits.
        best: Use the weights of the run's best epoch instead of the last.
        ema: Use the average of the weights (EMA), of a run that was trained with --ema.
        split: Images to measure: the test set, or val for those that the run held out of training by --data.val.
        batch_size: Images per batch; 0 for the default of the data set.
        accelerator: auto, cpu, cuda or mps.
        mean: Mean of each channel, for pixels in 0..1, that a bare checkpoint was trained with. By default that of its
            pretrained weights or of its run, else that of the data set.
        std: Standard deviation of each channel, as for `mean`.
        size: Height and width of the images that a bare checkpoint takes, or one number for both.
        interpolation: How images are resized to `size`.
    """
    import_plugins(plugins)
    from famkd.evaluate import evaluate_checkpoint, evaluate_run

    if bool(run) == bool(model or weights):
        raise UserError("Name either a run directory, or --model with --weights and --data.")
    images = {"mean": mean, "std": std, "size": size, "interpolation": interpolation}
    if run:
        _must_be_of_a_bare_checkpoint({"output": output, **images})
        return evaluate_run(
            expanded(run), data, root, best=best, ema=ema, split=split, batch_size=batch_size, accelerator=accelerator
        )
    if split != "test":
        raise UserError("Only a run knows its held-out images: leave --split out.")
    return evaluate_checkpoint(
        model, weights, data, root, output=output, batch_size=batch_size, accelerator=accelerator, **images
    )


def _must_be_of_a_bare_checkpoint(options: dict[str, Any]) -> None:
    """UserError for an option that a run's recipe answers."""
    given = [name for name, value in options.items() if value]
    if given:
        raise UserError(f"A run knows the {given[0]} of its student: leave --{given[0]} out.")


def _print_lines(evaluation: tuple[dict[str, float], dict[str, float]]) -> None:
    """Print the figures in one line, then a table of the leading figure by class where there is one."""
    figures, by_class = evaluation
    print("  ".join(f"{name} {value:.2f}" for name, value in figures.items()))
    if by_class:
        from famkd.console import console
        from famkd.tables import rich_table

        rows = [[name, f"{value:.2f}" if value >= 0 else "–"] for name, value in by_class.items()]
        figure = next(iter(figures))
        title = f"{figure} by class; – for a class without objects in the test set"
        console.print(rich_table(title, ["class", f"{figure} %"], rows))


def compare(
    runs: Positional[tuple[str, ...]] = ("runs",),
    /,
    against: str = "",
    published: bool = False,
    format: Format = "table",
    plugins: Plugins = (),
) -> str:
    """Compare runs: mean and spread over seeds, and a paired test.

    Args:
        runs: Run directories, folders of them, or patterns. By default the folder runs.
        against: Method or group to test the others against. By default `none`, the student alone.
        published: Add the figures that other papers report for the same pairs.
        format: Format of the table.
    """
    import_plugins(plugins)
    from famkd.compare import compare

    return compare(tuple(map(expanded, runs)), against=against, published=published, format=format)


def sweep(
    source: Positional[str] = "",
    /,
    jobs: int = 0,
    on: Literal["local", "ray"] = "local",
    gpus: float = 0,
    cpus: float = 0,
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
    if gpus < 0 or cpus < 0:
        raise UserError("--gpus and --cpus cannot be negative.")
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


def export(
    run: Positional[str] = "",
    /,
    to: Literal["onnx", "pt2", "safetensors"] = "onnx",
    input: Literal["normalized", "unit", "bytes"] = "normalized",
    out: Place = "",
    root: Place = "",
    best: bool = False,
    ema: bool = False,
    plugins: Plugins = (),
) -> Any:
    """Write a run's student alone, checked on test images of the run.

    Args:
        run: Run directory.
        to: ONNX, a torch.export program, or plain weights.
        input: Input of the file: normalized floats as in training, unit floats in 0..1, or bytes (uint8, 0..255).
        out: The file. By default student.onnx and so on in the run directory.
        root: Folder or file of the data set, where it has moved since the training.
        best: Use the weights of the run's best epoch instead of the last.
        ema: Use the average of the weights (EMA), of a run that was trained with --ema.
    """
    import_plugins(plugins)
    if not run:
        raise UserError("Name the run whose student to export, as in famkd export runs/quickstart/fam_review-seed0.")
    from famkd.export import export

    return export(expanded(run), to, input=input, out=out, root=root, best=best, ema=ema)
