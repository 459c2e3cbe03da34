"""What an export reports: size, cost and figures of the file, and of the float32 file before."""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

REPEATS = 30  # runs of the latency measurement, by default


class Measured(NamedTuple):
    """What a file costs, and what it scores."""

    bytes: int
    latency_ms: float  # median for one image on the CPU
    figures: dict[str, float]  # on all test images, in percent; {} where these or their labels are not there


class Report(NamedTuple):
    """What was written, and the cost of using it."""

    path: Path
    bytes: int
    parameters: int
    macs: int  # multiply-accumulates for one image
    difference: float  # largest, between what the file and the run return
    checked_on: str  # such as "32 test images", or "32 images of noise" where the data set is not there
    latency_ms: float  # median for one image on the CPU
    threads: int
    input: str
    output: str
    numbers: str = "float32"  # or fp16, int8
    opset: int = 0  # of an ONNX file
    repeats: int = REPEATS  # of the latency measurement
    calibrated_on: int = 0  # training images, for int8
    figures: dict[str, float] = {}  # of the file on all test images, for int8 and fp16
    before: Measured | None = None  # the same in float32, for int8 and fp16

    def __str__(self) -> str:
        cost = f"{self.bytes / 1e6:.3f} MB, {self.parameters:,} parameters, {self.macs / 1e6:.2f} million MACs"
        numbers = f", {self.numbers}" if self.before else ""
        opset = f", opset {self.opset}" if self.opset else ""
        lines = [
            f"{self.path}: {cost}{numbers}{opset}",
            f"input: {self.input}; output: {self.output}",
            f"largest difference from the run on {self.checked_on}: {self.difference:.1e}",
            f"one image on this CPU: {self.latency_ms:.3f} ms, median of {self.repeats}, {self.threads} thread(s)",
        ]
        if self.calibrated_on:
            lines.append(f"calibrated on {self.calibrated_on} training images")
        if self.before:
            lines.append(self._compared(self.before))
        return "\n".join(lines)

    def _compared(self, before: Measured) -> str:
        """Size, latency and figures in float32 and now."""
        changes = [
            f"{before.bytes / 1e6:.3f} -> {self.bytes / 1e6:.3f} MB",
            f"{before.latency_ms:.3f} -> {self.latency_ms:.3f} ms",
        ]
        changes += [f"{name} {before.figures[name]:.2f} -> {value:.2f}" for name, value in self.figures.items()]
        return f"float32 -> {self.numbers}: {', '.join(changes)}"

    def as_json(self) -> str:
        """The report as one JSON object."""
        before = self.before and self.before._asdict()
        return json.dumps(self._asdict() | {"path": str(self.path), "before": before}, indent=1)


def macs(network: Callable[[Any], Any], image: Any) -> int:
    """Multiply-accumulates of one image; the counter counts each as two operations."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(image)
    return counter.get_total_flops() // 2


def latency(network: Callable[[Any], Any], image: Any, repeats: int = REPEATS) -> float:
    """Median milliseconds for one image."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        network(image)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def parameters_of(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def bytes_of(path: Path) -> int:
    """Size of a file, or of all files in a folder."""
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
