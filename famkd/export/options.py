"""What an exported file is like, and which of these choices fit together."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

from famkd.errors import UserError
from famkd.ranges import check_ranges

Target = Literal["onnx", "pt2", "safetensors", "hub"]
Input = Literal["normalized", "unit", "bytes"]
Dynamic = Literal["none", "batch", "batch+size"]
CALIBRATION = 256  # training images that int8 is calibrated on by default
OLDEST_OPSET = 18  # that torch's exporter writes without conversion
WEIGHTS_ONLY = ("safetensors", "hub")


@dataclass(frozen=True)
class Options:
    """The options of `famkd.export.export` that say what the file is like."""

    to: Target = "onnx"
    input: Input = "normalized"
    int8: bool = False
    fp16: bool = False
    dynamic: Dynamic = "batch"
    opset: Annotated[int, Ge(0)] = 0
    calibration: Annotated[int, Ge(0)] = 0

    def must_fit_together(self) -> None:
        """UserError for options that are unknown, that exclude each other, or that the format does not have."""
        check_ranges(self)
        weights_only = self.to in WEIGHTS_ONLY
        holds = f"{'A folder of the hub' if self.to == 'hub' else self.to} holds weights only"
        if weights_only and self.input != "normalized":
            raise UserError(f"{holds}, no normalisation: choose --to onnx or pt2 for it.")
        if weights_only and self.dynamic != "batch":
            raise UserError(f"{holds}, which take images of any number: leave --dynamic out.")
        if self.int8 and self.to != "onnx":
            raise UserError("--int8 writes an ONNX file: choose --to onnx, or leave it out.")
        if self.int8 and self.fp16:
            raise UserError("--int8 and --fp16 are two ways to make the file smaller: choose one.")
        if self.opset and self.to != "onnx":
            raise UserError("--opset is a version of ONNX: choose --to onnx, or leave it out.")
        if self.calibration and not self.int8:
            raise UserError("--calibration is for --int8: leave it out.")

    @property
    def smaller(self) -> str:
        """How the numbers are stored, if not in float32: int8, fp16 or ""."""
        return "int8" if self.int8 else "fp16" if self.fp16 else ""

    def default_name(self, ema: bool) -> str:
        """The file's name in the run directory, where no other is given."""
        stem = "exported" if self.to == "safetensors" else "student"
        if self.smaller:
            stem += f"-{self.smaller}"
        name = f"{stem}-hub" if self.to == "hub" else f"{stem}.{self.to}"
        return f"ema_{name}" if ema else name
