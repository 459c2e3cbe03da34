"""One of several processes: trains a recipe of networks without batch norm, and leaves what it ended with.

python ddp_worker.py RECIPE --out DIR [--flag value ...], started by torchrun or with SLURM's environment.
"""

import os
import sys
from pathlib import Path

import torch
from torch import nn

from famkd.config.load import load_recipe
from famkd.models import MODELS
from famkd.run.directory import Run
from famkd.training import build, loop

kept = []


def plain(classes: int, width: int) -> nn.Module:
    """Two convolutions and a classifier, no batch norm: what it makes of an image depends on that image alone."""
    layers = [nn.Conv2d(3, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def register() -> None:
    MODELS["plain4"] = lambda classes: plain(classes, 4)
    MODELS["plain8"] = lambda classes: plain(classes, 8)


def keep(make):
    def built(*arguments, **options):
        kept.append(make(*arguments, **options))
        return kept[-1]

    return built


def threads() -> list[str]:
    """Names of the threads of this process; on Linux alone."""
    return [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]


def main() -> Run:
    register()
    build.build_distiller = keep(build.build_distiller)
    source, _, out, *flags = sys.argv[1:]
    torch.set_num_threads(1)
    run = loop.train(load_recipe(source, *flags), out=out)
    assert not [name for name in threads() if "gloo" in name]  # one that runs on can abort the process at its exit
    torch.save(kept[-1].state_dict(), f"rank{os.environ.get('RANK', os.environ.get('SLURM_PROCID'))}.pt")
    return run


if __name__ == "__main__":
    main()
