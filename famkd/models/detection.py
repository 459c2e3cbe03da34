"""Detectors by name. torchvision, which they come from, is imported when one is built."""

from collections.abc import Callable
from functools import partial

from torch import nn

from famkd.errors import UserError

LEVELS = tuple(f"backbone.fpn.layer_blocks.{level}" for level in range(4))  # of a pyramid, shallow to deep


def build_detector(backbone: str, num_classes: int, pretrained: bool | str = False) -> nn.Module:
    """Faster R-CNN with a feature pyramid, for object detection.

    Args:
        backbone: resnet18, resnet50, resnet101 or mobilenet_v2.
        num_classes: kinds of objects, the background not counted.
        pretrained: True or IMAGENET1K_V1 loads torchvision's ImageNet weights of the backbone. COCO_V1, which only
            resnet50 has, loads the weights of the whole detector.

    Errors: UserError for weights that do not exist, do not fit or cannot be downloaded.
    """
    from famkd.models.faster_rcnn import fasterrcnn

    name = f"fasterrcnn_{backbone}"
    known = ["IMAGENET1K_V1", "COCO_V1"] if backbone == "resnet50" else ["IMAGENET1K_V1"]
    if isinstance(pretrained, str) and pretrained not in known:
        raise UserError(f"There are no weights {pretrained!r} of {name}: there are {', '.join(known)}.")
    try:
        return fasterrcnn(backbone, num_classes, pretrained)
    except OSError as error:
        what = "weights" if pretrained == "COCO_V1" else "backbone's ImageNet weights"
        raise UserError(
            f"The {what} of {name} could not be downloaded: check the network, or leave them out to start from random "
            "ones."
        ) from error


DETECTORS: dict[str, Callable[..., nn.Module]] = {
    "fasterrcnn_resnet18": partial(build_detector, "resnet18"),
    "fasterrcnn_resnet50": partial(build_detector, "resnet50"),
    "fasterrcnn_resnet101": partial(build_detector, "resnet101"),
    "fasterrcnn_mobilenet_v2": partial(build_detector, "mobilenet_v2"),
}
