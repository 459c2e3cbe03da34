"""torchvision's Faster R-CNN with a feature pyramid, adapted for distillation.

This module imports torchvision, so `famkd.models.detection` imports it only when it builds a detector.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights, mobilenetv2
from torchvision.models.detection import FasterRCNN, FasterRCNN_ResNet50_FPN_Weights
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN, resnet_fpn_backbone
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FrozenBatchNorm2d

from famkd.errors import UserError
from famkd.models.detection import LEVELS

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # of ImageNet, as the backbones' weights expect
IMAGENET = (True, "IMAGENET1K_V1")
EPSILON = 1e-5  # of every batch norm, frozen or not
# Last block of MobileNetV2 at each stride from 4 to 32, and the name of its map.
STAGE_ENDS = {"3": "0", "6": "1", "13": "2", "17": "3"}


class KeepSize(GeneralizedRCNNTransform):
    """Normalise images (3, H, W) in 0..1 and pad them to one batch, without resizing.

    torchvision's transform draws a random size in training and uses the largest one in evaluation. Here the data set
    has already resized the images, so that a teacher in eval mode and a student in train mode see the same pixels.
    """

    def __init__(self):
        super().__init__(min_size=1, max_size=1, image_mean=MEAN, image_std=STD)

    def resize(self, image: Tensor, target: dict | None = None) -> tuple[Tensor, dict | None]:
        return image, target


class PreciseCoder(BoxCoder):
    """Decode boxes in float32 even under autocast: bfloat16 would round a coordinate of 1000 pixels by 4."""

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        return super().decode_single(rel_codes.float(), boxes.float())


class PreciseAnchors(AnchorGenerator):
    """Anchors in float32 whatever the dtype of the maps: in bfloat16 they would be off by pixels at COCO's sizes."""

    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        super().set_cell_anchors(torch.float32, device)


def fasterrcnn(backbone: str, num_classes: int, pretrained: bool | str = False) -> FasterRCNN:
    """Faster R-CNN for images that already have their final size.

    Args:
        backbone: mobilenet_v2, or the name of one of torchvision's residual networks.
        num_classes: kinds of objects, the background not counted.
        pretrained: True or IMAGENET1K_V1 for ImageNet weights of the backbone, COCO_V1 for weights of the whole
            detector. Batch norms and the first layers are then frozen.
    """
    is_mobilenet = backbone == "mobilenet_v2"
    pyramid = mobilenet_backbone(pretrained) if is_mobilenet else resnet_backbone(backbone, pretrained)
    model = adapt_detector(FasterRCNN(pyramid, num_classes + 1))
    if pretrained == "COCO_V1":
        model.load_state_dict(coco_state(num_classes))
    return model


def adapt_detector(model: FasterRCNN) -> FasterRCNN:
    """Make a Faster R-CNN of torchvision take images at their size, and name the taps of its pyramid."""
    detector: Any = model  # has parts and attributes that torch's annotations do not know
    detector.transform = KeepSize()
    anchors = detector.rpn.anchor_generator
    detector.rpn.anchor_generator = PreciseAnchors(anchors.sizes, anchors.aspect_ratios)
    for part in (detector.rpn, detector.roi_heads):
        part.box_coder = PreciseCoder(part.box_coder.weights)
    detector.taps = {"stages": LEVELS, "embed": ()}
    detector.head = "roi_heads.box_predictor.cls_score"
    return detector


def resnet_backbone(name: str, pretrained: bool | str) -> nn.Module:
    """A residual network under a pyramid of 256 channels."""
    weights = None
    if pretrained in IMAGENET:
        weights = get_model_weights(name)["IMAGENET1K_V1"]
    return resnet_fpn_backbone(
        backbone_name=name,
        weights=weights,
        norm_layer=_norm(pretrained),
        trainable_layers=3 if pretrained else 5,
    )


def mobilenet_backbone(pretrained: bool | str) -> nn.Module:
    """MobileNetV2 without its last convolution, under a pyramid of 256 channels."""
    weights = mobilenetv2.MobileNet_V2_Weights.IMAGENET1K_V1 if pretrained else None
    body: Any = mobilenetv2.mobilenet_v2(weights=weights, norm_layer=_norm(pretrained)).features[:18]
    if pretrained:
        body[:4].requires_grad_(False)  # strides 2 and 4, which torchvision freezes in a residual network
    channels = [body[int(end)].conv[-2].out_channels for end in STAGE_ENDS]
    return BackboneWithFPN(body, STAGE_ENDS, channels, 256)


def coco_state(num_classes: int) -> dict[str, Tensor]:
    """torchvision's weights of a ResNet50 detector, with outputs for COCO's 80 classes in their order.

    The published weights also have outputs for 10 category numbers that COCO does not use; they are dropped. They
    were trained with an epsilon of 0 in the batch norms; the variances are shifted to give the same function.
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
    """The kind of batch norm. Two images per device give poor batch statistics, so those of trained weights are kept.

    Random weights come without trained statistics, which leaves the ordinary batch norm.
    """
    return FrozenBatchNorm2d if pretrained else nn.BatchNorm2d
