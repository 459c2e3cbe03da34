"""Wide residual networks, with batch norm and ReLU before each convolution."""

from collections import OrderedDict

from torch import Tensor, nn

from famkd.models.parts import init_convs, pool_to_vector


class PreactBlock(nn.Module):
    """Two 3x3 convolutions, each after its own batch norm and ReLU, and a shortcut."""

    def __init__(self, channels: int, out: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.convShortcut = nn.Conv2d(channels, out, 1, stride, bias=False) if channels != out else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(x))
        shortcut = x if self.convShortcut is None else self.convShortcut(y)
        return shortcut + self.conv2(self.relu2(self.bn2(self.conv1(y))))


def _stage(depth: int, channels: int, out: int, stride: int) -> nn.Sequential:
    blocks = [PreactBlock(channels, out, stride), *(PreactBlock(out, out, 1) for _ in range(depth - 1))]
    return nn.Sequential(OrderedDict(layer=nn.Sequential(*blocks)))


class WideResNet(nn.Module):
    """Wide residual network of 6n+4 layers, with stages of 16, 32 and 64 times `widen` channels."""

    # A stage ends in a sum, and published results of this network compare these sums. The batch norm and ReLU that
    # belong to a sum are the first layers of the next stage.
    taps = {
        "stages": ("block1", "block2", "block3"),
        "preact": ("block2.layer.0.relu1:in", "block3.layer.0.relu1:in", "relu:in"),
        "embed": ("avgpool",),
    }
    head = "fc"

    def __init__(self, depth: int, widen: int, num_classes: int, in_chans: int = 3):
        super().__init__()
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(in_chans, 16, 3, 1, 1, bias=False)
        self.block1 = _stage(blocks, 16, 16 * widen, 1)
        self.block2 = _stage(blocks, 16 * widen, 32 * widen, 2)
        self.block3 = _stage(blocks, 32 * widen, 64 * widen, 2)
        self.bn1 = nn.BatchNorm2d(64 * widen)
        self.relu = nn.ReLU()
        self.avgpool = pool_to_vector()
        self.fc = nn.Linear(64 * widen, num_classes)
        init_convs(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(self.avgpool(self.relu(self.bn1(x))))
