"""Residual networks for small images: the 6n+2 family in three stages, ResNet18 and ResNet50 in four."""

from torch import Tensor, nn

from famkd.models.parts import init_convs, pool_to_vector


def _shortcut(channels: int, out: int, stride: int) -> nn.Sequential:
    if stride == 1 and channels == out:
        return nn.Sequential()
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, a submodule whose name is the argument `shortcut`."""

    expansion = 1
    last_relu = "relu2"

    def __init__(self, channels: int, width: int, stride: int, shortcut: str):
        super().__init__()
        self.shortcut_name = shortcut
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.add_module(shortcut, _shortcut(channels, width, stride))
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu2(y + getattr(self, self.shortcut_name)(x))


class Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1 ones, and a shortcut, a submodule whose name is the argument `shortcut`."""

    expansion = 4
    last_relu = "relu3"

    def __init__(self, channels: int, width: int, stride: int, shortcut: str):
        super().__init__()
        out = width * self.expansion
        self.shortcut_name = shortcut
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.add_module(shortcut, _shortcut(channels, out, stride))
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.relu2(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu3(y + getattr(self, self.shortcut_name)(x))


Block = type[BasicBlock] | type[Bottleneck]


class ResNet(nn.Module):
    """Stages of residual blocks. Each stage after the first halves the resolution.

    Args:
        shortcut, head: names of two modules, which differ between published checkpoints.
    """

    def __init__(
        self,
        block: Block,
        depths: tuple[int, ...],
        stem: int,
        widths: tuple[int, ...],
        num_classes: int,
        shortcut: str,
        head: str,
        in_chans: int = 3,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, stem, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU()
        stages = tuple(f"layer{i + 1}" for i in range(len(widths)))
        channels = stem
        for stage, depth, width in zip(stages, depths, widths):
            blocks = []
            for i in range(depth):
                stride = 2 if i == 0 and stage != "layer1" else 1
                blocks.append(block(channels, width, stride, shortcut))
                channels = width * block.expansion
            self.add_module(stage, nn.Sequential(*blocks))
        self.avgpool = pool_to_vector()
        self.add_module(head, nn.Linear(channels, num_classes))
        self.head = head
        self.taps = {
            "stages": stages,
            "preact": tuple(f"{stage}.-1.{block.last_relu}:in" for stage in stages),
            "embed": ("avgpool",),
        }
        init_convs(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        for stage in self.taps["stages"]:
            x = getattr(self, stage)(x)
        return getattr(self, self.head)(self.avgpool(x))


def resnet_3_stages(depth: int, stem: int, widths: tuple[int, int, int], num_classes: int, in_chans: int = 3) -> ResNet:
    """ResNet for CIFAR: 6n+2 layers in three stages."""
    return ResNet(BasicBlock, ((depth - 2) // 6,) * 3, stem, widths, num_classes, "downsample", "fc", in_chans)


def resnet_4_stages(block: Block, depths: tuple[int, int, int, int], num_classes: int, in_chans: int = 3) -> ResNet:
    """ResNet of ImageNet for small images: a 3x3 stem of stride 1, no max pooling."""
    return ResNet(block, depths, 64, (64, 128, 256, 512), num_classes, "shortcut", "linear", in_chans)
