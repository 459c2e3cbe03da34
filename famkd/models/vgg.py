"""VGG with batch normalisation and one linear classifier, for small images."""

from torch import Tensor, nn

from famkd.models.parts import init_convs, init_head, pool_to_vector

CHANNELS = (64, 128, 256, 512, 512)


def _block(channels: int, out: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
        channels = out
    return nn.Sequential(*layers[:-1])  # the last ReLU stands outside: checkpoints number the layers without it


class VGG(nn.Module):
    """Five blocks of 3x3 convolutions with `depths` layers each."""

    taps = {
        "stages": ("relu1", "relu2", "relu3", "relu4"),
        "preact": ("relu1:in", "relu2:in", "relu3:in", "relu4:in"),
        "embed": ("avgpool",),
    }
    head = "classifier"

    def __init__(self, depths: tuple[int, int, int, int, int], num_classes: int):
        super().__init__()
        for i, (channels, out, depth) in enumerate(zip((3, *CHANNELS), CHANNELS, depths)):
            self.add_module(f"block{i}", _block(channels, out, depth))
            self.add_module(f"relu{i}", nn.ReLU())
            self.add_module(f"pool{i}", nn.MaxPool2d(2) if i < 4 else nn.Identity())
        self.avgpool = pool_to_vector()
        self.classifier = nn.Linear(CHANNELS[-1], num_classes)
        init_convs(self)
        init_head(self.classifier)

    def forward(self, x: Tensor) -> Tensor:
        height = x.shape[-2]
        x = self.pool0(self.relu0(self.block0(x)))
        x = self.pool1(self.relu1(self.block1(x)))
        x = self.pool2(self.relu2(self.block2(x)))
        x = self.relu3(self.block3(x))
        if height == 64:  # as published: a fourth halving for Tiny ImageNet alone
            x = self.pool3(x)
        return self.classifier(self.avgpool(self.relu4(self.block4(x))))
