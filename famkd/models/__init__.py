"""Networks that the literature on distillation compares, and those of timm, torchvision and the hub by prefix."""

import re
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import nn

from famkd.errors import UserError, nearest
from famkd.models.builders import call_builder
from famkd.models.detection import DETECTORS
from famkd.models.hub import PREFIX
from famkd.models.libraries import build_timm, build_torchvision
from famkd.models.mobilenet import MobileNetV1, MobileNetV2
from famkd.models.options import DEFAULTS, BuildOptions, refuse_all
from famkd.models.resnet import BasicBlock, Bottleneck, resnet_3_stages, resnet_4_stages
from famkd.models.shufflenet import ShuffleV1, ShuffleV2
from famkd.models.vgg import VGG
from famkd.models.weights import load_weights
from famkd.models.wrn import WideResNet

__all__ = ["DETECTORS", "MODELS", "build_model", "count_parameters", "load_weights", "must_be_known"]

MODELS: dict[str, Callable[[int], nn.Module]] = {
    "resnet8": partial(resnet_3_stages, 8, 16, (16, 32, 64)),
    "resnet14": partial(resnet_3_stages, 14, 16, (16, 32, 64)),
    "resnet20": partial(resnet_3_stages, 20, 16, (16, 32, 64)),
    "resnet32": partial(resnet_3_stages, 32, 16, (16, 32, 64)),
    "resnet44": partial(resnet_3_stages, 44, 16, (16, 32, 64)),
    "resnet56": partial(resnet_3_stages, 56, 16, (16, 32, 64)),
    "resnet110": partial(resnet_3_stages, 110, 16, (16, 32, 64)),
    "resnet8x4": partial(resnet_3_stages, 8, 32, (64, 128, 256)),
    "resnet32x4": partial(resnet_3_stages, 32, 32, (64, 128, 256)),
    "resnet8x0.5": partial(resnet_3_stages, 8, 8, (8, 16, 32)),  # for digits of 8x8 pixels
    "resnet14x0.5": partial(resnet_3_stages, 14, 8, (8, 16, 32)),
    "ResNet18": partial(resnet_4_stages, BasicBlock, (2, 2, 2, 2)),
    "ResNet50": partial(resnet_4_stages, Bottleneck, (3, 4, 6, 3)),
    "wrn_16_1": partial(WideResNet, 16, 1),
    "wrn_16_2": partial(WideResNet, 16, 2),
    "wrn_40_1": partial(WideResNet, 40, 1),
    "wrn_40_2": partial(WideResNet, 40, 2),
    "vgg8": partial(VGG, (1, 1, 1, 1, 1)),
    "vgg11": partial(VGG, (1, 1, 2, 2, 2)),
    "vgg13": partial(VGG, (2, 2, 2, 2, 2)),
    "vgg16": partial(VGG, (2, 2, 3, 3, 3)),
    "vgg19": partial(VGG, (2, 2, 4, 4, 4)),
    "MobileNetV1": MobileNetV1,
    "MobileNetV2": MobileNetV2,
    "ShuffleV1": ShuffleV1,
    "ShuffleV2": ShuffleV2,
}


def must_be_known(name: str) -> None:
    """Raise UserError, with the nearest names, for a model that is neither in a table here nor of a library."""
    if name in MODELS or name in DETECTORS or re.match("(timm|torchvision):.|hf-hub:.+/.", name):
        return
    hint = nearest(name, [*MODELS, *DETECTORS])
    raise UserError(
        f"There is no model {name!r}.{hint} See `famkd ls models`, use timm:NAME, torchvision:NAME or "
        "hf-hub:OWNER/NAME, or name the file that registers it with --plugins."
    )


def build_model(
    name: str,
    num_classes: int,
    pretrained: bool | str = False,
    size: tuple[int, int] | None = None,
    models: Mapping[str, Callable[..., nn.Module]] | None = None,
    channels: int = 3,
    options: BuildOptions = DEFAULTS,
) -> nn.Module:
    """Build the network `name`: one of `MODELS` or `DETECTORS`, `timm:NAME`, `torchvision:NAME` or `hf-hub:OWNER/NAME`.

    Args:
        pretrained: True for a library's best weights, or the name of some, such as IMAGENET1K_V1 of torchvision. There
            are none to download for `MODELS`; use `load_weights` for a file.
        size: height and width of the images, for networks of the libraries that are built for one size.
        models: a table to look the name up in, such as the networks of a task. Its entries are called as
            `models[name](num_classes, pretrained=pretrained)`.
        options: dropout, drop path and patch size.
        channels: of the images, which networks of timm and builders with an argument `in_chans` are built for.

    Errors: UserError for an unknown name, for weights that do not exist, for a size or a number of channels that does
    not fit, for options that the network does not take, and for a builder in `MODELS` that fails or returns no module.
    """
    if models is not None:
        if name not in models:
            raise UserError(f"There is no model {name!r}.{nearest(name, models)} Choose from {', '.join(models)}.")
        refuse_all(name, options)
        return models[name](num_classes, pretrained=pretrained)
    library, _, rest = name.partition(":")
    if name.startswith(PREFIX):
        if isinstance(pretrained, str):
            raise UserError(f"A model of the hub has one set of weights: leave :{pretrained} out.")
        must_be_known(name)
        return build_timm(name, num_classes, pretrained, size, channels, options)
    if library == "timm" and rest:
        if isinstance(pretrained, str):
            raise UserError(f"timm names weights after a dot, as in {name}.{pretrained}: leave :{pretrained} out.")
        return build_timm(rest, num_classes, pretrained, size, channels, options)
    if library == "torchvision" and rest:
        return build_torchvision(rest, num_classes, pretrained, size, options)
    must_be_known(name)
    if name in DETECTORS:
        refuse_all(name, options)
        return DETECTORS[name](num_classes, pretrained=pretrained)
    if pretrained:
        raise UserError(f"No weights of {name} can be downloaded: give a checkpoint file instead.")
    return call_builder(MODELS[name], name, num_classes, channels, options)


def count_parameters(name: str) -> int:
    """Number of parameters of a network with 100 classes, or of a detector with 91. No memory is allocated for them."""
    with torch.device("meta"):
        model = build_model(name, 91 if name in DETECTORS else 100)
    return sum(parameter.numel() for parameter in model.parameters())
