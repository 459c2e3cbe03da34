"""Time each attention module against map size and channels."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from famkd.bench.reference import ReferenceCrossAttention, use_reference
from famkd.bench.timer import Call, Timer
from famkd.config.recipe import Engine, Recipe
from famkd.console import output
from famkd.layers.fourier import FAM
from famkd.layers.fusion import CrossAttention, Gate
from famkd.tables import rich_table, write_table
from famkd.training.build import build_fabric
from famkd.training.step import choose_engine

SIZES = ((16, 32), (32, 16), (64, 8), (64, 32), (128, 16), (256, 8))  # (channels, side) of the stages of CIFAR networks
MANY_STEPS = 10**9  # so that `auto` compiles, as in a long training
REFERENCE = "naive"  # names of reference implementations begin with this


class SpatialMap(nn.Module):
    """The spatial attention that AT compares: the energy of the channels at each pixel, normalised. No parameters."""

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x.square().mean(1).flatten(1))


def modules(channels: int, side: int) -> dict[str, Callable[[], nn.Module]]:
    """Constructors of the modules for one map size, by name."""
    size = (side, side)
    return {
        "AT map": SpatialMap,
        "gate": lambda: Gate(channels),
        "cross attention": lambda: CrossAttention(channels),
        "FAM dense": lambda: FAM(channels, channels, size),
        "FAM separable": lambda: FAM(channels, channels, size, filter="separable"),
        "FAM lowrank": lambda: FAM(channels, channels, size, filter="lowrank"),
        f"{REFERENCE} cross attention": lambda: ReferenceCrossAttention(channels),
        f"{REFERENCE} FAM": lambda: use_reference(nn.Sequential(FAM(channels, channels, size))),
    }


def costs(
    recipe: Recipe, steps: int = 20, batch: int = 64, sizes: Sequence[tuple[int, int]] = SIZES
) -> list[dict[str, Any]]:
    """Milliseconds of forward and backward, and number of parameters, of each module at each map size.

    Args:
        recipe: names the device and the engine.
        steps: number of timed calls; the median is reported.
        sizes: channels and side of each map.
    """
    device = build_fabric(recipe).device
    engine = choose_engine(recipe.engine, device, steps=MANY_STEPS)
    timer = Timer(device)
    rows: list[dict[str, Any]] = []
    for channels, side in sizes:
        torch._dynamo.reset()  # beyond its limit of recompilations torch would run eager code, and we would time that
        x = torch.randn(batch, channels, side, side, device=device).to(memory_format=torch.channels_last)
        built = {name: build().to(device) for name, build in modules(channels, side).items()}
        calls = {name: _call(name, module, x, engine) for name, module in built.items()}
        for call in calls.values():
            call()
        times = timer.medians(list(calls.values()), steps)
        for (name, module), ms in zip(built.items(), times):
            size = {"channels": channels, "side": side}
            rows.append({"module": name, **size, "ms": ms, "parameters": count_real_numbers(module)})
    return rows


def _call(name: str, module: nn.Module, x: Tensor, engine: Engine) -> Call:
    """Forward and backward of a module, compiled unless the engine is eager or it is a reference implementation.

    A module that fuses two maps gets the same map twice.
    """
    is_reference = name.startswith(REFERENCE)
    run = module if is_reference or engine == "eager" else torch.compile(module, dynamic=False)
    own = x.contiguous() if is_reference else x.clone()
    own.requires_grad_()
    inputs = (own, own) if isinstance(module, Gate | CrossAttention) else (own,)
    return lambda: run(*inputs).sum().backward()


def count_real_numbers(module: nn.Module) -> int:
    """Real numbers in a module's parameters: a complex number counts twice."""
    return sum(parameter.numel() * (2 if parameter.is_complex() else 1) for parameter in module.parameters())


def cost_table(recipe: Recipe, steps: int, format: str) -> str:
    """The costs as JSON or, for any other format, as CSV after printing a table of milliseconds (batch 64)."""
    rows = costs(recipe, steps)
    if format != "json":
        _print_milliseconds(rows)
    cells = [[str(value) for value in row.values()] for row in rows]
    return write_table("json" if format == "json" else "csv", list(rows[0]), cells)


def _print_milliseconds(rows: list[dict[str, Any]]) -> None:
    names = dict.fromkeys(row["module"] for row in rows)
    sizes = dict.fromkeys((row["channels"], row["side"]) for row in rows)
    times = {(row["module"], (row["channels"], row["side"])): row["ms"] for row in rows}
    header = ["ms", *(f"{channels} ch {side} px" for channels, side in sizes)]
    cells = [[name, *(f"{times[name, size]:.1f}" for size in sizes)] for name in names]
    output.print(rich_table("", header, cells))
