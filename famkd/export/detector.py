"""Export of a detector to ONNX: one image of any size in, boxes, labels and scores out."""

import itertools
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from famkd.distill.types import Dataset
from famkd.errors import UserError
from famkd.export.network import place
from famkd.export.onnx_files import must_have_packages, open_onnx, opset_in
from famkd.export.options import Options
from famkd.export.report import Report, bytes_of, latency, macs, parameters_of
from famkd.run.directory import Run

OUTPUTS = ["boxes", "labels", "scores"]
OPSETS = range(11, 21)  # that torch's exporter by tracing writes; that by torch.export cannot write a detector
OPSET = 18
CHECKED = 8  # test images
SURE = 1e-3  # a box must be as far above the threshold of scores to be looked for: others may be lost by rounding
CLOSE_PIXELS, CLOSE_SCORE = 0.1, 1e-3  # largest differences that pass
REPEATS = 5


class Difference(NamedTuple):
    """How far the nearest boxes of a file are from those of a run."""

    boxes: int  # that were compared
    pixels: float
    score: float


class OneImage(nn.Module):
    """A detector of torchvision that takes one image and returns its boxes, labels and scores."""

    def __init__(self, detector: nn.Module, white: float):
        super().__init__()
        self.detector, self.white = detector, white

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (found,) = self.detector([image.float() / self.white])
        return found["boxes"], found["labels"], found["scores"]


def export_detector(run: Run, network: nn.Module, data: Dataset, options: Options, path: Path) -> Report:
    """Write a detector; UserError, and nothing is written, where the file does not find the run's boxes."""
    _must_suit_a_detector(run, options)
    must_have_packages()
    white = 255.0 if options.input == "bytes" else 1.0
    images = [_as_input(batch.images[0], options) for batch in itertools.islice(data.test(1), CHECKED)]
    detector = OneImage(network, white).eval()
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent, ignore_cleanup_errors=True) as folder:
        draft = Path(folder) / path.name
        _write(detector, images[0], draft, options, _header(run, data, options))
        session = open_onnx(draft, OUTPUTS)
        found = _difference(detector, session, images)
        if not (found.pixels <= CLOSE_PIXELS and found.score <= CLOSE_SCORE):
            raise UserError(
                f"The boxes of the file are {found.pixels:.3g} pixels away from those of the run, their scores "
                f"{found.score:.3g}: nothing was written."
            )
        place(draft, path)
    return Report(
        path=path,
        bytes=bytes_of(path),
        parameters=parameters_of(network),
        macs=macs(detector, images[0]),
        difference=found.pixels,
        checked_on=f"{found.boxes} boxes of {len(images)} test images, in pixels",
        latency_ms=latency(session, images[0], REPEATS),
        repeats=REPEATS,
        threads=torch.get_num_threads(),
        input=f"image (3, H, W) {'uint8' if options.input == 'bytes' else 'float32 in 0..1'}",
        output="boxes (N, 4) as x1 y1 x2 y2 in pixels, labels (N,) from 1, scores (N,)",
        opset=opset_in(path),
    )


def _must_suit_a_detector(run: Run, options: Options) -> None:
    if options.to != "onnx":
        weights = run.path / "student.safetensors"
        raise UserError(f"Networks for detection are exported to onnx only; {weights} is the student's state dict.")
    if options.smaller:
        raise UserError(f"Detectors are written in float32: leave --{options.smaller} out.")
    if options.dynamic != "batch":
        raise UserError("A detector's file takes one image of any size: leave --dynamic out.")
    if options.opset and options.opset not in OPSETS:
        raise UserError(f"--opset is {options.opset}: detectors are written in opset {OPSETS[0]} to {OPSETS[-1]}.")


def _as_input(image: Tensor, options: Options) -> Tensor:
    """An image of the data set, floats in 0..1, as the file takes it."""
    return (image * 255).round().to(torch.uint8) if options.input == "bytes" else image


def _header(run: Run, data: Any, options: Options) -> dict[str, str]:
    return {
        "model": run.recipe.student.model,
        "method": run.recipe.method,
        "classes": json.dumps(data.classes),
        "input": "bytes" if options.input == "bytes" else "unit",
        "shorter side": json.dumps(data.sides[-1]),
        "longest side": json.dumps(data.longest),
    }


def _write(detector: nn.Module, image: Tensor, path: Path, options: Options, header: dict[str, str]) -> None:
    """Trace the detector: how many boxes it finds depends on the image, which torch.export does not allow."""
    import onnx

    several = {0: "boxes"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on tracing, of which this detector is checked at several sizes
        torch.onnx.export(
            detector,
            (image,),
            path,
            dynamo=False,
            input_names=["image"],
            output_names=OUTPUTS,
            opset_version=options.opset or OPSET,
            dynamic_axes={"image": {1: "height", 2: "width"}, **dict.fromkeys(OUTPUTS, several)},
        )
    model = onnx.load(path)
    onnx.helper.set_model_props(model, header)
    onnx.save(model, path)


@torch.no_grad()
def _difference(detector: Any, session: Any, images: list[Tensor]) -> Difference:
    """Compare each box of the run with the nearest one of the file that has its label and its score."""
    threshold = detector.detector.roi_heads.score_thresh + SURE
    total = Difference(0, 0.0, 0.0)
    for image in images:
        boxes, labels, scores = detector(image)
        found, kept = session(image), scores > threshold
        for box, label, score in zip(boxes[kept], labels[kept], scores[kept]):
            pixels, wrong = _nearest(box, label, score, found)
            total = Difference(total.boxes + 1, max(total.pixels, pixels), max(total.score, wrong))
    return total


def _nearest(box: Tensor, label: Tensor, score: Tensor, found: list[Tensor]) -> tuple[float, float]:
    """Distances in pixels and in score to the nearest box of the same label; infinite without one."""
    boxes, labels, scores = found
    same = labels == label
    if not same.any():
        return float("inf"), float("inf")
    apart = (boxes[same] - box).abs().amax(1)
    wrong = (scores[same] - score).abs()
    best = (apart + wrong).argmin()
    return apart[best].item(), wrong[best].item()
