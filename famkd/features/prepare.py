"""Give each network its images as it wants them: its own normalisation and size, from one batch for all networks.

The conversion is a hook in front of the network. The paths of its modules stay the same, and whoever calls it, for
training, measuring, export or looking at it, passes the images of the data set.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from famkd.features.layout import image_size

INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "area")
SMOOTH = ("bilinear", "bicubic")  # those that can average where the image gets smaller


class Pixels(NamedTuple):
    """How images are normalised and how large they are."""

    mean: tuple[float, ...]  # of each channel, for pixels in 0..1
    std: tuple[float, ...]
    size: tuple[int, int] | None = None  # height and width; None for any
    interpolation: str = "bilinear"

    def as_dict(self) -> dict[str, Any]:
        size = list(self.size) if self.size else None
        return {"mean": [*self.mean], "std": [*self.std], "size": size, "interpolation": self.interpolation}


class Prepare:
    """A forward pre-hook that resizes a batch (B, C, H, W) and changes its normalisation from one to another.

    Args:
        have: what the batches are like; want: what the network takes.
    """

    def __init__(self, have: Pixels, want: Pixels, device: torch.device | str = "cpu"):
        self.have, self.want = have, want
        self.size = want.size if want.size and want.size != have.size else None
        self.scale: Tensor | None = None
        if not _equal(have.mean + have.std, want.mean + want.std):
            theirs, ours = torch.tensor([have.mean, have.std]), torch.tensor([want.mean, want.std])
            self.scale = (theirs[1] / ours[1])[:, None, None].to(device)
            self.shift = ((theirs[0] - ours[0]) / ours[1])[:, None, None].to(device)

    def __call__(self, module: nn.Module, args: tuple) -> tuple:
        return self.images(args[0]), *args[1:]

    def images(self, images: Tensor) -> Tensor:
        """A batch as the network wants it."""
        if self.size:
            smooth: dict[str, Any] = {"antialias": True} if self.want.interpolation in SMOOTH else {}
            images = F.interpolate(images, self.size, mode=self.want.interpolation, **smooth)
        if self.scale is not None:
            images = torch.addcmul(self.shift, images, self.scale)
        return images

    @property
    def needed(self) -> bool:
        """Whether it changes anything."""
        return self.size is not None or self.scale is not None

    def __str__(self) -> str:
        steps = []
        if self.size:
            before = f" from {_by(self.have.size)}" if self.have.size else ""
            steps.append(f"images are resized{before} to {_by(self.size)} ({self.want.interpolation})")
        if self.scale is not None:
            steps.append(f"pixels are normalised by mean {_listed(self.want.mean)}, std {_listed(self.want.std)}")
        return "; ".join(steps)


def preparation(model: nn.Module) -> Prepare | None:
    """The `Prepare` in front of a network, or None."""
    return next((hook for hook in model._forward_pre_hooks.values() if isinstance(hook, Prepare)), None)


def without_preparation(model: nn.Module) -> Prepare | None:
    """Take the `Prepare` in front of a network, or of one inside it, away and return it.

    The network then takes images as it wants them.
    """
    for module in model.modules():
        for key, hook in list(module._forward_pre_hooks.items()):
            if isinstance(hook, Prepare):
                del module._forward_pre_hooks[key]
                return hook
    return None


def network_size(model: nn.Module, images: object) -> tuple[int, int] | None:
    """Height and width of the images that a network works on when it is called with a batch; None if they differ."""
    hook = preparation(model)
    return hook.size if hook and hook.size else image_size(images)


def _equal(one: Sequence[float], two: Sequence[float]) -> bool:
    return len(one) == len(two) and all(abs(a - b) < 1e-6 for a, b in zip(one, two))


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _listed(numbers: Sequence[float]) -> str:
    return " ".join(f"{number:.4g}" for number in numbers)
