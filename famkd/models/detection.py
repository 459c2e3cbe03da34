"""Faster R-CNN with a feature pyramid, by torchvision, on four backbones: networks that a detector distils."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models import mobilenetv2, resnet
from torchvision.models.detection import FasterRCNN, FasterRCNN_ResNet50_FPN_Weights
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN, resnet_fpn_backbone
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FrozenBatchNorm2d

from famkd.errors import UserError

LEVELS = tuple(f"backbone.fpn.layer_blocks.{level}" for level in range(4))
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # of ImageNet, as the backbones' weights expect
IMAGENET = (True, "IMAGENET1K_V1")
EPSILON = 1e-5  # of every batch norm, frozen or not
STAGE_ENDS = {"3": "0", "6": "1", "13": "2", "17": "3"}  # last block at each stride of MobileNetV2, 4 to 32


class Prepare(GeneralizedRCNNTransform):
    """Normalises images (3, H, W) in 0..1 and pads them to one batch; it never resizes.

    torchvision's own draws a random size in training and takes the largest in eval. Here the data set has scaled the
    images already, so that a teacher in eval mode and a student in train mode see the same pixels.
    """

    def __init__(self):
        super().__init__(min_size=1, max_size=1, image_mean=MEAN, image_std=STD)

    def resize(self, image: Tensor, target: dict | None = None) -> tuple[Tensor, dict | None]:
        return image, target


class PreciseCoder(BoxCoder):
    """Boxes in float32 also under autocast: bfloat16 would round a coordinate of 1000 pixels by 4."""

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        return super().decode_single(rel_codes.float(), boxes.float())


class PreciseAnchors(AnchorGenerator):
    """Anchors in float32 whatever the maps are: in bfloat16 they would lie pixels off at COCO's sizes."""

    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        super().set_cell_anchors(torch.float32, device)


def fasterrcnn(backbone: Callable[..., nn.Module], num_classes: int, pretrained: bool | str = False) -> FasterRCNN:
    """A detector of `num_classes` kinds of objects, background not counted, for images that have their final size.

    Args:
        pretrained: start the backbone from torchvision's ImageNet weights, or, by the name COCO_V1, the whole of a
            ResNet50 detector from its COCO weights; batch norms and the first layers are then frozen.
    """
    model = adopted(FasterRCNN(backbone(pretrained), num_classes + 1))
    if pretrained == "COCO_V1":
        model.load_state_dict(coco_state(num_classes))
    return model


def adopted(model: nn.Module) -> nn.Module:
    """A Faster R-CNN of torchvision, made to take images as they come and to say where its pyramid is."""
    model.transform = Prepare()
    anchors = model.rpn.anchor_generator
    model.rpn.anchor_generator = PreciseAnchors(anchors.sizes, anchors.aspect_ratios)
    model.rpn.box_coder = PreciseCoder(model.rpn.box_coder.weights)
    model.roi_heads.box_coder = PreciseCoder(model.roi_heads.box_coder.weights)
    model.taps, model.head = {"stages": LEVELS, "embed": ()}, "roi_heads.box_predictor.cls_score"
    return model


def resnet_backbone(name: str, pretrained: bool | str) -> nn.Module:
    """A residual network under a pyramid of 256 channels."""
    there = resnet.__dict__[name.replace("resnet", "ResNet") + "_Weights"].IMAGENET1K_V1
    return resnet_fpn_backbone(
        backbone_name=name, weights=there if pretrained in IMAGENET else None, norm_layer=_norm(pretrained),
        trainable_layers=3 if pretrained else 5,
    )  # fmt: skip


def mobilenet_backbone(pretrained: bool | str) -> nn.Module:
    """MobileNetV2 without its last convolution under a pyramid of 256 channels."""
    weights = mobilenetv2.MobileNet_V2_Weights.IMAGENET1K_V1 if pretrained else None
    body = mobilenetv2.mobilenet_v2(weights=weights, norm_layer=_norm(pretrained)).features[:18]
    if pretrained:
        body[:4].requires_grad_(False)  # as of a residual network: what comes at strides 2 and 4
    channels = [body[int(end)].conv[-2].out_channels for end in STAGE_ENDS]
    return BackboneWithFPN(body, STAGE_ENDS, channels, 256)


def coco_state(num_classes: int) -> dict[str, Tensor]:
    """torchvision's weights of a ResNet50 detector, its outputs those of COCO's 80 classes in their order.

    It keeps outputs for 10 numbers that no class has, and was trained with an epsilon of 0 in its batch norms: both
    are mended here, the latter in the variances.
    """
    weights = FasterRCNN_ResNet50_FPN_Weights.COCO_V1
    kinds = weights.meta["categories"]
    rows = [n for n, kind in enumerate(kinds) if kind != "N/A"]
    if len(rows) != num_classes + 1:
        raise UserError(
            f"The weights COCO_V1 know {len(rows) - 1} classes, the data has {num_classes}: leave them out."
        )
    state = dict(weights.get_state_dict(progress=False, check_hash=True))
    for key, value in state.items():
        if key.startswith("roi_heads.box_predictor."):
            state[key] = value.unflatten(0, (len(kinds), -1))[rows].flatten(0, 1)
        elif key.endswith(".running_var"):
            state[key] = value - EPSILON
    return state


def _norm(pretrained: bool | str) -> type[nn.Module]:
    """Two images a device say too little of a batch's statistics; without trained ones there is no choice."""
    return FrozenBatchNorm2d if pretrained else nn.BatchNorm2d


DETECTORS: dict[str, Callable[..., nn.Module]] = {
    "fasterrcnn_resnet18": partial(fasterrcnn, partial(resnet_backbone, "resnet18")),
    "fasterrcnn_resnet50": partial(fasterrcnn, partial(resnet_backbone, "resnet50")),
    "fasterrcnn_resnet101": partial(fasterrcnn, partial(resnet_backbone, "resnet101")),
    "fasterrcnn_mobilenet_v2": partial(fasterrcnn, mobilenet_backbone),
}


def build_detector(name: str, num_classes: int, pretrained: bool | str = False) -> nn.Module:
    """Build one of `DETECTORS`; UserError where its weights have no such name or cannot be fetched."""
    there = ["IMAGENET1K_V1", "COCO_V1"] if name == "fasterrcnn_resnet50" else ["IMAGENET1K_V1"]
    if isinstance(pretrained, str) and pretrained not in there:
        raise UserError(f"There are no weights {pretrained!r} of {name}: there are {', '.join(there)}.")
    try:
        return DETECTORS[name](num_classes, pretrained=pretrained)
    except OSError as error:
        what = "weights" if pretrained == "COCO_V1" else "backbone's ImageNet weights"
        raise UserError(
            f"The {what} of {name} could not be downloaded: check the network, or leave them out to start from random "
            "ones."
        ) from error
