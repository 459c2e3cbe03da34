"""Global pooling and weight initialisation of the networks."""

from torch import nn


def pool_to_vector() -> nn.Sequential:
    """Average a (B, C, H, W) map of any size to a (B, C) vector."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def init_convs(model: nn.Module) -> None:
    """Draw every convolution from He's normal distribution by fan-out, with biases of zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def init_head(head: nn.Linear) -> None:
    """Draw a classifier from a narrow normal distribution, with biases of zero."""
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
