"""VGG with batch normalisation and one linear classifier, for small images."""

from torch import Tensor, nn

from famkd.models.parts import init_convs, init_head, pool_to_vector

CHANNELS = (64, 128, 256, 512, 512)


def _block(channels: int, out: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
        channels = out
    return nn.Sequential(
        *layers[:-1]
    )  # checkpoints number the layers without the last ReLU, so it is a module of its own


class VGG(nn.Module):
    """VGG with batch norm for small images: five blocks of 3x3 convolutions and one linear layer."""

    taps = {
        "stages": ("relu1", "relu2", "relu3", "relu4"),
        "preact": ("relu1:in", "relu2:in", "relu3:in", "relu4:in"),
        "embed": ("avgpool",),
    }
    head = "classifier"

    def __init__(self, depths: tuple[int, int, int, int, int], num_classes: int, in_chans: int = 3):
        super().__init__()
        for i, (channels, out, depth) in enumerate(zip((in_chans, *CHANNELS), CHANNELS, depths)):
            self.add_module(f"block{i}", _block(channels, out, depth))
            self.add_module(f"relu{i}", nn.ReLU())
            self.add_module(f"pool{i}", nn.MaxPool2d(2) if i < 4 else nn.Identity())
        self.avgpool = pool_to_vector()
        self.classifier = nn.Linear(CHANNELS[-1], num_classes)
        init_convs(self)
        init_head(self.classifier)

    def forward(self, x: Tensor) -> Tensor:
        pools = 4 if x.shape[-2] == 64 else 3  # as published: the fourth pooling is for Tiny ImageNet only
        for i in range(len(CHANNELS)):
            x = getattr(self, f"block{i}")(x)
            x = getattr(self, f"relu{i}")(x)
            if i < pools:
                x = getattr(self, f"pool{i}")(x)
        return self.classifier(self.avgpool(x))
