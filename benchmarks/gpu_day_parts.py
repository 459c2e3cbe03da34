"""The parts of gpu_day.py, each a command: python benchmarks/gpu_day_parts.py PART OUT [--tiny] [--released CLONE]."""

import argparse
import itertools
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from famkd.bench.step import noise_images, prepared_step
from famkd.bench.timer import Timer
from famkd.config.load import load_recipe
from famkd.config.recipe import Recipe
from famkd.data.in_memory import InMemory
from famkd.files import read_csv, write_csv
from famkd.run.directory import Run
from famkd.run.environment import environment_info
from famkd.training.build import build_fabric

PAIRS = ("resnet56-resnet20", "resnet110-resnet32", "resnet32x4-resnet8x4", "wrn_40_2-wrn_16_2", "wrn_40_2-wrn_40_1",
         "vgg13-vgg8", "ResNet50-MobileNetV2")  # fmt: skip
EPOCH = 50_000 // 64  # steps of an epoch of CIFAR-100
TINY = ("--student.model", "resnet8x0.5", "--teacher.model", "resnet8")
LAUNCH = re.compile(r"cu(da)?(Graph)?Launch")  # calls that start kernels on a GPU


class Rows:
    """A CSV file to which each row is added when it is measured. Rows that it has already are not measured again."""

    def __init__(self, path: Path):
        self.path = path
        self.rows = read_csv(path) if path.is_file() else []

    def has(self, **keys: object) -> bool:
        return any(all(row.get(name) == str(value) for name, value in keys.items()) for row in self.rows)

    def add(self, **figures: object) -> None:
        machine = environment_info("cuda" if torch.cuda.is_available() else "cpu")
        row = {**figures, "device": machine["device"], "torch": machine["torch"]}
        self.rows.append({name: f"{v:.4g}" if isinstance(v, float) else str(v) for name, v in row.items()})
        write_csv(self.path, self.rows)


def engines() -> tuple[str, ...]:
    return ("eager", "compile", "graph") if torch.cuda.is_available() else ("eager", "compile")


def recipe_of(pair: str, tiny: bool, *flags: str) -> Recipe:
    """The recipe of a pair; with `tiny` small networks take its place, and batches of 8 images."""
    small = (*TINY, "--data.batch_size", "8") if tiny else ()
    return load_recipe(f"cifar100/{pair}", *small, *flags)


def stepping(recipe: Recipe) -> tuple[Callable[[], None], Any, Any]:
    """A call that trains on the next piece of noise, its step, and its distiller. Equal recipes get equal pieces."""
    fabric = build_fabric(recipe)
    data = InMemory(noise_images(), recipe.data.batch_size, fabric.device)
    step, distiller = prepared_step(recipe, data, fabric)
    pieces = itertools.cycle(itertools.islice(data.epoch(1), 16))
    return lambda: step(next(pieces)), step, distiller


def disturb(distiller: torch.nn.Module, noise: float) -> None:
    """Adds noise to what each convolution returns, in standard deviations of that output."""
    for layer in distiller.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(lambda _layer, _inputs, out: out + noise * out.std() * torch.randn_like(out))


def parity(rows: Rows, tiny: bool, released: str) -> None:
    """How far losses and weights are from those of eager steps in float32, after a few steps.

    Rounding grows in a training, as it switches single ReLUs. So eager steps with noise of 1e-5 are measured as well:
    an engine is as near as float32 allows if it is about as near as they are.
    """
    steps = 3 if tiny else 10
    expected: dict[str, torch.Tensor] = {}
    loss = 0.0
    for engine, noise in [("eager", 0.0), ("eager", 1e-5), *((engine, 0.0) for engine in engines()[1:])]:
        call, step, distiller = stepping(recipe_of(PAIRS[0], tiny, "--engine", engine, "--precision", "32-true"))
        if noise:
            disturb(distiller, noise)
        for _ in range(steps):
            call()
        mean = sum(value for name, value in step.monitor.means(step.count).items() if "." in name)
        state = {name: value.detach().cpu().double() for name, value in distiller.student.model.named_parameters()}
        if not expected:
            expected, loss = state, mean
        apart = max(float((state[name] - expected[name]).norm() / expected[name].norm()) for name in state)
        if not rows.has(engine=engine, noise=noise):
            figures = {"loss": mean, "loss_apart": abs(mean - loss) / abs(loss), "weights_apart": apart}
            rows.add(engine=engine, noise=noise, steps=steps, **figures)


def pairs(rows: Rows, tiny: bool, released: str) -> None:
    """Time and memory of a step of each pair, by the engine that training chooses, and of the released code."""
    for pair in PAIRS:
        for precision in ("32-true", "bf16-mixed"):
            if rows.has(pair=pair, precision=precision):
                continue
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
            recipe = recipe_of(pair, tiny, "--precision", precision, *(("--engine", "eager") if tiny else ()))
            call, step, _ = stepping(recipe)
            theirs = released_call(released, pair, step.data) if released else None
            calls = [call, *([theirs] if theirs else [])]
            for each in calls * 3:
                each()
            times = Timer(step.data.device).medians(calls, 3 if tiny else 9)
            figures: dict[str, object] = {"engine": step.engine, "ms_a_step": times[0]}
            figures |= {"s_an_epoch": times[0] * EPOCH / 1000, "images_per_s": 1000 * step.data.batch_size / times[0]}
            figures["peak_mib"] = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else ""
            figures |= {"released_ms": times[1] if theirs else "", "ratio": times[1] / times[0] if theirs else ""}
            rows.add(pair=pair, precision=precision, **figures)


def released_call(root: str, pair: str, data: InMemory) -> Callable[[], object] | None:
    """A step of the released code, for the pairs whose configuration is known."""
    from against_released import CONFIGS, released_step

    return released_step(Path(root), pair, data.device, data.batch_size) if pair in CONFIGS else None


def launches(rows: Rows, tiny: bool, released: str) -> None:
    """How many kernels or graphs a step starts on a GPU; on a CPU, how many operators it calls."""
    for engine in engines():
        if rows.has(engine=engine):
            continue
        call, _, _ = stepping(recipe_of(PAIRS[0], tiny, "--engine", engine))
        for _ in range(5):
            call()
        on_gpu = torch.cuda.is_available()
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
        with profile(activities=activities) as trace:
            call()
        names = [event.name for event in trace.events() or []]
        counted = sum(bool(LAUNCH.match(name)) if on_gpu else name.startswith("aten::") for name in names)
        rows.add(engine=engine, kind="launches" if on_gpu else "operators", a_step=counted)


def seeds(rows: Rows, tiny: bool, released: str) -> None:
    """Images per second of one, two and four trainings at once, over their last epoch."""
    for at_once in (1, 2) if tiny else (1, 2, 4):
        if rows.has(at_once=at_once):
            continue
        with tempfile.TemporaryDirectory() as folder:
            write_noise(Path(folder), 64 if tiny else 12_800)
            flags = ["--data", "npz", "--root", f"{folder}/noise.npz", "--method", "none", "--no_baseline"]
            flags += [*TINY, "--data.batch_size", "16", "--engine", "eager"] if tiny else []
            flags += ["--epochs", "3", "--seeds", *map(str, range(at_once)), "--jobs", str(at_once)]
            command = [
                sys.executable,
                "-m",
                "famkd",
                "train",
                f"cifar100/{PAIRS[0]}",
                *flags,
                "--runs",
                f"{folder}/runs",
            ]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            runs = [Run(path.parent) for path in Path(folder, "runs").rglob("timing.jsonl")]
            rates = [run.timing()[-1]["images_per_s"] for run in runs]
        rows.add(at_once=at_once, images_per_s_each=sum(rates) / len(rates), images_per_s=sum(rates))


def write_noise(folder: Path, count: int) -> None:
    """An .npz of random images."""
    made = noise_images(count)
    arrays: Any = {
        "x_train": made.x_train,
        "y_train": made.y_train,
        "x_test": made.x_test[:16],
        "y_test": made.y_test[:16],
    }
    np.savez(folder / "noise.npz", **arrays)


def store(rows: Rows, tiny: bool, released: str) -> None:
    """The ratio of a step with a live teacher to one with a stored teacher."""
    for method in ("kd", "fam_review"):
        if rows.has(method=method):
            continue
        flags = [*TINY, "--data.batch_size", "8", "--rounds", "3", "--engine", "eager"] if tiny else []
        script = str(Path(__file__).parent / "store.py")
        command = [sys.executable, script, f"cifar100/{PAIRS[0]}", "--method", method, *flags]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = re.search(r"ratio ([\d.]+), from ([\d.]+) to ([\d.]+) over (\d+)", said)
        assert found, said
        ratio, low, high, n = map(float, found.groups())
        rows.add(method=method, live_to_stored=ratio, low=low, high=high, n=int(n))


def main() -> None:
    parts = {part.__name__: part for part in (parity, pairs, launches, seeds, store)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=parts)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--released", default="")
    args = parser.parse_args()
    parts[args.part](Rows(args.out / f"{args.part}.csv"), args.tiny, args.released)


if __name__ == "__main__":
    main()
