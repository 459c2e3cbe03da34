"""Gradients of a method's losses for a batch as a whole, in parts, and as one of several processes.

python gradients.py RANK FOLDER METHOD ...: one of two processes. Its gradients are saved as FOLDER/rankN.pt.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from famkd import distributed
from famkd.config.sections import method_arguments
from famkd.distill.distiller import Distiller
from famkd.distill.types import Batch, Method
from famkd.methods import METHODS
from famkd.methods.contrast import CRD
from famkd.models import build_model
from famkd.tasks import TASKS

IMAGES, CLASSES = 8, 3


class FixedCRD(CRD):
    """CRD with the same negatives for an image wherever and whenever it is compared."""

    def draw(self, index: Tensor) -> Tensor:
        others = torch.tensor(
            [[j for j in range(IMAGES) if j % CLASSES != int(i) % CLASSES] for i in range(IMAGES)][:1]
        )
        negatives = (index[:, None] + others) % IMAGES
        return torch.cat([index[:, None], negatives], 1)


def method_of(name: str) -> type[Method]:
    return FixedCRD if name == "crd" else METHODS[name]


def built(name: str) -> tuple[Distiller, Batch]:
    """A distiller in eval mode, in which batch norm looks at no other image, and a batch."""
    torch.manual_seed(0)
    student, teacher = build_model("resnet8x0.5", CLASSES), build_model("resnet8", CLASSES)
    batch = Batch(torch.randn(IMAGES, 3, 8, 8), torch.arange(IMAGES) % CLASSES, torch.arange(IMAGES))
    options = {name: method_arguments(METHODS[name], {"negatives": 4} if name == "crd" else {})}
    distiller = Distiller(
        TASKS["classification"], student, teacher, {name: method_of(name)}, probe=batch, labels=batch.targets,
        options=options,
    )  # fmt: skip
    return distiller.eval(), batch


def gradients(name: str, parts: int = 1) -> dict[str, Tensor]:
    """Gradients of the method's losses, averaged over consecutive parts of the batch, and over all processes."""
    distiller, batch = built(name)
    share = distributed.shard(0, IMAGES)
    mine = Batch(*(column[share] for column in batch[:3]))
    for part in zip(*(column.chunk(parts) for column in mine[:3])):
        losses = distiller(Batch(*part))[0]
        (sum(losses[name].values()) / parts).backward()
    return {key: distributed.all_reduce_mean(p.grad) for key, p in distiller.named_parameters() if p.grad is not None}


def reaches_something(name: str, batch: Batch, model: nn.Module, teacher: nn.Module) -> bool:
    """Whether the method's losses on a batch have any gradient at all."""
    labels = torch.arange(20) % (int(batch.targets.max()) + 1)
    distiller = Distiller(
        TASKS["classification"], model, teacher, {name: METHODS[name]}, probe=batch, labels=labels,
        options={name: method_arguments(METHODS[name], {})},
    )  # fmt: skip
    loss = sum(distiller.train()(batch)[0][name].values())
    if not loss.requires_grad:
        return False
    loss.backward()
    return any(p.grad is not None and bool(p.grad.ne(0).any()) for p in distiller.parameters())


def main() -> None:
    rank, folder, *names = sys.argv[1:]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=int(rank), world_size=2)
    torch.save({name: gradients(name) for name in names}, Path(folder) / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
