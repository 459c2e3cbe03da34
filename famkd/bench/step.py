"""Where a training step's time goes, measured on the machine at hand."""

import csv
import json
from collections.abc import Callable
from datetime import date
from itertools import islice
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from famkd.bench.reference import ReferenceLoader, reference_modules
from famkd.bench.timer import Clock
from famkd.config.load import Recipe
from famkd.config.validate import validated
from famkd.data.in_memory import InMemory
from famkd.data.small import Images
from famkd.distill.distiller import Distiller
from famkd.errors import UserError
from famkd.training.build import (
    build_distiller,
    build_fabric,
    build_optimizer,
    build_recipe_data,
    build_step,
    check_batch_size,
    round_teacher,
)
from famkd.training.schedule import loss_weights
from famkd.training.step import Step

PIECES = ("data", "teacher", "student", "method", "optimiser")


def bench(recipe: Recipe, *, steps: int = 20, against_naive: bool = False, noise: bool = False) -> dict[str, object]:
    """Figures of a recipe's training step: a flat dict of plain keys.

    Args:
        steps: timed steps; the median counts.
        against_naive: also time the literal formulation, in turn with ours, and give the `ratio` of the medians.
        noise: random images in the data set's place, for where it is not at hand.

    Teacher and student start from random weights: they cost what trained ones cost.
    """
    recipe = validated(recipe)
    fabric = build_fabric(recipe)
    streamed = recipe.data.name == "imagenet"
    if recipe.task == "detection" or (streamed and not noise):
        if noise or against_naive:
            which = "A detector's step" if recipe.task == "detection" else "A step on files"
            raise UserError(f"{which} is timed on its own data and alone: leave --noise and --against out.")
        data = build_recipe_data(recipe, fabric.device)
    else:
        size = {"size": recipe.data.size or 224} if streamed else {}
        if noise:
            data = InMemory(noise_images(**size), recipe.data.batch_size, fabric.device)
        else:
            data = build_recipe_data(recipe, fabric.device)
    step, distiller = prepared_step(recipe, data, fabric)
    pieces = list(islice(data.epoch(1), 64))
    turn = iter(range(10**9))

    def ours() -> None:
        step(pieces[next(turn) % len(pieces)])

    clock = Clock(fabric.device)
    for _ in range(3):
        ours()
    figures: dict[str, object] = {
        "recipe": recipe.name,
        "method": recipe.method,
        **_machine(fabric.device, step.engine),
    }
    figures["batch"] = data.batch_size
    if against_naive:
        literal = _naive_step(recipe, data, fabric)
        literal()
        whole, slow = clock.in_turn([ours, literal], max(3, steps // 4))
        figures |= {"naive_ms_per_step": slow, "ratio": slow / whole}
    else:
        (whole,) = clock.in_turn([ours], steps)
    figures |= {"ms_per_step": whole, "images_per_s": 1000 * data.batch_size / whole}
    figures["peak_mib"] = _peak_mib(fabric.device)  # before anything else takes memory
    parts = _split(step, distiller, data, pieces[0], fabric, whole, steps)
    figures |= {f"{name}_ms": value for name, value in parts.items()}
    figures |= _work(distiller, data, pieces[0], fabric, whole)
    return figures


def prepared_step(recipe: Recipe, data: InMemory, fabric) -> tuple[Step, Distiller]:
    check_batch_size(recipe, data.batch_size)
    torch.manual_seed(recipe.seed)
    distiller = build_distiller(recipe, data, weights=False, fold=True).train()
    step = build_step(recipe, data, distiller, build_optimizer(distiller, recipe.optim), fabric)
    round_teacher(distiller, fabric)
    step.set_epoch(recipe.optim.lr, loss_weights(recipe, 1))
    return step, distiller


def _naive_step(recipe: Recipe, data: InMemory, fabric) -> Callable[[], None]:
    """One step of the literal formulation: plain layout, eager, single precision, a decoding loader."""
    torch.manual_seed(recipe.seed)
    distiller = (
        build_distiller(recipe, data, weights=False, fold=False).train().to(memory_format=torch.contiguous_format)
    )
    distiller.teacher.to(memory_format=torch.contiguous_format)
    reference_modules(distiller.methods)
    optim = recipe.optim
    optimizer = torch.optim.SGD(distiller.parameters(), optim.lr, optim.momentum, weight_decay=optim.weight_decay)
    weights = loss_weights(recipe, 1)
    loader = ReferenceLoader(data.images(), data.batch_size, fabric.device)
    batches = iter(batch for _ in iter(int, 1) for batch in loader)

    def step() -> None:
        losses, _ = distiller(next(batches))
        optimizer.zero_grad()
        sum(weights[group] * sum(terms.values()) for group, terms in losses.items()).backward()
        optimizer.step()
        sum(value.item() for terms in losses.values() for value in terms.values())  # the usual running average

    return step


def _split(step: Step, distiller: Distiller, data: InMemory, piece, fabric, whole: float, steps: int) -> dict:
    """Milliseconds of each part alone; the method is what the whole step takes beyond the others.

    Parts run one by one, in the step's precision but never captured, so that on a GPU launches weigh more in them
    than in the whole.
    """
    batch, clock = data.take(piece), Clock(fabric.device)
    compiled = (
        (lambda f: torch.compile(f, dynamic=False))
        if step.engine != "eager" and clock.device.type != "cpu"
        else (lambda f: f)
    )
    teach = compiled(lambda: distiller.task.teach(distiller.teacher, batch).logits)
    study = compiled(lambda: sum(distiller.task.study(distiller.student, batch)[0].values()))

    def teacher() -> None:
        with torch.no_grad(), fabric.autocast():
            teach()

    def student() -> None:
        with fabric.autocast():
            loss = study()
        loss.backward()

    parts = {
        "data": lambda: data.take(piece),
        "teacher": teacher if distiller.teacher else lambda: None,
        "student": student,
        "optimiser": step.optimizer.step,
    }
    for call in parts.values():
        call()
    times = dict(zip(parts, clock.in_turn(list(parts.values()), steps)))
    times["method"] = max(0.0, whole - sum(times.values()))
    return {name: times[name] for name in PIECES}


def _work(distiller: Distiller, data: InMemory, piece, fabric, whole: float) -> dict:
    """Floating-point work of a step against what the device can do at best."""
    with FlopCounterMode(display=False) as counter:
        with fabric.autocast():
            losses, _ = distiller(data.take(piece))
        sum(sum(terms.values()) for terms in losses.values()).backward()
    flops = counter.get_total_flops()
    ceiling, bandwidth = ceilings(fabric.device)
    return {
        "gflop_per_step": flops / 1e9,
        "gflop_per_s": flops / whole / 1e6,
        "matmul_ceiling_gflop_per_s": ceiling,
        "share_of_matmul_ceiling": flops / whole / 1e6 / ceiling,
        "copy_ceiling_gb_per_s": bandwidth,
    }


def _peak_mib(device: torch.device) -> float:
    """Most memory so far: the device's on a GPU, else the process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ceilings(device: torch.device) -> tuple[float, float]:
    """Best matrix product (GFLOP/s) and copy (GB/s, read and written) that this device shows now."""
    n, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (1024, torch.float32)
    a, b = torch.randn(2, n, n, device=device, dtype=dtype)
    source = torch.empty(2**28 if device.type == "cuda" else 2**25, device=device)
    target, clock = torch.empty_like(source), Clock(device)
    matmul, copy = clock.in_turn([lambda: a @ b, lambda: target.copy_(source)], 7)
    return 2 * n**3 / matmul / 1e6, 2 * 4 * source.numel() / copy / 1e6


def save_csv(figures: dict[str, object], folder: Path) -> Path:
    """Append a row to <folder>/<device>-torch<version>.csv."""
    name = "".join(c if c.isalnum() or c in ".-" else "_" for c in f"{figures['device']}-torch{figures['torch']}")
    path = folder / f"{name}.csv"
    folder.mkdir(parents=True, exist_ok=True)
    rows = list(csv.DictReader(path.open())) if path.is_file() else []
    rows.append({key: f"{value:.4g}" if isinstance(value, float) else value for key, value in figures.items()})
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def as_text(figures: dict[str, object]) -> str:
    width = max(map(len, figures))
    return "\n".join(
        f"{key:{width}}  {value:.4g}" if isinstance(value, float) else f"{key:{width}}  {value}"
        for key, value in figures.items()
    )


def as_json(figures: dict[str, object]) -> str:
    return json.dumps(figures, indent=1)


def _machine(device: torch.device, engine: str) -> dict[str, object]:
    from famkd.run.environment import environment_info

    machine = environment_info(str(device))
    return {
        "date": date.today().isoformat(), "device": machine["device"], "torch": machine["torch"], "engine": engine,
    }  # fmt: skip


def noise_images(n: int = 1280, size: int = 32, classes: int = 100) -> Images:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (n, size, size, 3), dtype=torch.uint8, generator=generator).numpy()
    y = (torch.arange(n) % classes).numpy()
    return Images(x, y, x, y, [str(i) for i in range(classes)], (0.5,) * 3, (0.25,) * 3)
