"""What attention costs, module by module, against map size and channels: the complexity question, measured."""

import csv
import io
import json
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from famkd.bench.reference import ReferenceCrossAttention, reference_modules
from famkd.bench.timer import Clock
from famkd.config.load import Recipe
from famkd.console import console
from famkd.layers.fourier import FAM
from famkd.layers.fusion import CrossAttention, Gate
from famkd.tables import rich_table
from famkd.training.build import build_fabric
from famkd.training.step import choose_engine

SIZES = [(16, 32), (32, 16), (64, 8), (64, 32), (128, 16), (256, 8)]  # (channels, side) of the common CIFAR stages


class SpatialMap(nn.Module):
    """The spatial attention that AT compares: channel energy at each pixel, normalised; it holds no parameters."""

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x.square().mean(1).flatten(1))


def modules(channels: int, side: int) -> dict[str, Callable[[], nn.Module]]:
    """What is measured at one map size, by name; modules of two inputs fuse a map with itself."""
    size = (side, side)
    return {
        "AT map": SpatialMap,
        "gate": lambda: Gate(channels),
        "cross attention": lambda: CrossAttention(channels),
        "FAM dense": lambda: FAM(channels, channels, size),
        "FAM separable": lambda: FAM(channels, channels, size, filter="separable"),
        "FAM lowrank": lambda: FAM(channels, channels, size, filter="lowrank"),
        "naive cross attention": lambda: ReferenceCrossAttention(channels),
        "naive FAM": lambda: reference_modules(nn.Sequential(FAM(channels, channels, size))),
    }


def costs(recipe: Recipe, steps: int = 20, batch: int = 64, sizes=tuple(SIZES)) -> list[dict[str, object]]:
    """Milliseconds of forward and backward, and parameters, of each module at each map size, median of `steps`."""
    device = build_fabric(recipe).device
    engine = choose_engine(recipe.engine, device, steps=10**9)
    clock, rows = Clock(device), []
    for channels, side in sizes:
        torch._dynamo.reset()  # past its limit of recompilations it would run, and we time, eager code
        x = torch.randn(batch, channels, side, side, device=device).to(memory_format=torch.channels_last)
        calls, built = {}, {}
        for name, build in modules(channels, side).items():
            built[name] = build().to(device)
            naive = name.startswith("naive")
            run = built[name] if naive or engine == "eager" else torch.compile(built[name], dynamic=False)
            own = (x.contiguous() if naive else x.clone()).requires_grad_()
            inputs = (own, own) if isinstance(built[name], Gate | CrossAttention) else (own,)
            calls[name] = lambda run=run, inputs=inputs: run(*inputs).sum().backward()
            calls[name]()
        for name, ms in zip(calls, clock.in_turn(list(calls.values()), steps)):
            count = sum(p.numel() * (2 if p.is_complex() else 1) for p in built[name].parameters())
            rows.append({"module": name, "channels": channels, "side": side, "ms": ms, "parameters": count})
    return rows


def cost_table(recipe: Recipe, steps: int, format: str) -> str:
    """The costs as JSON or CSV text; a table (milliseconds, forward and backward, batch 64) too when asked for text."""
    rows = costs(recipe, steps)
    if format == "json":
        return json.dumps(rows, indent=1) + "\n"
    names = list(dict.fromkeys(row["module"] for row in rows))
    sizes = list(dict.fromkeys((row["channels"], row["side"]) for row in rows))
    found = {(row["module"], row["channels"], row["side"]): row for row in rows}
    header = ["ms", *(f"{c} ch {s} px" for c, s in sizes)]
    cells = [[name, *(f"{found[name, c, s]['ms']:.1f}" for c, s in sizes)] for name in names]
    console.print(rich_table("", header, cells))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
