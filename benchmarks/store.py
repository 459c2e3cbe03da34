"""A training step with a live teacher against one from a store, in turn, in one process, on noise images.

python benchmarks/store.py cifar100/resnet56-resnet20 --method fam_review [--rounds 15] [--side 32] [--flag value ...]

Both steps take their next piece of data, run, and update the weights; the one from the store reads its rows first. The
teacher has random weights, which take as long as trained ones. The store is written to a temporary folder.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from famkd.bench.step import noise_images, prepared_step
from famkd.bench.timer import Timer
from famkd.command_line.main import exiting
from famkd.config.load import load_recipe, parse_known
from famkd.config.recipe import Recipe
from famkd.config.validate import validated
from famkd.distill.types import Dataset
from famkd.methods import METHODS
from famkd.models import build_model
from famkd.run.environment import environment_info
from famkd.store.header import read_header
from famkd.training.build import build_fabric, build_training_data
from famkd.training.store import StoreOptions, store_teacher

BATCHES = 4  # of images in the store


@dataclass(frozen=True)
class Flags:
    """What to time."""

    rounds: int = 15
    """Timed steps of each kind."""
    side: int = 32
    """Height and width of the images."""


def endless(data: Dataset) -> Iterator[Any]:
    epoch = 0
    while True:
        epoch += 1
        yield from data.epoch(epoch)


def stepping(recipe: Recipe) -> Callable[[], None]:
    """A call that takes the next piece of data and trains on it."""
    fabric = build_fabric(recipe)
    data = build_training_data(recipe, fabric.device)
    step, _ = prepared_step(recipe, data, fabric)
    pieces = endless(data)
    return lambda: step(next(pieces))


def set_statistics(network: nn.Module, images: Tensor) -> None:
    """Give batch norms the statistics of some images; without these a deep random network returns huge numbers."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        with torch.no_grad():
            network.train()(images)


def wanted(recipe: Recipe) -> tuple[str, ...]:
    """Kinds of features that the recipe's methods want of the teacher."""
    kinds = [METHODS[name].teacher_wants or METHODS[name].wants for name in recipe.method_names]
    return tuple(dict.fromkeys(kind for want in kinds for kind in want.split("+") if kind != "logits"))


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        raise SystemExit(__doc__)
    source, *rest = sys.argv[1:]
    own, flags = parse_known(Flags, rest, prog="benchmarks/store.py")
    asked = load_recipe(source, *flags)
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        images = noise_images(BATCHES * asked.data.batch_size, own.side)
        np.savez("noise.npz", x_train=images.x_train, y_train=images.y_train, x_test=images.x_test[:8],
                 y_test=images.y_test[:8], class_names=images.classes)  # fmt: skip
        teacher = build_model(asked.teacher.model, len(images.classes), size=(own.side, own.side))
        set_statistics(teacher, torch.randn(16, 3, own.side, own.side))
        torch.save(teacher.state_dict(), "teacher.pt")
        data = ("--data", "npz", "--data.root", "noise.npz", "--teacher.weights", "teacher.pt")
        live = load_recipe(source, *flags, *data, "--views", "1")
        store_teacher(live, "store", StoreOptions(wanted(live)))
        stored = load_recipe(source, *flags, *data, "--teacher.store", "store")
        calls = [stepping(validated(live)), stepping(validated(stored))]
        for call in calls * 3:
            call()
        timer = Timer(build_fabric(live).device)
        times = [[timer.once(call) for call in calls] for _ in range(own.rounds)]
        bytes_per_image = read_header("store").bytes_per_image
    report(live, own, times, bytes_per_image)


def report(recipe: Recipe, own: Flags, times: list[list[float]], bytes_per_image: int) -> None:
    machine = environment_info(str(build_fabric(recipe).device))
    ratios = sorted(live / stored for live, stored in times)
    live, stored = (median(column) for column in zip(*times))
    print(f"{recipe.teacher.model} -> {recipe.student.model}, {recipe.method}, batch {recipe.data.batch_size}, "
          f"{own.side} px")  # fmt: skip
    print(f"{machine['device']}, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}, "
          f"Python {machine['python']}, torch {machine['torch']}")  # fmt: skip
    print(f"live teacher {live:.1f} ms a step, from the store {stored:.1f} ms (medians of {own.rounds})")
    print(f"ratio {median(ratios):.2f}, from {ratios[0]:.2f} to {ratios[-1]:.2f} over {own.rounds} rounds in turn")
    print(f"store: {bytes_per_image:,} bytes an image and view")


if __name__ == "__main__":
    with exiting("store.py"):
        main()
