"""Mixed precision: matrix products in bfloat16, or in float16 with a scaled loss."""

from typing import Any

import torch
from lightning_fabric.plugins.precision import Precision
from torch import Tensor, nn


class Autocast(Precision):
    """Matrix products in bfloat16 and nothing else.

    Fabric's own plug-in also casts the inputs of a step, such as the boxes of detection, and hooks the losses, which
    splits a compiled step.
    """

    precision = "bf16-mixed"

    def __init__(self, device: str):
        self.device = device

    def forward_context(self) -> torch.autocast:
        return torch.autocast(self.device, torch.bfloat16)


class ScaledAutocast(Precision):
    """Matrix products in float16, and gradients of a scaled loss: small ones would be 0 in float16.

    Where the scaled gradients overflow, the scaler leaves the step out and halves the scale.
    """

    precision = "16-mixed"

    def __init__(self, device: str):
        self.device = device
        self.scaler = torch.amp.GradScaler(device)

    def forward_context(self) -> torch.autocast:
        return torch.autocast(self.device, torch.float16)

    def backward(self, tensor: Tensor, model: nn.Module | None, *args: Any, **kwargs: Any) -> None:
        super().backward(self.scaler.scale(tensor), model, *args, **kwargs)

    def optimizer_step(self, optimizer: Any, **kwargs: Any) -> Any:
        result = self.scaler.step(optimizer, **kwargs)
        self.scaler.update()
        return result

    def unscale_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        self.scaler.unscale_(optimizer)
