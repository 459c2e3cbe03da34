"""ONNX files: written by torch's exporter, run by onnxruntime, and quantised to int8."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from famkd.errors import UserError
from famkd.export.options import OLDEST_OPSET, Options

Shapes = tuple[dict[int, Any]]


def write_onnx(network: nn.Module, pixels: Tensor, path: Path, header: dict[str, str], options: Options) -> Any:
    """Write a network to an ONNX file and return it as onnxruntime runs it.

    Args:
        pixels: (B, C, H, W) images in the form that the file takes.

    Errors: UserError for a missing package, and for an opset that the network cannot be written in.
    """
    must_have_packages()
    import onnx

    if options.opset and options.opset < OLDEST_OPSET:
        raise UserError(f"--opset is {options.opset}: networks are written in opset {OLDEST_OPSET} or newer.")
    images, shapes = example(pixels, options)
    program = torch.onnx.export(
        network,
        (images,),
        dynamo=True,
        input_names=["images"],
        output_names=["logits"],
        opset_version=options.opset or None,
        verbose=False,
        dynamic_shapes=shapes,
        external_data=False,
    )
    assert program is not None  # with dynamo=True it is a program
    model = program.model_proto
    if options.opset and opset_of(model) != options.opset:
        raise UserError(
            f"The network cannot be written in opset {options.opset}, only in opset {opset_of(model)}: leave --opset "
            "out, or choose another."
        )
    onnx.helper.set_model_props(model, header)
    onnx.save(model, path)
    return open_onnx(path, ["logits"])


def must_have_packages() -> None:
    """UserError that names the first package that is missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401  torch's exporter needs it
    except ImportError as error:
        raise UserError(f"--to onnx needs the package {error.name}: pip install famkd[export]") from None


def example(pixels: Tensor, options: Options) -> tuple[Tensor, Shapes | None]:
    """Images to trace a network with, and which of their sizes may differ in use."""
    batch = {0: torch.export.Dim("batch")}
    if options.dynamic == "none":
        return pixels[:1], None
    if options.dynamic == "batch":
        return pixels[:2], (batch,)
    return pixels[:2], (batch | {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},)


def opset_of(model: Any) -> int:
    """The version of ONNX's own operators in a model."""
    return next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))


def opset_in(path: Path) -> int:
    import onnx

    return opset_of(onnx.load(path, load_external_data=False))


def open_onnx(path: Path, outputs: list[str]) -> Any:
    """The network in a file as a function of one tensor; it returns a tensor, or a list of several outputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    (takes,) = [each.name for each in session.get_inputs()]

    def run(images: Tensor) -> Any:
        found = [torch.from_numpy(each) for each in session.run(outputs, {takes: images.numpy()})]
        return found[0] if len(found) == 1 else found

    return run


def write_int8(source: Path, target: Path, batches: Iterator[Tensor], header: dict[str, str]) -> Any:
    """Quantise a float32 file to int8 and return it as onnxruntime runs it.

    Weights have a scale for each channel, activations the range that they had on the images of calibration.

    Args:
        batches: real images in the form that the file takes.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):
        def get_next(self) -> Any:
            batch = next(batches, None)
            return None if batch is None else {"images": batch.numpy()}

    prepared = source.with_name("prepared.onnx")
    with _quiet():
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            Images(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )
    model = onnx.load(target)
    onnx.helper.set_model_props(model, header)
    onnx.save(model, target)
    return open_onnx(target, ["logits"])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep warnings of the quantiser, which are for its developers, from standard error."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
