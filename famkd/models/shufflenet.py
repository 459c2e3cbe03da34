"""ShuffleNets for small images, with a 1x1 stem: V1 with three groups, V2 at width 1."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from famkd.models.parts import pool_to_vector


class Shuffle(nn.Module):
    """Interleave the channels of `groups` groups, so that the next grouped layer sees all of them."""

    def __init__(self, groups: int):
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)


class ShuffleNet(nn.Module):
    """Stem and stages of V1 and V2. Units are made by `unit(channels, out, stride)`."""

    taps = {
        "stages": ("layer1", "layer2", "layer3"),
        "preact": ("layer1.-1.last_relu:in", "layer2.-1.last_relu:in", "layer3.-1.last_relu:in"),
        "embed": ("avgpool",),
    }
    head = "linear"

    def __init__(self, unit: Callable[[int, int, int], nn.Module], widths: tuple[int, int, int], in_chans: int = 3):
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, 24, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.relu = nn.ReLU()
        for stage, depth, channels, out in zip(self.taps["stages"], (4, 8, 4), (24, *widths), widths):
            units = [unit(channels, out, 2), *(unit(out, out, 1) for _ in range(depth - 1))]
            self.add_module(stage, nn.Sequential(*units))
        self.avgpool = pool_to_vector()

    def stages(self, x: Tensor) -> Tensor:
        """The stem and the three stages."""
        x = self.relu(self.bn1(self.conv1(x)))
        for stage in self.taps["stages"]:
            x = getattr(self, stage)(x)
        return x


class UnitV1(nn.Module):
    """Two grouped 1x1 convolutions around a depthwise 3x3; at stride 2 the pooled input is concatenated."""

    def __init__(self, channels: int, out: int, stride: int, groups: int = 3):
        super().__init__()
        self.halves = stride == 2
        made = out - channels if self.halves else out
        mid = made // 4
        first = 1 if channels == 24 else groups  # the stem is too thin to be split
        self.conv1 = nn.Conv2d(channels, mid, 1, groups=first, bias=False)
        self.bn1 = nn.BatchNorm2d(mid)
        self.relu1 = nn.ReLU()
        self.shuffle = Shuffle(first)
        self.conv2 = nn.Conv2d(mid, mid, 3, stride, 1, groups=mid, bias=False)
        self.bn2 = nn.BatchNorm2d(mid)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(mid, made, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(made)
        self.pool = nn.AvgPool2d(3, 2, 1)
        self.last_relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.shuffle(self.relu1(self.bn1(self.conv1(x))))
        y = self.relu2(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.last_relu(torch.cat([y, self.pool(x)], 1) if self.halves else y + x)


class ShuffleV1(ShuffleNet):
    """ShuffleNet V1 for small images: three groups, stages of 240, 480 and 960 channels."""

    def __init__(self, num_classes: int, in_chans: int = 3):
        super().__init__(UnitV1, (240, 480, 960), in_chans)
        self.linear = nn.Linear(960, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.avgpool(self.stages(x)))


# In both V2 units the last ReLU comes after the concatenation. This changes no value, because the half that passes
# through is already positive, and gives each unit a tap before and a tap after its last ReLU.


class UnitV2(nn.Module):
    """Half of the channels pass through, the other half is transformed, then all are shuffled."""

    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(half, half, 3, 1, 1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.shuffle = Shuffle(2)
        self.last_relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        passed, y = x.chunk(2, 1)
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(y)))))
        y = self.bn3(self.conv3(y))
        return self.last_relu(self.shuffle(torch.cat([passed, y], 1)))


class DownV2(nn.Module):
    """Two branches of stride 2 over all channels, concatenated and shuffled."""

    def __init__(self, channels: int, out: int):
        super().__init__()
        half = out // 2
        self.conv1 = nn.Conv2d(channels, channels, 3, 2, 1, groups=channels, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(channels, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.relu3 = nn.ReLU()
        self.conv4 = nn.Conv2d(half, half, 3, 2, 1, groups=half, bias=False)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)
        self.shuffle = Shuffle(2)
        self.last_relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        left = self.bn2(self.conv2(self.bn1(self.conv1(x))))
        right = self.bn4(self.conv4(self.relu3(self.bn3(self.conv3(x)))))
        right = self.bn5(self.conv5(right))
        return self.last_relu(self.shuffle(torch.cat([left, right], 1)))


def _unit_v2(channels: int, out: int, stride: int) -> nn.Module:
    return DownV2(channels, out) if stride == 2 else UnitV2(out)


class ShuffleV2(ShuffleNet):
    """ShuffleNet V2 for small images: stages of 116, 232 and 464 channels, then a 1x1 convolution to 1024."""

    def __init__(self, num_classes: int, in_chans: int = 3):
        super().__init__(_unit_v2, (116, 232, 464), in_chans)
        self.conv2 = nn.Conv2d(464, 1024, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(1024)
        self.relu2 = nn.ReLU()
        self.linear = nn.Linear(1024, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu2(self.bn2(self.conv2(self.stages(x))))
        return self.linear(self.avgpool(x))
