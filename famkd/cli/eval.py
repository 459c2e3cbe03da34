"""famkd eval."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge

from famkd.cli.flags import Place, Plugins, Positional
from famkd.command_line.parse import parse
from famkd.command_line.values import expanded
from famkd.config.plugins import import_plugins
from famkd.errors import UserError

if TYPE_CHECKING:
    from famkd.evaluate.show import Evaluation  # it imports torch


@dataclass(frozen=True)
class EvalFlags:
    """Evaluate a run's student, or a bare checkpoint, on the test set."""

    run: Positional[str] = ""
    """Run directory. Its recipe names the model and the data set."""
    model: str = ""
    """Model of a bare checkpoint, from `famkd ls models`."""
    weights: Place = ""
    """Checkpoint file (FILE:ema for its averaged copy), folder of the Hugging Face hub, run directory, `recipe:NAME`,
    or `pretrained` where the model has such weights."""
    data: str = ""
    """Data set, from `famkd ls data`. For a run, by default the one that it was trained on."""
    root: Place = ""
    """Folder or file of the data set."""
    task: str = ""
    """What a bare checkpoint does with an image, as in `famkd train --task`. By default what its model is for."""
    output: str = ""
    """Where the logits are in what a bare checkpoint's model returns, such as `logits` or `1`. Found automatically
    where only one part can be the logits."""
    best: bool = False
    """Use the weights of the run's best epoch instead of the last."""
    ema: bool = False
    """Use the average of the weights (EMA), of a run that was trained with --ema."""
    epoch: Annotated[int, Ge(0)] = 0
    """Use the weights of this epoch, of a run that was trained with --keep."""
    split: Literal["test", "val"] = "test"
    """Images to measure: the test set, or val for those that the run held out of training by --data.val."""
    batch_size: Annotated[int, Ge(0)] = 0
    """Images per batch; 0 for the default of the data set."""
    accelerator: str = "auto"
    """auto, cpu, cuda or mps."""
    mean: tuple[float, ...] = ()
    """Mean of each channel, for pixels in 0..1, that a bare checkpoint was trained with. By default that of its
    pretrained weights or of its run, else that of the data set."""
    std: tuple[float, ...] = ()
    """Standard deviation of each channel, as for `mean`."""
    size: tuple[int, ...] = ()
    """Height and width of the images that a bare checkpoint takes, or one number for both."""
    interpolation: Literal["", "bilinear", "bicubic", "nearest", "area"] = ""
    """How images are resized to `size`."""
    rows: Annotated[int, Ge(0)] = 10
    """Rows of the tables: the classes with the lowest figure, and the most frequent confusions; 0 for no tables."""
    format: Literal["table", "json"] = "table"
    """table for figures and tables, json for everything as one JSON object."""
    agreement: bool = False
    """Show the images to the run's teacher too, and print how often it agrees with the student."""
    teacher_weights: Place = ""
    """Where the teacher's weights are, if they have moved since the training."""
    predictions: Place = ""
    """File for what was predicted for each image: FILE.csv with class names, or FILE.npz with all logits. For several
    labels or numbers: a probability of each label, or the numbers."""
    confusion: Place = ""
    """File for the whole confusion matrix: FILE.csv with class names, or FILE.npz."""
    plugins: Plugins = ()


def eval_command(argv: list[str]) -> None:
    flags = parse(EvalFlags, argv, prog="famkd eval")
    import_plugins(flags.plugins)
    from famkd.evaluate import show

    if bool(flags.run) == bool(flags.model or flags.weights):
        raise UserError("Name either a run directory, or --model with --weights and --data.")
    show.must_be_table_or_arrays("predictions", flags.predictions)
    show.must_be_table_or_arrays("confusion", flags.confusion)
    found = _of_run(flags) if flags.run else _of_checkpoint(flags)
    if flags.confusion and found.answers is None:
        raise UserError("Only classifiers confuse classes: leave --confusion out.")
    if flags.predictions and found.answers is None and found.numbers is None:
        raise UserError("There is no file of predictions without labels, or for boxes: leave --predictions out.")
    if found.answers is not None and flags.predictions:
        show.write_predictions(found.answers, flags.predictions)
    if found.numbers is not None and flags.predictions:
        show.write_numbers(found.numbers, flags.predictions)
    if found.answers is not None and flags.confusion:
        show.write_confusion(found.answers, flags.confusion)
    print(show.as_json(found) if flags.format == "json" else show.as_text(found, flags.rows), end="")


def _of_run(flags: EvalFlags) -> "Evaluation":
    """What a run's student scores."""
    from famkd.evaluate import evaluate_run

    of_checkpoints = {"task": flags.task, "output": flags.output, **_images(flags)}
    _refuse(of_checkpoints, "A run knows its task, how its student takes images, and where the logits are")
    names = ("best", "ema", "epoch", "split", "batch_size", "accelerator", "teacher_weights")
    chosen: dict[str, Any] = {name: getattr(flags, name) for name in names}
    agreement = flags.agreement or bool(flags.teacher_weights)
    return evaluate_run(expanded(flags.run), flags.data, flags.root, agreement=agreement, **chosen)


def _of_checkpoint(flags: EvalFlags) -> "Evaluation":
    """What a bare checkpoint scores."""
    from famkd.evaluate import evaluate_checkpoint

    of_runs = {"split": flags.split != "test", "agreement": flags.agreement, "teacher_weights": flags.teacher_weights}
    _refuse(of_runs, "Only a run knows its teacher and its held-out images")
    chosen = {name: getattr(flags, name) for name in ("task", "output", "batch_size", "accelerator")}
    return evaluate_checkpoint(flags.model, flags.weights, flags.data, flags.root, **chosen, **_images(flags))


def _images(flags: EvalFlags) -> dict[str, Any]:
    """How a bare checkpoint takes images."""
    return {name: getattr(flags, name) for name in ("mean", "std", "size", "interpolation")}


def _refuse(options: dict[str, Any], why: str) -> None:
    """UserError for the first of some options that is given."""
    for name, value in options.items():
        if value:
            raise UserError(f"{why}: leave --{name} out.")
