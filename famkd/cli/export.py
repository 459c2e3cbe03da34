"""famkd export."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

from famkd.cli.flags import Place, Plugins, Positional
from famkd.command_line.parse import parse
from famkd.command_line.values import expanded
from famkd.config.plugins import import_plugins
from famkd.errors import UserError


@dataclass(frozen=True)
class ExportFlags:
    """Write a run's student alone, checked on test images of the run, or on noise where the data set is not there."""

    run: Positional[str] = ""
    """Run directory."""
    to: Literal["onnx", "pt2", "safetensors", "hub"] = "onnx"
    """ONNX, a torch.export program, plain weights, or a folder as the Hugging Face hub holds a network: config.json and
    model.safetensors."""
    input: Literal["normalized", "unit", "bytes"] = "normalized"
    """Input of the file: normalized floats as in training, unit floats in 0..1, or bytes (uint8, 0..255)."""
    int8: bool = False
    """Quantise weights and activations to int8, by training images of the run; prints size, latency and figures before
    and after. For ONNX."""
    calibration: Annotated[int, Ge(0)] = 0
    """Training images that --int8 is calibrated on. By default 256."""
    fp16: bool = False
    """Store the weights and compute in float16; input and output remain float32."""
    dynamic: Literal["none", "batch", "batch+size"] = "batch"
    """What may differ when the file is used: nothing (one image at a time), the number of images, or their size too."""
    opset: Annotated[int, Ge(0)] = 0
    """Version of ONNX's operators. By default that of torch's exporter."""
    out: Place = ""
    """The file, or the folder of --to hub. By default student.onnx and so on in the run directory."""
    root: Place = ""
    """Folder or file of the data set, where it has moved since the training."""
    best: bool = False
    """Use the weights of the run's best epoch instead of the last."""
    ema: bool = False
    """Use the average of the weights (EMA), of a run that was trained with --ema."""
    epoch: Annotated[int, Ge(0)] = 0
    """Use the weights of this epoch, of a run that was trained with --keep."""
    format: Literal["text", "json"] = "text"
    """Format of what is printed about the file: text, or one JSON object."""
    plugins: Plugins = ()


def export_command(argv: list[str]) -> None:
    flags = parse(ExportFlags, argv, prog="famkd export")
    import_plugins(flags.plugins)
    if not flags.run:
        raise UserError("Name the run whose student to export, as in famkd export runs/quickstart/fam_review-seed0.")
    from famkd.export import export

    chosen = {name: value for name, value in vars(flags).items() if name not in ("run", "to", "format", "plugins")}
    report = export(expanded(flags.run), flags.to, **chosen)
    print(report.as_json() if flags.format == "json" else report)
