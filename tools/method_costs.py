"""Write docs/method_costs.csv: what each method trains and computes for resnet56 -> resnet20 at 32 px."""

import csv
from functools import cache, partial

import torch
from reference import COSTS
from torch.utils.flop_counter import FlopCounterMode

import famkd
from famkd.methods import METHODS
from famkd.models import build_model

PAIR = ("resnet20", "resnet56")  # student and teacher
BATCH, CLASSES, IMAGES = 64, 100, 50_000
Row = tuple[str, int, float]


def cost(name: str, batch_size: int = BATCH) -> Row:
    """A method, its trained parameters, and the MFLOP for one image of its matrix products and convolutions."""
    torch.manual_seed(0)
    student, teacher = (build_model(each, CLASSES) for each in PAIR)
    batch = torch.randn(batch_size, 3, 32, 32), torch.arange(batch_size) % CLASSES
    labels = torch.arange(IMAGES) % CLASSES
    module = famkd.distill(student, teacher, name, example=batch, labels=labels)
    parameters = sum(each.numel() for each in module.methods.parameters() if each.requires_grad)
    index = torch.arange(batch_size)
    with torch.no_grad():
        whole = _flops(lambda: module(*batch, index=index)) / batch_size
    return name, parameters, (whole - _networks()) / 1e6


@cache
def _networks() -> int:
    """Operations of student and teacher for one image."""
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        return sum(_flops(partial(build_model(name, CLASSES).eval(), image)) for name in PAIR)


def _flops(function) -> int:
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def main() -> None:
    """Write the file."""
    with COSTS.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("method", "parameters", "mflop"))
        for name in METHODS:
            _, parameters, mflop = cost(name)
            writer.writerow((name, parameters, f"{mflop:.3f}"))


if __name__ == "__main__":
    main()
