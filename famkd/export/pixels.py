"""The form in which a file takes images, and networks that convert what they take."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from famkd.export.options import Input
from famkd.features.prepare import Pixels

WHITE = {"unit": 1.0, "bytes": 255.0}  # largest value of a pixel
KINDS = {"normalized": "normalised float32", "unit": "float32 in 0..1", "bytes": "uint8"}


class Normalizing(nn.Module):
    """A network that takes raw pixels and normalises them itself.

    Args:
        mean, std: of each channel, in 0..1.
        full: the value of white: 255 for bytes, 1 for floats.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], full: float):
        super().__init__()
        self.network = network
        scale = 1 / (full * torch.tensor(std))
        self.register_buffer("scale", scale[:, None, None])
        self.register_buffer("shift", (-torch.tensor(mean) / torch.tensor(std))[:, None, None])

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network(pixels.float() * self.scale + self.shift)


class HalfPrecision(nn.Module):
    """A network that computes in float16, and takes and returns float32."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network.half()

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.half()).float()


class Form(NamedTuple):
    """How a file takes images.

    Args:
        want: the size and the normalisation that its network was trained with.
    """

    want: Pixels
    input: Input

    def of(self, normalized: Tensor) -> Tensor:
        """Normalised images (B, C, H, W) in this form."""
        if self.input == "normalized":
            return normalized.contiguous()
        mean, std = self._columns()
        unit = (normalized * std + mean).contiguous()
        return unit if self.input == "unit" else (unit * 255).round().clamp(0, 255).to(torch.uint8)

    def normalized(self, pixels: Tensor) -> Tensor:
        """Images in this form as the network wants them. Pixels that were rounded stay rounded."""
        if self.input == "normalized":
            return pixels
        mean, std = self._columns()
        return (pixels / WHITE[self.input] - mean) / std

    def around(self, network: nn.Module) -> nn.Module:
        """A network that takes images in this form."""
        if self.input == "normalized":
            return network
        return Normalizing(network, self.want.mean, self.want.std, WHITE[self.input])

    def _columns(self) -> Any:
        return (torch.tensor(values)[:, None, None] for values in (self.want.mean, self.want.std))
