"""Export of a network that returns logits: a draft is written, read back and compared before it becomes the file."""

import copy
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from famkd.distill.types import Dataset
from famkd.errors import UserError
from famkd.evaluate.noise import Noise
from famkd.export.formats import WRITERS, Network
from famkd.export.onnx_files import opset_in, write_int8
from famkd.export.options import CALIBRATION, Options
from famkd.export.pixels import KINDS, Form, HalfPrecision
from famkd.export.report import Measured, Report, bytes_of, latency, macs, parameters_of
from famkd.features.prepare import Prepare, without_preparation
from famkd.files import write_atomically
from famkd.run.directory import Run
from famkd.tasks import TASKS
from famkd.training.networks import pixels_of

CHECKED = 32  # test images that the exported network is checked on
CLOSE = {"": 1e-3, "fp16": 2e-2}  # largest difference that passes, relative to the largest logit
OTHER_SIZE = 32  # pixels that are added to both sides to check a file for images of any size
SEED = 0  # of the choice of images for calibration


class Source(NamedTuple):
    """What is exported, and the images that it is checked on."""

    run: Run
    network: nn.Module  # takes images that `prepare` has converted
    data: Dataset
    prepare: Prepare
    form: Form  # of the images that the file takes
    pixels: Tensor  # some test images in this form
    wanted: Tensor  # the run's logits for them

    def form_of(self, images: Tensor) -> Tensor:
        """Images of the data set in the form that the file takes."""
        return self.form.of(self.prepare.images(images))


class Draft(NamedTuple):
    """A file that was written and read back."""

    path: Path
    network: Network
    difference: float  # largest, from the run's logits


def export_network(run: Run, network: nn.Module, data: Dataset, options: Options, path: Path) -> Report:
    """Write a network in one of the formats; UserError, and nothing is written, where it does not reproduce the run."""
    source = _source(run, network, data, options)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent, ignore_cleanup_errors=True) as folder:
        whole = _write(source, options, source.network, Path(folder) / f"float32-{path.name}", "")
        draft = whole
        if options.fp16:
            half = HalfPrecision(copy.deepcopy(source.network)).eval()
            draft = _write(source, options, half, Path(folder) / path.name, "fp16")
        elif options.int8:
            draft = _quantized(source, options, whole, Path(folder) / path.name)
        before = _measured(source, options, whole) if options.smaller else None
        figures = _measured(source, options, draft).figures if before else {}
        report = _report(source, options, draft, path)
        place(draft.path, path)
    return report._replace(before=before, figures=figures)


def _source(run: Run, network: nn.Module, data: Dataset, options: Options) -> Source:
    network = network.to(memory_format=torch.contiguous_format)
    prepare = without_preparation(network) or Prepare(pixels_of(data), pixels_of(data))
    form = Form(prepare.want, options.input)
    pixels = form.of(prepare.images(next(data.test(CHECKED)).images))
    with torch.no_grad():
        wanted = network(form.normalized(pixels))
    return Source(run, network, data, prepare, form, pixels, wanted)


def _write(source: Source, options: Options, network: nn.Module, path: Path, numbers: str) -> Draft:
    """Write a draft and compare it with the run."""
    around = source.form.around(network).eval()
    held = WRITERS[options.to](around, source.pixels, path, _header(source, numbers), options)
    draft = _draft(source, options, path, held)
    if not draft.difference <= CLOSE[numbers] * max(source.wanted.abs().max().item(), 1.0):  # a NaN fails too
        raise UserError(
            f"The {options.to} file differs from the run by {draft.difference:.3g} in its logits: nothing was written."
        )
    if options.dynamic == "batch+size":
        _must_take_other_sizes(source, draft, CLOSE[numbers])
    return draft


def _draft(source: Source, options: Options, path: Path, held: Network) -> Draft:
    network = one_by_one(held) if options.dynamic == "none" else held
    return Draft(path, network, (network(source.pixels) - source.wanted).abs().max().item())


def one_by_one(network: Network) -> Network:
    """A network that takes one image at a time, as one that takes any number."""
    return lambda images: torch.cat([network(image) for image in images.split(1)])


def _must_take_other_sizes(source: Source, draft: Draft, close: float) -> None:
    """UserError where the file does not reproduce the network on larger images."""
    height, width = source.pixels.shape[-2:]
    larger = F.interpolate(source.pixels.float(), (height + OTHER_SIZE, width + OTHER_SIZE)).to(source.pixels.dtype)
    try:
        with torch.no_grad():
            wanted = source.network(source.form.normalized(larger))
        found = draft.network(larger)
    except Exception as error:  # a network and a runtime refuse a size in any way
        raise UserError(
            f"{source.run.recipe.student.model} takes images of {height} x {width} pixels only: leave --dynamic "
            "batch+size out."
        ) from error
    if not (found - wanted).abs().max() <= close * max(wanted.abs().max().item(), 1.0):
        raise UserError("The file does not reproduce the network on larger images: leave --dynamic batch+size out.")


def _quantized(source: Source, options: Options, whole: Draft, path: Path) -> Draft:
    """A draft in int8. Its logits differ from those of the run, so its figures tell whether it can be used."""
    if isinstance(source.data, Noise):
        raise UserError("--int8 is calibrated on training images: name the data set by --root.")
    images = _calibration_images(source, options)
    draft = _draft(source, options, path, write_int8(whole.path, path, images, _header(source, "int8")))
    if not draft.difference < float("inf"):
        raise UserError("The int8 file returns numbers that are not finite: nothing was written.")
    return draft


def _calibration_images(source: Source, options: Options) -> Iterator[Tensor]:
    """Training images without augmentation in the form that the file takes, drawn by a fixed seed."""
    draw = torch.Generator().manual_seed(SEED)
    order = torch.randperm(source.data.n_train, generator=draw)
    chosen = order[: options.calibration or CALIBRATION].tolist()
    for batch in source.data.view(0, chosen, CHECKED):
        images = source.form_of(batch.images)
        yield from images.split(1) if options.dynamic == "none" else [images]


def _measured(source: Source, options: Options, draft: Draft) -> Measured:
    """Size, latency, and figures on all test images, where these have labels."""
    task, figures = TASKS[source.run.recipe.task], {}
    if not isinstance(source.data, Noise) and not task.judged_by_teacher:
        print(f"measuring {draft.path.name} on the test images", file=sys.stderr)
        figures = task.evaluate(_OnData(source, draft.network), source.data.test()).figures
    return Measured(bytes_of(draft.path), latency(draft.network, source.pixels[:1]), figures)


class _OnData(nn.Module):
    """The network of a file, called with images of the data set."""

    def __init__(self, source: Source, network: Network):
        super().__init__()
        self.source, self.network = source, network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(self.source.form_of(images))


def _header(source: Source, numbers: str) -> dict[str, str]:
    """What a reader needs to know to use the file."""
    recipe, want = source.run.recipe, source.form.want
    return {
        "model": recipe.student.model,
        "method": recipe.method,
        "classes": json.dumps(source.data.classes),
        "input": source.form.input,
        "mean": json.dumps(want.mean),
        "std": json.dumps(want.std),
        "size": json.dumps(want.size),
        "interpolation": want.interpolation,
        "numbers": numbers or "float32",
    }


def _report(source: Source, options: Options, draft: Draft, path: Path) -> Report:
    height, width = source.pixels.shape[-2:]
    batch = "1" if options.dynamic == "none" else "B"
    sides = "H, W" if options.dynamic == "batch+size" else f"{height}, {width}"
    noise = isinstance(source.data, Noise)
    checked = f"{len(source.pixels)} {'images of noise' if noise else 'test images'}"
    calibrated = min(options.calibration or CALIBRATION, source.data.n_train) if options.int8 else 0
    return Report(
        path=path,
        bytes=bytes_of(draft.path),
        parameters=parameters_of(source.network),
        macs=macs(source.network, source.prepare.images(next(source.data.test(1)).images)),
        difference=draft.difference,
        checked_on=checked,
        latency_ms=latency(draft.network, source.pixels[:1]),
        threads=torch.get_num_threads(),
        input=f"images ({batch}, {source.pixels.shape[1]}, {sides}) {KINDS[options.input]}",
        output=f"logits ({batch}, {len(source.data.classes)})",
        numbers=options.smaller or "float32",
        opset=opset_in(draft.path) if options.to == "onnx" else 0,
        calibrated_on=calibrated,
    )


def place(draft: Path, path: Path) -> None:
    """Make a draft the file, or its files those of a folder."""
    if draft.is_dir():
        for file in sorted(draft.iterdir()):
            write_atomically(path / file.name, file.read_bytes())
    else:
        write_atomically(path, draft.read_bytes())
