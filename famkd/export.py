"""Export of the student alone: ONNX, a torch.export program or plain weights, checked against the run."""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from famkd.distill.types import Dataset
from famkd.errors import UserError
from famkd.evaluate import load_deployed
from famkd.evaluate.noise import Noise
from famkd.features.prepare import Pixels, Prepare, without_preparation
from famkd.files import must_be_writable, write_atomically
from famkd.run.directory import Run
from famkd.tasks import TASKS
from famkd.training.networks import pixels_of

Target = Literal["onnx", "pt2", "safetensors"]
Input = Literal["normalized", "unit", "bytes"]
WHITE = {"unit": 1.0, "bytes": 255.0}  # largest value of a pixel
KINDS = {"normalized": "normalised float32", "unit": "float32 in 0..1", "bytes": "uint8"}
CHECKED = 32  # test images that the exported network is checked on
CLOSE = 1e-3  # largest difference that passes, relative to the largest logit
REPEATS = 30  # runs of the latency measurement

Network = Callable[[Tensor], Tensor]  # images to logits, both on the CPU


class Report(NamedTuple):
    """What was written, and the cost of using it."""

    path: Path
    bytes: int
    parameters: int
    macs: int  # multiply-accumulates for one image
    difference: float  # largest, between the file's logits and the run's
    checked_on: str  # "test images", or "images of noise" where the data set is not there
    latency_ms: float  # median for one image on the CPU
    threads: int
    input: str
    output: str

    def __str__(self) -> str:
        cost = f"{self.bytes / 1e6:.3f} MB, {self.parameters:,} parameters, {self.macs / 1e6:.2f} million MACs"
        return (
            f"{self.path}: {cost}\n"
            f"input: {self.input}; output: {self.output}\n"
            f"largest difference from the run's logits on {CHECKED} {self.checked_on}: {self.difference:.1e}\n"
            f"one image on this CPU: {self.latency_ms:.3f} ms, median of {REPEATS}, {self.threads} thread(s)"
        )

    def as_json(self) -> str:
        """The report as one JSON object."""
        return json.dumps(self._asdict() | {"path": str(self.path)}, indent=1)


class Normalizing(nn.Module):
    """A network that takes raw pixels and normalises them itself.

    Args:
        mean, std: of each channel, in 0..1.
        full: the value of white: 255 for bytes, 1 for floats.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], full: float):
        super().__init__()
        self.network = network
        scale = 1 / (full * torch.tensor(std))
        self.register_buffer("scale", scale[:, None, None])
        self.register_buffer("shift", (-torch.tensor(mean) / torch.tensor(std))[:, None, None])

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network(pixels.float() * self.scale + self.shift)


def export(
    run: str | Path,
    to: Target = "onnx",
    *,
    input: Input = "normalized",
    out: str | Path = "",
    root: str = "",
    best: bool = False,
    ema: bool = False,
    epoch: int = 0,
) -> Report:
    """Write a run's student (for SimKD with its projector and head) and check the file on test images of the run.

    Where the data set is not there, the file is checked on noise: size, classes and normalisation are in the run.

    Args:
        input: what the file takes, (B, 3, H, W) of any B: normalized floats as in training, unit floats in 0..1, or
            bytes (uint8, 0..255).
        out: the file; by default `student.onnx` and so on in the run directory.
        root: folder or file of the data set, where it has moved since; it must be there then.
        best: weights of the run's best epoch instead of the last.
        ema: the averaged student (EMA) of the last epoch.
        epoch: weights of one of the best epochs, of a run that was trained with --keep.

    Errors: UserError for missing packages, for a place that cannot be written, and where the file does not reproduce
    the run; nothing is written then.
    """
    if to == "safetensors" and input != "normalized":
        raise UserError("safetensors holds weights only, no normalisation: choose --to onnx or pt2 for it.")
    opened = Run.open(run)
    if not TASKS[opened.recipe.task].returns_logits:
        raise UserError(
            f"Networks for {opened.recipe.task} cannot be exported: {opened.path / 'student.safetensors'} is the "
            "student's state dict."
        )
    path = Path(out) if out else opened.path / _default_name(to, ema)
    must_be_writable(path.parent)
    network, data = load_deployed(opened, root=root, best=best, ema=ema, epoch=epoch, noise=not root)
    network = network.to(memory_format=torch.contiguous_format)
    prepare = without_preparation(network) or Prepare(pixels_of(data), pixels_of(data))
    header = _header(opened, data, prepare.want, input)
    reread, pixels, difference = _write_checked(network, data, prepare, to, input, path, header)
    height, width = pixels.shape[-2:]
    return Report(
        path=path,
        bytes=path.stat().st_size,
        parameters=sum(p.numel() for p in network.parameters()),
        macs=_macs(network, prepare.images(next(data.test(1)).images)),
        difference=difference,
        checked_on="images of noise" if isinstance(data, Noise) else "test images",
        latency_ms=_latency(reread, pixels[:1]),
        threads=torch.get_num_threads(),
        input=f"images (B, 3, {height}, {width}) {KINDS[input]}",
        output=f"logits (B, {len(data.classes)})",
    )


def _default_name(to: Target, ema: bool) -> str:
    name = "exported.safetensors" if to == "safetensors" else f"student.{to}"
    return f"ema_{name}" if ema else name


def _write_checked(
    network: nn.Module,
    data: Dataset,
    prepare: Prepare,
    to: Target,
    input: Input,
    path: Path,
    header: dict[str, str],
) -> tuple[Network, Tensor, float]:
    """Write a file once a draft of it has reproduced the network's logits.

    Returns the network that the file holds, the images it was checked on, and the largest difference in logits.
    """
    pixels, wanted = _references(network, data, prepare, input)
    whole = network
    if input != "normalized":
        whole = Normalizing(network, prepare.want.mean, prepare.want.std, WHITE[input])
    draft = path.with_name(f".draft.{path.name}")
    try:
        reread = WRITERS[to](whole.eval(), pixels, draft, header)
        difference = (reread(pixels) - wanted).abs().max().item()
        if not difference <= CLOSE * max(wanted.abs().max().item(), 1.0):  # a NaN fails too
            raise UserError(
                f"The {to} file differs from the run by {difference:.3g} in its logits: nothing was written."
            )
        write_atomically(path, draft.read_bytes())
    finally:
        draft.unlink(missing_ok=True)
    return reread, pixels, difference


def _references(network: nn.Module, data: Dataset, prepare: Prepare, input: Input) -> tuple[Tensor, Tensor]:
    """Test images in the form that the file takes, and the run's logits for them."""
    normalized = prepare.images(next(data.test(CHECKED)).images).contiguous()
    if input == "normalized":
        with torch.no_grad():
            return normalized, network(normalized)
    mean = torch.tensor(prepare.want.mean)[:, None, None]
    std = torch.tensor(prepare.want.std)[:, None, None]
    unit = normalized * std + mean
    pixels = unit if input == "unit" else (unit * 255).round().clamp(0, 255).to(torch.uint8)
    shown = unit if input == "unit" else pixels / 255  # pixels of a resized image are rounded
    with torch.no_grad():
        return pixels, network((shown - mean) / std)


def _header(run: Run, data: Dataset, want: Pixels, input: Input) -> dict[str, str]:
    """What a reader needs to know to use the file."""
    recipe = run.recipe
    return {
        "model": recipe.student.model,
        "method": recipe.method,
        "classes": json.dumps(data.classes),
        "input": input,
        "mean": json.dumps(want.mean),
        "std": json.dumps(want.std),
        "size": json.dumps(want.size),
    }


def _write_safetensors(network: nn.Module, pixels: Tensor, path: Path, header: dict[str, str]) -> Network:
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    safetensors.torch.save_file(state, path, header)
    network.load_state_dict(safetensors.torch.load_file(path))
    return torch.no_grad()(network)


def _write_pt2(network: nn.Module, pixels: Tensor, path: Path, header: dict[str, str]) -> Network:
    program = torch.export.export(network, (pixels[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, path, extra_files=header)
    return torch.no_grad()(torch.export.load(path).module())


def _write_onnx(network: nn.Module, pixels: Tensor, path: Path, header: dict[str, str]) -> Network:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  torch's exporter needs it
    except ImportError as error:
        raise UserError(f"--to onnx needs the package {error.name}: pip install famkd[export]") from None
    program = torch.onnx.export(
        network,
        (pixels[:2],),
        dynamo=True,
        input_names=["images"],
        output_names=["logits"],
        verbose=False,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,
    )
    assert program is not None  # with dynamo=True it is a program
    model = program.model_proto
    onnx.helper.set_model_props(model, header)
    onnx.save(model, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        return torch.from_numpy(logits)

    return run


def _macs(network: nn.Module, image: Tensor) -> int:
    """Multiply-accumulates of one image; the counter counts each as two operations."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(image)
    return counter.get_total_flops() // 2


def _latency(network: Network, image: Tensor) -> float:
    """Median milliseconds for one image."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        network(image)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


WRITERS = {"onnx": _write_onnx, "pt2": _write_pt2, "safetensors": _write_safetensors}
