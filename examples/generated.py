"""Two small networks and images of four generated classes, for the examples. Put your own in their place."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import famkd


def networks() -> tuple[nn.Module, nn.Module]:
    """A student and a teacher. The teacher is not trained here; give it your weights."""
    return famkd.build_model("resnet8x0.5", 4), famkd.build_model("resnet14x0.5", 4)


def images(count: int = 128) -> DataLoader:
    """Batches of 16 images (3, 16, 16), noise around one pattern for each class, and their classes."""
    torch.manual_seed(0)
    patterns, labels = torch.randn(4, 3, 16, 16), torch.arange(count) % 4
    noisy = patterns[labels] + 0.5 * torch.randn(count, 3, 16, 16)
    return DataLoader(TensorDataset(noisy, labels), batch_size=16, shuffle=True, drop_last=True)
