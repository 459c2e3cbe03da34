"""Time a training step of each group of a study, in turn, in one process.

python benchmarks/truth/cost.py STUDY [--rounds 9]

STUDY is a folder that `famkd compare --save` wrote. Its costs.csv then has a row per group: processor time of a step on
one thread, and in times of the step of the student alone (median, minimum and maximum over the rounds). Images are
random, and so are the weights.
"""

import statistics
from dataclasses import replace
from pathlib import Path

import torch
from tyro.conf import Positional

from famkd.bench.step import noise_images, prepared_step
from famkd.bench.timer import Call, processor_seconds
from famkd.command_line.main import run_script
from famkd.compare.groups import group_scores
from famkd.compare.saved import read_results
from famkd.config.recipe import Recipe
from famkd.data.in_memory import InMemory
from famkd.errors import UserError
from famkd.files import write_csv
from famkd.run.environment import environment_info
from famkd.training.build import build_fabric

ALONE = "none"  # the group that the others are compared with
WARM_UP = 2  # rounds before the timed ones


def cost(study: Positional[Path], rounds: int = 9) -> None:
    """Time the steps, print them, and write costs.csv into the study's folder.

    Args:
        rounds: timed steps of each group.
    """
    torch.set_num_threads(1)
    groups, _ = group_scores(read_results(study))
    steps = {group.label: training_step(group.recipe) for group in groups}
    if ALONE not in steps:
        raise UserError(f"{study} has no group {ALONE!r} to compare with.")
    times = [{name: processor_seconds(step) for name, step in steps.items()} for _ in range(WARM_UP + rounds)][WARM_UP:]
    machine = environment_info("cpu")
    rows = []
    for name in steps:
        ratios = [each[name] / each[ALONE] for each in times]
        rows.append({
            "group": name,
            "n": rounds,
            "ms": 1000 * statistics.median(each[name] for each in times),
            "ratio": statistics.median(ratios),
            "ratio_min": min(ratios),
            "ratio_max": max(ratios),
            **{key: machine.get(key, "") for key in ("device", "torch", "commit")},
        })  # fmt: skip
        print("{group}: {ms:.0f} ms, {ratio:.2f} ({ratio_min:.2f} to {ratio_max:.2f})".format(**rows[-1]))
    write_csv(study / "costs.csv", rows, digits=4)


def training_step(recipe: Recipe) -> Call:
    """A training step of a recipe, on random images."""
    recipe = replace(recipe, accelerator="cpu")
    fabric = build_fabric(recipe)
    data = InMemory(noise_images(), recipe.data.batch_size, fabric.device)
    step, _ = prepared_step(recipe, data, fabric)
    piece = next(data.epoch(1))
    return lambda: step(piece)


if __name__ == "__main__":
    run_script(cost)
