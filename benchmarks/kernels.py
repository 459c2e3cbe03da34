"""Time a training step with the C++ kernels of famkd/layers/cpp and without them, in turn, in one process.

    python benchmarks/kernels.py [--pair resnet56-resnet20] [--precision 32-true] [--rounds 9]
    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/kernels.py    # as on a CPU without AVX-512

Processor time on one thread, so that other programs hardly disturb the figures. The method's part is the step without
the forward pass of the teacher and without the student's own loss and backward pass.
"""

import statistics
from typing import NamedTuple

import torch

from famkd.bench.step import noise_images, prepared_step
from famkd.bench.timer import Call, processor_seconds
from famkd.command_line.main import run_script
from famkd.config.load import load_recipe
from famkd.data.in_memory import InMemory
from famkd.distill.distiller import total_loss
from famkd.layers import native
from famkd.layers.convolution import fast_convolutions
from famkd.run.environment import environment_info
from famkd.training.build import build_fabric

WARM_UP = 2  # rounds before the timed ones


class Times(NamedTuple):
    """Seconds of one round in one form."""

    step: float
    student: float
    teacher: float

    @property
    def method(self) -> float:
        """The method's part of a step, in times of the student's."""
        return (self.step - self.student - self.teacher) / self.student


def parts_of_a_step(pair: str, precision: str) -> tuple[Call, ...]:
    """A step, the student's part and the teacher's part."""
    recipe = load_recipe(f"cifar100/{pair}", "--engine", "compile", "--precision", precision)
    fabric = build_fabric(recipe)
    data = InMemory(noise_images(), recipe.data.batch_size, fabric.device)
    step, distiller = prepared_step(recipe, data, fabric)
    piece = next(data.epoch(1))
    batch = data.take(piece)

    def whole() -> None:
        step(piece)

    def student() -> None:
        with fabric.autocast(), fast_convolutions():
            losses, _ = distiller.task.study(distiller.student, batch)
        total_loss({"task": losses}, {"task": 1.0}).backward()

    def teacher() -> None:
        assert distiller.teacher
        with torch.no_grad(), fabric.autocast(), fast_convolutions():
            distiller.task.teach(distiller.teacher, batch)

    return whole, student, teacher


def times(parts: tuple[Call, ...], kernels: bool) -> Times:
    native.use(kernels)
    return Times(*map(processor_seconds, parts))


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def kernels(pair: str = "resnet56-resnet20", precision: str = "32-true", rounds: int = 9) -> None:
    """Time a step and its parts in both forms, and print medians, ranges and ratios."""
    torch.set_num_threads(1)
    parts = parts_of_a_step(pair, precision)
    timed = [(times(parts, True), times(parts, False)) for _ in range(WARM_UP + rounds)][WARM_UP:]
    capability = torch.backends.cpu.get_cpu_capability()
    print(f"{environment_info('cpu')['device']}, {capability}, torch {torch.__version__}, {pair}, {precision}")
    for name in Times._fields:
        own, before = ([1000 * getattr(each, name) for each in form] for form in zip(*timed))
        ratios = [without / with_them for with_them, without in zip(own, before)]
        print(f"{name:7} {spread(own)} ms with the kernels, {spread(before)} ms without, ratio {spread(ratios)}")
    own, before = ([each.method for each in form] for form in zip(*timed))
    print(f"method by student, {spread(own)} with the kernels, {spread(before)} without")


if __name__ == "__main__":
    run_script(kernels)
