"""What was found before the first step, as a compact table: data, classes, networks, taps, parameters, time."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from famkd import distributed
from famkd.config.recipe import Recipe
from famkd.data.tree import and_more
from famkd.distill.distiller import Distiller, total_loss
from famkd.distill.types import Batch, Dataset
from famkd.errors import counted
from famkd.features.prepare import Pixels
from famkd.tasks import TASKS
from famkd.training.networks import Built

NAMES = 6  # classes that are named
QUICK = 1.0  # seconds; a shorter first pass is repeated, since it includes work that is done once
Row = tuple[str, str]


def summary(
    recipe: Recipe, data: Dataset, networks: Sequence[Built | None], distiller: Distiller, fabric: Fabric
) -> list[str]:
    """Lines of two columns: what was found, and its values."""
    rows = [*_data_rows(data, TASKS[recipe.task].outputs)]
    for who, net, built in zip(("student", "teacher"), (recipe.student, recipe.teacher), networks):
        if built is not None:
            rows.append((who, f"{net.model}, {_parameters(built)}; {_pixels(built.pixels)}"))
    for name in distiller.methods:
        rows += _tap_rows(name, distiller)
    if spent := _estimate(recipe, data, distiller, fabric):
        rows.append(("time", spent))
    width = max(len(name) for name, _ in rows)
    return [f"{name:<{width}}  {value}" for name, value in rows]


def _data_rows(data: Dataset, outputs: str) -> Iterator[Row]:
    labels, classes = data.labels, data.classes
    numbers = {"training": data.n_train, "held out": data.n_val, "test": data.n_test}
    counts = [f"{number:,} {part}" for part, number in numbers.items() if number]
    images: Any = data.probe().images
    channels = images.shape[1] if isinstance(images, Tensor) else len(data.mean)
    size = f"{data.size[0]}x{data.size[1]}" if data.size else "of several sizes"
    yield "images", f"{', '.join(counts)}; {counted(channels, 'channel')}, {size}"
    names = ", ".join(classes[:NAMES]) + (", …" if len(classes) > NAMES else "")
    yield outputs, f"{len(classes)}: {names}{_balance(labels, classes)}"
    yield "step", f"{counted(data.batch_size, 'image')}, {counted(data.steps, 'step')} an epoch"


def _balance(labels: Tensor | None, classes: Sequence[str]) -> str:
    """How many training images the smallest and the largest class have, and which classes have none."""
    if labels is None or not len(labels):
        return ""
    counts = labels.bincount(minlength=len(classes))
    least, most = int(counts.min()), int(counts.max())
    if not least:
        empty = [name for name, count in zip(classes, counts.tolist(), strict=True) if not count]
        return f"; up to {most:,} training images each, and none of {and_more(empty)}"
    return f"; {least:,} training images each" if least == most else f"; {least:,} to {most:,} training images each"


def _parameters(built: Built) -> str:
    total, trained = built.parameters, sum(each.numel() for each in built.model.parameters() if each.requires_grad)
    if trained in (0, total):
        return f"{total:,} parameters"
    return f"{total:,} parameters, {trained:,} of them trained"


def _pixels(pixels: Pixels | None) -> str:
    """How a network takes its images."""
    if pixels is None:
        return "images of several sizes"
    mean, std = (" ".join(f"{value:.4g}" for value in values) for values in (pixels.mean, pixels.std))
    size = f"{pixels.size[0]}x{pixels.size[1]}, " if pixels.size else ""
    return f"{size}mean {mean}, std {std}"


def _tap_rows(name: str, distiller: Distiller) -> Iterator[Row]:
    """The features that a method compares, shallow to deep, with their shapes for one image."""
    for who, taps, shapes in zip(("student", "teacher"), distiller.taps(name), distiller.tap_shapes[name]):
        shown = [f"{tap} {'x'.join(map(str, shape))}" for tap, shape in zip(taps, shapes)]
        if shown:
            yield f"taps of {name}", f"{who}: {', '.join(shown)}"


def _estimate(recipe: Recipe, data: Dataset, distiller: Distiller, fabric: Fabric) -> str:
    """How long the epochs will take, from the losses and gradients of one batch; "" where this cannot be measured."""
    if distributed.world() > 1:
        return ""
    try:
        batch = data.probe()
        step, test = _seconds(lambda: _pass(distiller, batch, fabric)), _seconds(lambda: _look(distiller, batch))
        if data.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()  # the run keeps the peak of its own steps
    except Exception:  # a batch that cannot be trained on is reported by the step that trains on it
        return ""
    share = data.batch_size / len(batch.index)
    tests = (data.n_val or data.n_test) / len(batch.index)
    total = recipe.optim.epochs * (data.steps * share * step + tests * test)
    reading = ", without reading images" if data.streamed else ""
    epochs = counted(recipe.optim.epochs, "epoch")
    return f"about {_spelled(total)} for {epochs}: {share * step:.3g} s a step, uncompiled{reading}"


def _seconds(work: Any) -> float:
    """Seconds of a piece of work, the second time where the first was short."""
    for _ in range(2):
        started = time.perf_counter()
        work()
        seconds = time.perf_counter() - started
        if seconds > QUICK:
            break
    return seconds


def _pass(distiller: Distiller, batch: Batch, fabric: Fabric) -> None:
    """Losses and gradients of a batch. Buffers, gradients and random numbers are left as they were."""
    buffers = [(buffer, buffer.clone()) for buffer in distiller.buffers()]
    device = batch.index.device
    training = distiller.training
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            with fabric.autocast():
                losses, _, _ = distiller.train().losses(batch)
                total = total_loss(losses, dict.fromkeys(losses, 1.0))
            total.backward()
            _wait(device)
        finally:
            distiller.train(training)
            for parameter in distiller.parameters():
                parameter.grad = None
            for buffer, before in buffers:
                buffer.copy_(before)


@torch.no_grad()
def _look(distiller: Distiller, batch: Batch) -> None:
    """What the deployed network returns for a batch."""
    training = distiller.training
    distiller.eval().deployed(batch.images)
    distiller.train(training)
    _wait(batch.index.device)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _spelled(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds > 5 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
