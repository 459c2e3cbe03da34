"""famkd eval."""

from typing import Annotated, Any, Literal

from annotated_types import Ge

from famkd.cli.commands import Place, Plugins, Positional
from famkd.command_line.parse import call
from famkd.command_line.values import expanded
from famkd.config.plugins import import_plugins
from famkd.errors import UserError


def eval_command(argv: list[str]) -> None:
    print(call(evaluate, argv, prog="famkd eval"), end="")


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
    epoch: int = 0,
    split: Literal["test", "val"] = "test",
    batch_size: int = 0,
    accelerator: str = "auto",
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    size: tuple[int, ...] = (),
    interpolation: Literal["", "bilinear", "bicubic", "nearest", "area"] = "",
    rows: Annotated[int, Ge(0)] = 10,
    format: Literal["table", "json"] = "table",
    agreement: bool = False,
    teacher_weights: Place = "",
    predictions: Place = "",
    confusion: Place = "",
    plugins: Plugins = (),
) -> str:
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
        epoch: Use the weights of this epoch, of a run that was trained with --keep.
        split: Images to measure: the test set, or val for those that the run held out of training by --data.val.
        batch_size: Images per batch; 0 for the default of the data set.
        accelerator: auto, cpu, cuda or mps.
        mean: Mean of each channel, for pixels in 0..1, that a bare checkpoint was trained with. By default that of its
            pretrained weights or of its run, else that of the data set.
        std: Standard deviation of each channel, as for `mean`.
        size: Height and width of the images that a bare checkpoint takes, or one number for both.
        interpolation: How images are resized to `size`.
        rows: Rows of the tables: the classes with the lowest figure, and the most frequent confusions; 0 for no tables.
        format: table for figures and tables, json for everything as one JSON object.
        agreement: Show the images to the run's teacher too, and print how often it agrees with the student.
        teacher_weights: Where the teacher's weights are, if they have moved since the training.
        predictions: File for what was predicted for each image: FILE.csv with class names, or FILE.npz with all logits.
        confusion: File for the whole confusion matrix: FILE.csv with class names, or FILE.npz.
    """
    import_plugins(plugins)
    from famkd.evaluate import evaluate_checkpoint, evaluate_run
    from famkd.evaluate.show import as_json, as_text, must_be_table_or_arrays, write_confusion, write_predictions

    if bool(run) == bool(model or weights):
        raise UserError("Name either a run directory, or --model with --weights and --data.")
    if rows < 0:
        raise UserError(f"--rows is {rows}: pass 0 or more.")
    must_be_table_or_arrays("predictions", predictions)
    must_be_table_or_arrays("confusion", confusion)
    images = {"mean": mean, "std": std, "size": size, "interpolation": interpolation}
    if run:
        _must_be_of_a_bare_checkpoint({"output": output, **images})
        found = evaluate_run(
            expanded(run), data, root, best=best, ema=ema, epoch=epoch, split=split, batch_size=batch_size,
            accelerator=accelerator, agreement=agreement or bool(teacher_weights), teacher_weights=teacher_weights,
        )  # fmt: skip
    else:
        _must_be_of_a_run({"split": split != "test", "agreement": agreement, "teacher_weights": teacher_weights})
        found = evaluate_checkpoint(
            model, weights, data, root, output=output, batch_size=batch_size, accelerator=accelerator, **images
        )
    if (predictions or confusion) and found.answers is None:
        raise UserError("Only classifiers have predictions by class: leave --predictions and --confusion out.")
    if found.answers is not None and predictions:
        write_predictions(found.answers, predictions)
    if found.answers is not None and confusion:
        write_confusion(found.answers, confusion)
    return as_json(found) if format == "json" else as_text(found, rows)


def _must_be_of_a_bare_checkpoint(options: dict[str, Any]) -> None:
    """UserError for an option that a run's recipe answers."""
    given = [name for name, value in options.items() if value]
    if given:
        raise UserError(f"A run knows the {given[0]} of its student: leave --{given[0]} out.")


def _must_be_of_a_run(options: dict[str, Any]) -> None:
    """UserError for an option that only a run can answer."""
    given = [name for name, value in options.items() if value]
    if given:
        raise UserError(f"Only a run knows its teacher and its held-out images: leave --{given[0]} out.")
