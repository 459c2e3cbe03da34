"""What `growth.py` measures. Each class is called with a size and returns processor seconds, MiB and MiB written."""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from famkd.bench.step import noise_images
from famkd.bench.timer import processor_seconds
from famkd.compare import compare
from famkd.config.load import load_recipe
from famkd.distill.types import Batch, Probe, View
from famkd.layers.fourier import FilterOptions, FourierFilter
from famkd.methods.common import add_up
from famkd.methods.contrast import CRD
from famkd.methods.fam import FAMLayers
from famkd.methods.review import FAMReview
from famkd.models import build_model
from famkd.run.directory import Run
from famkd.run.summaries import notes_of
from famkd.sweep.memory import LiveStorages
from famkd.training.store import store_teacher
from famviz import FilterExplorer
from famviz.report import write_report

MIB = 2**20
METHODS = {"fam": FAMLayers, "fam_review": FAMReview}
USUAL = {"side": 32, "channels": 16, "classes": 100, "batch": 32}  # of a step of which one size grows
REPEATS = 3


class Measured(NamedTuple):
    """Processor seconds, the most memory above what was held before, and the size of what was written, if anything."""

    seconds: float
    mib: float
    written_mib: float = float("nan")


def median_seconds(call: Callable[[], object]) -> float:
    """Processor seconds, the median over some calls."""
    return median(processor_seconds(call) for _ in range(REPEATS))


def with_memory(call: Callable[[], object]) -> Measured:
    """Time a call once, and read the most memory that the process held in it (Linux)."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    seconds = processor_seconds(call)
    return Measured(seconds, (_status("VmHWM") - before) / 1024)


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def stages(channels: int, side: int, batch: int) -> list[Tensor]:
    """The maps of three stages, each with twice the channels and half the side of the one before."""
    return [torch.rand(batch, channels << at, side >> at, side >> at) for at in range(3)]


@dataclass(frozen=True)
class MethodStep:
    """Forward and backward pass of a method and of a linear classifier, eagerly; one size of the step grows."""

    method: str
    axis: str

    def __call__(self, size: int) -> Measured:
        sizes = {**USUAL, self.axis: size}
        torch.manual_seed(0)
        feats = stages(sizes["channels"], sizes["side"], sizes["batch"])
        feats = [*feats, feats[-1].mean((2, 3))] if self.method == "fam_review" else feats
        feats = [feat.to(memory_format=torch.channels_last) if feat.ndim == 4 else feat for feat in feats]
        live = LiveStorages()
        with live:
            module = METHODS[self.method](Probe(View(None, feats), View(None, feats), None))
            head = nn.Linear(feats[-1].shape[1], sizes["classes"])
            step = self._step(module, head, feats, sizes)
            step()  # the gradients of weights stay allocated
        return Measured(median_seconds(step), live.peak / MIB)

    def _step(self, module: nn.Module, head: nn.Module, feats: list[Tensor], sizes: dict[str, int]) -> Callable:
        labels = torch.arange(sizes["batch"]) % sizes["classes"]
        batch = Batch(torch.zeros(sizes["batch"]), labels, labels)

        def step() -> None:
            own = [feat.detach().requires_grad_() for feat in feats]
            embed = own[-1] if own[-1].ndim == 2 else own[-1].mean((2, 3))
            losses = module(View(None, own), View(None, feats), batch)
            add_up([*losses.values(), F.cross_entropy(head(embed), labels)]).backward()

        return step


def write_run(path: Path, shapes: list[tuple[int, int]], seed: int = 0, epochs: int = 2) -> Run:
    """A finished run of `fam_review` whose filters are noise, for stages of some channels and sides."""
    torch.manual_seed(seed)
    feats = [torch.rand(2, channels, side, side) for channels, side in shapes] + [torch.rand(2, shapes[-1][0])]
    probe = Probe(View(None, feats), View(None, feats), None)
    methods = nn.ModuleDict({"fam_review": FAMReview(probe, filter=FilterOptions(init="balanced"))})
    run = Run(path)
    run.begin(load_recipe("quickstart", "--epochs", str(epochs), "--seed", str(seed)), "cpu")
    taps = [f"layer{at}" for at in range(1, len(shapes) + 1)] + ["avgpool"]
    notes = {"taps": {"fam_review": {"student": taps, "teacher": taps}}, "modules": notes_of(methods)}
    metrics, timing = run.metrics(), run.timing()
    for epoch in range(1, epochs + 1):
        metrics.append({"epoch": epoch, "task.ce": 2 / epoch, "top1": 50.0 + seed % 7 + epoch, "top5": 90.0, "lr": 0.1})
        timing.append({"epoch": epoch, "seconds": 1.0, "images_per_s": 10.0, "peak_mib": None})
        run.write_epoch(metrics, timing, nn.Linear(2, 2), methods, notes, best=True)
    return run


@dataclass(frozen=True)
class Compare:
    """`famkd compare` of runs of one recipe with many seeds."""

    place: Path

    def __call__(self, size: int) -> Measured:
        folder = self.place / f"compare-{size}"
        first = write_run(folder / "0", [(2, 4)]).path
        recipe = (first / "recipe.yaml").read_text()
        for seed in range(1, size):
            path = folder / str(seed)
            path.mkdir()
            for name in ("metrics.jsonl", "timing.jsonl", "student.safetensors", "best.safetensors"):
                (path / name).write_bytes((first / name).read_bytes())
            (path / "recipe.yaml").write_text(recipe.replace("\nseed: 0\n", f"\nseed: {seed}\n"))
        text = ""

        def call() -> None:
            nonlocal text
            text = compare([folder])

        found = with_memory(call)
        if f" {size} " not in text:
            raise SystemExit(f"famkd compare found other runs than the {size} that were written:\n{text}")
        return found


@dataclass(frozen=True)
class Report:
    """`famviz report` of runs of two stages, or of one run of many stages. Pictures of images need networks: none."""

    place: Path
    axis: str

    def __call__(self, size: int) -> Measured:
        runs, levels = (size, 2) if self.axis == "runs" else (1, size)
        folder = self.place / f"report-{self.axis}-{size}"
        paths = [write_run(folder / str(seed), [(8, 16)] * levels, seed).path for seed in range(runs)]
        found = with_memory(lambda: write_report(paths, folder / "report.html"))
        return found._replace(written_mib=(folder / "report.html").stat().st_size / MIB)


@dataclass(frozen=True)
class Open:
    """`FilterExplorer` of a run with one level, a filter of channels x channels x 7 x 4."""

    place: Path

    def __call__(self, size: int) -> Measured:
        path = self.place / f"open-{size}"
        writing = get_context("fork").Process(target=_write_wide, args=(path, size))  # whose memory does not count
        writing.start()
        writing.join()
        return with_memory(lambda: FilterExplorer(path))


def _write_wide(path: Path, channels: int) -> None:
    run = write_run(path, [(2, 7)], epochs=1)
    module = FourierFilter(1, 1, (7, 7), init="zero")
    module.c_in = module.c_out = channels
    noise = torch.randn(7, 4, 1, 2, channels).expand(7, 4, channels, 2, channels) * torch.rand(channels)[:, None, None]
    module.weight = nn.Parameter(noise.contiguous(), requires_grad=False)
    level = nn.Module()
    level.add_module("leave", nn.ModuleList([nn.Module()]))
    level.get_submodule("leave.0").add_module("filter", module)
    methods = nn.ModuleDict({"fam_review": nn.ModuleDict({"levels": nn.ModuleList([level])})})
    notes = {"taps": {"fam_review": {"student": ["layer1"], "teacher": ["layer1"]}}, "modules": notes_of(methods)}
    run.write_epoch(run.metrics(), run.timing(), nn.Linear(2, 2), methods, notes, best=True)


@dataclass(frozen=True)
class CrdMemory:
    """Building CRD, whose memory has a row for each training image, and one step."""

    def __call__(self, size: int) -> Measured:
        labels = torch.arange(size) % 10
        view = View(None, [torch.rand(64, 64)])
        index = torch.arange(64)
        live = LiveStorages()
        with live:
            crd = CRD(Probe(view, view, labels), negatives=256)
        batch = Batch(torch.zeros(64), labels[:64], index)
        seconds = median_seconds(lambda: add_up(crd(view, view, batch).values()).backward())
        return Measured(seconds, live.peak / MIB)


@dataclass(frozen=True)
class Store:
    """`famkd store`: the logits of a small teacher for noise images, under some augmentations."""

    place: Path

    def __call__(self, size: int) -> Measured:
        images = noise_images(4096, 16, 10)
        np.savez("noise.npz", x_train=images.x_train, y_train=images.y_train, x_test=images.x_test[:8],
                 y_test=images.y_test[:8], class_names=images.classes)  # fmt: skip
        torch.save(build_model("resnet8x0.5", 10).state_dict(), "teacher.pt")
        flags = ("--data", "npz", "--data.root", "noise.npz", "--teacher.model", "resnet8x0.5")
        recipe = load_recipe(
            "quickstart", *flags, "--teacher.weights", "teacher.pt", "--views", str(size), "--method", "kd"
        )
        folder = self.place / f"store-{size}"
        found = with_memory(lambda: store_teacher(recipe, folder))
        written = sum(
            path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != "header.json"
        )
        return found._replace(written_mib=written / MIB)
