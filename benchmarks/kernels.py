"""Time a training step with the C++ kernels of famkd/layers/native.py and without them, in turn, in one process.

    python benchmarks/kernels.py [--pair resnet56-resnet20] [--precision 32-true] [--rounds 9]
    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/kernels.py    # as on a CPU without AVX-512

Processor time on one thread, so that other programs hardly disturb the figures. The method's part is the step without
the forward pass of the teacher and without the student's own loss and backward pass.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from famkd.bench.step import noise_images, prepared_step
from famkd.config.load import load_recipe
from famkd.data.in_memory import InMemory
from famkd.distill.distiller import total_loss
from famkd.layers import native
from famkd.layers.convolution import fast_convolutions
from famkd.run.environment import environment_info
from famkd.training.build import build_fabric

WARM_UP = 2  # rounds before the timed ones


class Times(NamedTuple):
    """Seconds of one round."""

    native: float  # a whole step with the kernels
    compiled: float  # a whole step without them
    student: float
    teacher: float

    def method(self, step: float) -> float:
        """The method's part of a step, in times of the student's."""
        return (step - self.student - self.teacher) / self.student


def parts_of_a_step(pair: str, precision: str) -> tuple[Callable[[], object], ...]:
    """A step with the kernels, one without them, the student's part and the teacher's part."""
    recipe = load_recipe(f"cifar100/{pair}", "--engine", "compile", "--precision", precision)
    fabric = build_fabric(recipe)
    data = InMemory(noise_images(), recipe.data.batch_size, fabric.device)
    step, distiller = prepared_step(recipe, data, fabric)
    piece = next(data.epoch(1))
    batch = data.take(piece)

    def with_kernels() -> None:
        native.use(True)
        step(piece)

    def without() -> None:
        native.use(False)
        step(piece)

    def student() -> None:
        with fabric.autocast(), fast_convolutions():
            losses, _ = distiller.task.study(distiller.student, batch)
        total_loss({"task": losses}, {"task": 1.0}).backward()

    def teacher() -> None:
        assert distiller.teacher
        with torch.no_grad(), fabric.autocast(), fast_convolutions():
            distiller.task.teach(distiller.teacher, batch)

    return with_kernels, without, student, teacher


def seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", default="resnet56-resnet20")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(1)
    parts = parts_of_a_step(args.pair, args.precision)
    rounds = [Times(*map(seconds, parts)) for _ in range(WARM_UP + args.rounds)][WARM_UP:]
    capability = torch.backends.cpu.get_cpu_capability()
    print(
        f"{environment_info('cpu')['device']}, {capability}, torch {torch.__version__}, {args.pair}, {args.precision}"
    )
    for name in Times._fields:
        print(f"{name:9} {spread([1000 * getattr(each, name) for each in rounds])} ms")
    print(f"method by student, with the kernels {spread([each.method(each.native) for each in rounds])}")
    print(f"method by student, without them     {spread([each.method(each.compiled) for each in rounds])}")
    print(f"step without by step with           {spread([each.compiled / each.native for each in rounds])}")


if __name__ == "__main__":
    main()
