"""Time a training step and its parts on this machine."""

import itertools
import json
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from famkd.bench.reference import ReferenceLoader, use_reference
from famkd.bench.timer import Call, Timer
from famkd.config.recipe import Recipe
from famkd.config.validate import validated
from famkd.data.in_memory import InMemory
from famkd.data.small import Images
from famkd.data.streamed import SIZE
from famkd.data.transforms import Size, size_from
from famkd.distill.distiller import Distiller, total_loss
from famkd.distill.types import Batch, Dataset
from famkd.errors import UserError
from famkd.files import read_csv, write_csv
from famkd.layers.convolution import fast_convolutions
from famkd.run.environment import environment_info
from famkd.training.build import (
    build_distiller,
    build_fabric,
    build_step,
    build_training_data,
    check_batch_size,
    round_teacher,
)
from famkd.training.optimizer import build_optimizer
from famkd.training.schedule import loss_weights
from famkd.training.step import Step

PARTS = ("data", "teacher", "student", "method", "optimiser")
WARM_UP = 3  # steps before the timed ones
CIFAR_SIDE = 32
MOST_PIECES = 64  # pieces of data that the timed steps cycle through

Figures = dict[str, Any]


def bench(recipe: Recipe, *, steps: int = 20, against_naive: bool = False, noise: bool = False) -> Figures:
    """Time a recipe's training step; returns a flat dict of figures.

    Teacher and student have random weights, which take as long as trained ones.

    Args:
        steps: number of timed steps; the median is reported.
        against_naive: also time the reference implementation, in turn with this one, and report the `ratio`.
        noise: random images in place of the data set.
    """
    recipe = validated(recipe)
    fabric = build_fabric(recipe)
    data = _noise_data(recipe, fabric.device) if noise else build_training_data(recipe, fabric.device)
    reference = _reference_step(recipe, data, fabric.device) if against_naive else None
    step, distiller = prepared_step(recipe, data, fabric)
    pieces = list(itertools.islice(data.epoch(1), MOST_PIECES))
    endless_pieces = itertools.cycle(pieces)

    def ours() -> None:
        step(next(endless_pieces))

    timer = Timer(fabric.device)
    for _ in range(WARM_UP):
        ours()
    figures: Figures = {"recipe": recipe.name, "method": recipe.method, **_machine(fabric.device, step.engine)}
    figures["batch"] = data.batch_size
    if reference is not None:
        reference()
        milliseconds, slow = timer.medians([ours, reference], max(3, steps // 4))
        figures |= {"naive_ms_per_step": slow, "ratio": slow / milliseconds}
    else:
        (milliseconds,) = timer.medians([ours], steps)
    figures |= {"ms_per_step": milliseconds, "images_per_s": 1000 * data.batch_size / milliseconds}
    figures["peak_mib"] = _peak_mib(fabric.device)  # before the measurements below take memory
    parts = time_parts(step, distiller, data.take(pieces[0]), lambda: data.take(pieces[0]), steps)
    parts["method"] = max(0.0, milliseconds - sum(parts.values()))
    figures |= {f"{name}_ms": parts[name] for name in PARTS}
    return figures | _work(distiller, data.take(pieces[0]), fabric, milliseconds)


def prepared_step(recipe: Recipe, data: Dataset, fabric: Fabric) -> tuple[Step, Distiller]:
    """The step that training runs, with random weights, ready for the first epoch."""
    check_batch_size(recipe, data.batch_size)
    torch.manual_seed(recipe.seed)
    distiller = build_distiller(recipe, data, weights=False, fold=True).train()
    step = build_step(recipe, data, distiller, build_optimizer(distiller, recipe.optim), fabric)
    round_teacher(distiller.teacher, fabric)
    step.set_epoch(recipe.optim.lr, loss_weights(recipe, 1))
    return step, distiller


def _noise_data(recipe: Recipe, device: torch.device) -> InMemory:
    """Random images of the size that the recipe asks for; of CIFAR's if its data set has no such option."""
    if recipe.task != InMemory.task:
        raise UserError(f"--noise makes images for {InMemory.task}, not for {recipe.task}: leave it out.")
    if recipe.teacher.store:
        raise UserError("--noise makes images that no store holds: leave it out, or --teacher.store.")
    size = size_from(getattr(recipe.data, "size", CIFAR_SIDE)) or (SIZE, SIZE)
    return InMemory(noise_images(size=size), recipe.data.batch_size, device)


def _reference_step(recipe: Recipe, data: Dataset, device: torch.device) -> Call:
    """A step of the reference implementation: contiguous layout, eager, single precision, a loader that decodes."""
    if not isinstance(data, InMemory):
        raise UserError("The naive form takes data sets that are held in memory only: leave --against out.")
    torch.manual_seed(recipe.seed)
    distiller = build_distiller(recipe, data, weights=False, fold=False).train()
    distiller.to(memory_format=torch.contiguous_format)
    if distiller.teacher is not None:
        distiller.teacher.to(memory_format=torch.contiguous_format)
    use_reference(distiller.methods)
    optim = recipe.optim
    optimizer = build_optimizer(distiller, optim)
    if optim.name == "sgd":  # one kernel for each parameter
        optimizer = torch.optim.SGD(distiller.parameters(), optim.lr, optim.momentum, weight_decay=optim.weight_decay)
    weights = loss_weights(recipe, 1)
    batches = _endless(ReferenceLoader(data.images(), data.batch_size, device))

    def step() -> None:
        losses, _ = distiller(next(batches))
        optimizer.zero_grad()
        total_loss(losses, weights).backward()
        optimizer.step()
        for terms in losses.values():
            for loss in terms.values():
                loss.item()  # the running average that a usual trainer shows after each step

    return step


def _endless(loader: ReferenceLoader) -> Iterator[Batch]:
    while True:
        yield from loader


def time_parts(step: Step, distiller: Distiller, batch: Batch, take: Call, steps: int) -> dict[str, float]:
    """Milliseconds of the parts of a step other than the method, each run alone.

    They run in the step's precision, but never in a CUDA graph, so on a GPU launches weigh more than in a whole step.
    The method is left out because it needs the features that teacher and student compute: the rest of a whole step.
    """
    task, student, teacher = distiller.task, distiller.student, distiller.teacher
    autocast = step.fabric.autocast

    def own_loss() -> Tensor:
        losses, _ = task.study(student, batch)
        return total_loss({"task": losses}, {"task": 1.0})

    compiled_loss = _as_in_step(own_loss, step)

    def study() -> None:
        with autocast():
            loss = compiled_loss()
        loss.backward()

    calls: dict[str, Call] = {"data": take, "student": study, "optimiser": step.optimizer.step}
    if teacher is not None:
        calls["teacher"] = _teacher_call(step, teacher, lambda: task.teach(teacher, batch).logits)
    for call in calls.values():
        call()
    times = Timer(step.data.device).medians(list(calls.values()), steps)
    return {"teacher": 0.0, **dict(zip(calls, times))}


def _teacher_call(step: Step, teacher: nn.Module, teach: Call) -> Call:
    compiled = _as_in_step(teach, step)

    def call() -> None:
        with torch.no_grad(), step.fabric.autocast():
            compiled()

    return call


def _as_in_step(function: Callable[[], Any], step: Step) -> Callable[[], Any]:
    """The function compiled where the step is, and on a CPU with the convolutions of the step."""

    def on_cpu() -> Any:
        with fast_convolutions():
            return function()

    if step.data.device.type == "cpu":
        return on_cpu
    return function if step.engine == "eager" else torch.compile(function, dynamic=False)


def _work(distiller: Distiller, batch: Batch, fabric: Fabric, milliseconds: float) -> Figures:
    """Floating-point operations of a step, and their share of what the device reaches in a matrix product."""
    with FlopCounterMode(display=False) as counter:
        with fabric.autocast():
            losses, _ = distiller(batch)
        total_loss(losses, dict.fromkeys(losses, 1.0)).backward()
    flops = counter.get_total_flops()
    gflop_per_s = flops / milliseconds / 1e6
    ceiling, bandwidth = ceilings(fabric.device)
    return {
        "gflop_per_step": flops / 1e9,
        "gflop_per_s": gflop_per_s,
        "matmul_ceiling_gflop_per_s": ceiling,
        "share_of_matmul_ceiling": gflop_per_s / ceiling,
        "copy_ceiling_gb_per_s": bandwidth,
    }


def _peak_mib(device: torch.device) -> float:
    """Largest memory use so far: of the GPU, else of the process; 0 on Windows, which does not tell it."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:
        return 0.0
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / 2**20 if sys.platform == "darwin" else largest / 1024  # bytes on macOS, KiB elsewhere


def ceilings(device: torch.device) -> tuple[float, float]:
    """What this device reaches now: a matrix product in GFLOP/s, and a copy in GB/s, read and written."""
    on_gpu = device.type == "cuda"
    side = 8192 if on_gpu else 1024
    a, b = torch.randn(2, side, side, device=device, dtype=torch.bfloat16 if on_gpu else torch.float32)
    source = torch.empty(2**28 if on_gpu else 2**25, device=device)
    target = torch.empty_like(source)
    matmul_ms, copy_ms = Timer(device).medians([lambda: a @ b, lambda: target.copy_(source)], 7)
    bytes_moved = 2 * source.element_size() * source.numel()
    return 2 * side**3 / matmul_ms / 1e6, bytes_moved / copy_ms / 1e6


def save_csv(figures: Figures, folder: Path) -> Path:
    """Append a row to <folder>/<device>-torch<version>.csv."""
    wanted = f"{figures['device']}-torch{figures['torch']}"
    name = "".join(c if c.isalnum() or c in ".-" else "_" for c in wanted)
    path = folder / f"{name}.csv"
    rows: list[Figures] = [dict(row) for row in read_csv(path)] if path.is_file() else []
    write_csv(path, [*rows, {key: _rounded(value) for key, value in figures.items()}])
    return path


def as_text(figures: Figures) -> str:
    """One line per figure."""
    width = max(map(len, figures))
    return "\n".join(f"{key:{width}}  {_rounded(value)}" for key, value in figures.items())


def as_json(figures: Figures) -> str:
    return json.dumps(figures, indent=1)


def _rounded(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _machine(device: torch.device, engine: str) -> Figures:
    machine = environment_info(str(device))
    return {
        "date": date.today().isoformat(),
        "device": machine["device"],
        "torch": machine["torch"],
        "engine": engine,
    }


def noise_images(n: int = 1280, size: int | Size = 32, classes: int = 100) -> Images:
    """Random images of a size, square for a number, the same ones for training and test."""
    generator = torch.Generator().manual_seed(0)
    height, width = (size, size) if isinstance(size, int) else size
    x = torch.randint(0, 256, (n, height, width, 3), dtype=torch.uint8, generator=generator).numpy()
    y = (torch.arange(n) % classes).numpy()
    names = [str(label) for label in range(classes)]
    return Images(x, y, x, y, names, mean=(0.5,) * 3, std=(0.25,) * 3)
