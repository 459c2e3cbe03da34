"""What a training step holds at most, computed without a GPU and without its memory.

python benchmarks/memory.py imagenet/resnet50-MobileNetV1 [--data.batch_size 256] [--fam_review.filter dense] ...

Two steps of the recipe run on tensors that have a shape and no content, eagerly and under bfloat16 autocast; the bytes
of all storages alive at once are counted. A GPU adds its libraries' workspaces and what its allocator leaves unused.
"""

import sys
import weakref

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from famkd.build import build_optimizer
from famkd.distiller import Distiller
from famkd.method import Batch
from famkd.methods import METHODS
from famkd.models import build_model
from famkd.recipe import Recipe, load_recipe, method_options
from famkd.tasks import Classification
from famkd.training import loss_weights


class Live(TorchDispatchMode):
    """Bytes of the storages that are alive, now and at most."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.add(leaf)
        return out


def batch(images: int, classes: int, side: int) -> Batch:
    x = torch.zeros(images, 3, side, side).to(memory_format=torch.channels_last)
    return Batch(x, torch.zeros(images, dtype=torch.long), torch.zeros(images, dtype=torch.long))


def distiller_of(recipe: Recipe, classes: int, side: int) -> Distiller:
    nets = [build_model(net.model, classes) for net in (recipe.student, recipe.teacher)]
    student, teacher = (net.to(memory_format=torch.channels_last) for net in nets)
    options = {
        name: {key: getattr(recipe.section(name), key) for key in method_options(METHODS[name])}
        for name in recipe.method_names
    }
    methods = {name: METHODS[name] for name in recipe.method_names}
    probe = batch(2, classes, side)._replace(images=torch.randn(2, 3, side, side))
    labels = torch.arange(classes)
    return Distiller(Classification(), student, teacher, methods, options=options, probe=probe, labels=labels).train()


def empty(module: nn.Module, mode: FakeTensorMode) -> None:
    """Take the content out of a module's parameters and buffers."""
    for part in module.modules():
        for name, p in part._parameters.items():
            if p is not None:
                part._parameters[name] = nn.Parameter(mode.from_tensor(p.detach()), p.requires_grad)
        for name, b in part._buffers.items():
            if b is not None:
                part._buffers[name] = mode.from_tensor(b)


def peak(recipe: Recipe, classes: int = 1000, side: int = 224) -> tuple[float, float]:
    """GiB of what stays from step to step, and of the most that a step holds."""
    distiller, live = distiller_of(recipe, classes, side), Live()
    weights = loss_weights(recipe, 1)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        empty(distiller, mode)
        empty(distiller.teacher, mode)
        optimizer = build_optimizer(distiller, recipe.optim)
        x = batch(recipe.data.batch_size, classes, side)
        for net in (distiller, distiller.teacher):
            for tensor in (*net.parameters(), *net.buffers()):
                live.add(tensor)
        live.add(x.images)
        with live:
            for _ in range(2):  # momentum comes with the first
                optimizer.zero_grad()
                with torch.autocast("cpu", torch.bfloat16):
                    losses, _ = distiller(x)
                sum(weights[group] * sum(terms.values()) for group, terms in losses.items()).backward()
                optimizer.step()
        return live.now / 2**30, live.peak / 2**30


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        raise SystemExit(__doc__)
    recipe = load_recipe(sys.argv[1], *sys.argv[2:])
    kept, most = peak(recipe)
    print(f"{recipe.name} {recipe.method}, batch {recipe.data.batch_size}: {kept:.1f} GiB kept, {most:.1f} GiB at most")


if __name__ == "__main__":
    main()
