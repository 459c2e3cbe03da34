"""What stands for a run's data set where its images are not there: its facts, and noise in place of images."""

from collections.abc import Iterator
from typing import Any, ClassVar

import torch

from famkd.distill.types import Batch

IMAGES = 32


class Noise:
    """Classes, size and normalisation of a run's images, as far as building and checking a network needs them.

    Args:
        facts: `Run.facts`, with a size.
    """

    task: ClassVar[str] = "classification"
    streamed = False
    labels = None

    def __init__(self, facts: dict[str, Any], device: torch.device | str = "cpu"):
        self.classes: list[str] = facts["classes"]
        self.mean, self.std = tuple(facts["mean"]), tuple(facts["std"])
        self.size: tuple[int, int] = (facts["size"][0], facts["size"][1])
        self.device = torch.device(device)
        self.batch_size = IMAGES

    def probe(self) -> Batch:
        """Normalised images whose pixels are equally distributed bytes, always the same ones."""
        draw = torch.Generator().manual_seed(0)
        pixels = torch.randint(256, (self.batch_size, len(self.mean), *self.size), generator=draw) / 255
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        images = ((pixels - mean) / std).to(self.device)
        index = torch.arange(self.batch_size, device=self.device)
        return Batch(images, index % len(self.classes), index)

    def test(self, batch_size: int = 0) -> Iterator[Batch]:
        """The same images in one batch, by default all of them."""
        batch, count = self.probe(), batch_size or self.batch_size
        yield Batch(batch.images[:count], batch.targets[:count], batch.index[:count])
