"""MobileNetV2 at half width for small images, and MobileNetV1 for ImageNet."""

from torch import Tensor, nn

from famkd.models.parts import init_convs, init_head, pool_to_vector


def _conv(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out), nn.ReLU()]


class InvertedResidual(nn.Module):
    """Expand, depthwise convolution, project without a ReLU; with a shortcut where the shape stays."""

    def __init__(self, channels: int, out: int, stride: int, expand: int):
        super().__init__()
        wide = channels * expand
        self.keeps_shape = stride == 1 and channels == out
        self.conv = nn.Sequential(
            *_conv(channels, wide, 1),
            *_conv(wide, wide, 3, stride, groups=wide),
            *_conv(wide, out, 1)[:-1],
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.keeps_shape else self.conv(x)


class MobileNetV2(nn.Module):
    """MobileNetV2 at half width for small images: the stem has stride 2, the second stage stride 1."""

    # A block ends in a linear convolution without a ReLU, so preact is the same as stages.
    taps = {
        "stages": ("blocks.1", "blocks.2", "blocks.4", "blocks.6"),
        "preact": ("blocks.1", "blocks.2", "blocks.4", "blocks.6"),
        "embed": ("avgpool",),
    }
    head = "classifier.0"
    # widening, channels, blocks and stride of each stage
    STAGES = (
        (1, 8, 1, 1),
        (6, 12, 2, 1),
        (6, 16, 3, 2),
        (6, 32, 4, 2),
        (6, 48, 3, 1),
        (6, 80, 3, 2),
        (6, 160, 1, 1),
    )

    def __init__(self, num_classes: int, in_chans: int = 3):
        super().__init__()
        channels = 16
        self.conv1 = nn.Sequential(*_conv(in_chans, channels, 3, stride=2))
        self.blocks = nn.Sequential()
        for expand, out, depth, stride in self.STAGES:
            stage = nn.Sequential()
            for i in range(depth):
                stage.append(InvertedResidual(channels, out, stride if i == 0 else 1, expand))
                channels = out
            self.blocks.append(stage)
        self.conv2 = nn.Sequential(*_conv(channels, 1280, 1))
        self.avgpool = pool_to_vector()
        head = nn.Linear(1280, num_classes)
        self.classifier = nn.Sequential(head)
        init_convs(self)
        init_head(head)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.conv2(self.blocks(self.conv1(x)))))


class MobileNetV1(nn.Module):
    """MobileNetV1 for ImageNet: thirteen pairs of a depthwise and a pointwise convolution."""

    taps = {
        "stages": ("model.3", "model.5", "model.11", "model.13"),
        "preact": ("model.3.-1:in", "model.5.-1:in", "model.11.-1:in", "model.13.-1:in"),
        "embed": ("avgpool",),
    }
    head = "fc"
    # channels and stride of each pair
    PAIRS = (
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        *((512, 1),) * 5,
        (1024, 2),
        (1024, 1),
    )

    def __init__(self, num_classes: int, in_chans: int = 3):
        super().__init__()
        channels = 32
        self.model = nn.Sequential(nn.Sequential(*_conv(in_chans, channels, 3, stride=2)))
        for out, stride in self.PAIRS:
            depthwise = _conv(channels, channels, 3, stride, groups=channels)
            self.model.append(nn.Sequential(*depthwise, *_conv(channels, out, 1)))
            channels = out
        self.avgpool = pool_to_vector()
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.avgpool(self.model(x)))
