"""Methods that use the classifier itself: SimKD reuses the teacher's, CAT-KD compares class activation maps."""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from famkd.distill.types import Batch, Method, Probe, View
from famkd.methods.common import fit, pair, pair_maps, precise
from famkd.methods.maps import mse_loss


def head_weight(head: nn.Module | None, feat: Tensor, who: str) -> Tensor:
    """The weight (classes, C) of a linear or 1x1-convolution head that reads the map `feat` (B, C, H, W).

    Raises ValueError for any other head, or where the channels do not fit.
    """
    linear = isinstance(head, nn.Linear)
    if not linear and not (isinstance(head, nn.Conv2d) and head.kernel_size == (1, 1) and head.groups == 1):
        raise ValueError(
            f"this method needs a {who} whose classifier is one nn.Linear or one 1x1 convolution, not "
            f"{type(head).__name__}: choose a method that compares logits or stages"
        )
    weight = head.weight.flatten(1)
    if weight.shape[1] != feat.shape[1]:
        raise ValueError(
            f"the {who}'s classifier reads {weight.shape[1]} channels but its last tap has {feat.shape[1]}: "
            "tap the map that enters the global pooling"
        )
    return weight


def _check_teacher(view: View) -> None:
    """Raise ValueError unless pooling the last tap and applying the head gives the teacher's own logits."""
    feat, head = view.feats[-1].float(), view.head
    logits = F.linear(feat.mean((2, 3)), head_weight(head, feat, "teacher").float(), head.bias)
    if view.logits is None or (logits - view.logits).abs().max() > 0.05 * view.logits.abs().max() + 1e-3:
        raise ValueError(
            "the teacher's classifier does not follow its last tap by global average pooling alone (a norm, an "
            "activation or a layer lies between): tap the map that enters the pooling"
        )


@precise
def cat_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of class activation maps (B, classes, H, W), each map scaled to unit norm.

    Guo et al., "Class Attention Transfer Based Knowledge Distillation", CVPR 2023.
    """
    return F.mse_loss(F.normalize(student, dim=(2, 3)), F.normalize(teacher, dim=(2, 3)))


@precise
def class_maps(feat: Tensor, weight: Tensor, size: int) -> Tensor:
    """Class activation maps pooled to (B, classes, size, size), from a map (B, C, H, W) and a weight (classes, C).

    No bias, as published. Pooling and head are both linear, so the cheap order, pooling first, is exact.
    """
    return F.conv2d(F.adaptive_avg_pool2d(feat, size), weight[:, :, None, None])


class Projector(nn.Module):
    """SimKD's bottleneck, 1x1 - 3x3 - 1x1, from the student's channels to the teacher's.

    A student map larger than the teacher's on the probe is first pooled by that ratio, in use as in training.
    """

    def __init__(self, student: Tensor, teacher: Tensor, factor: int):
        super().__init__()
        wide, narrow = teacher.shape[1], max(teacher.shape[1] // factor, 1)
        self.scale = [min(t / s, 1.0) for s, t in zip(student.shape[2:], teacher.shape[2:])]
        self.layers = nn.Sequential(
            nn.Conv2d(student.shape[1], narrow, 1, bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(),
            nn.Conv2d(narrow, narrow, 3, padding=1, bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(),
            nn.Conv2d(narrow, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
        )

    def forward(self, feat: Tensor) -> Tensor:
        height, width = (max(round(n * scale), 1) for n, scale in zip(feat.shape[2:], self.scale))
        return self.layers(fit(feat, (height, width)))


class DeployedStudent(nn.Module):
    """The student that SimKD trains: images to logits through student body, projector and teacher's classifier."""

    def __init__(self, student: nn.Module, projector: nn.Module, head: nn.Module):
        super().__init__()
        self.student, self.projector, self.head = student, projector, head

    def forward(self, images: Tensor) -> Tensor:
        _, feats, *_ = self.student(images)
        return self.head(self.projector(feats[-1]).mean((2, 3)))


class SimKD(Method):
    """The teacher's classifier reused on a projected student: Chen et al., CVPR 2022.

    Its loss is the mean squared difference of the projected map and the teacher's last, the larger one pooled down.

    The student's own classifier is never trained: evaluated and exported are student, projector and teacher's head.
    The projector ends in a ReLU: the teacher's last tap should not be negative.

    Args:
        factor: How many times narrower than the teacher's channels the bottleneck is.
    """

    wants, weight, task_weight = "last", 1.0, 0.0

    def __init__(self, probe: Probe, *, factor: Annotated[int, Ge(1)] = 2):
        super().__init__()
        s, t = pair_maps(probe.student.feats, probe.teacher.feats)[-1]
        _check_teacher(probe.teacher)
        self.projector = Projector(s, t, factor)
        weight, bias = head_weight(probe.teacher.head, t, "teacher"), probe.teacher.head.bias
        self.head = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None).requires_grad_(False)
        self.head.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        s, t = pair(student.feats, teacher.feats)[-1]
        return {"simkd": mse_loss(self.projector(s), t)}

    def deploy_as(self, student: nn.Module) -> nn.Module:
        """The trained network, images to logits, around a `student` that answers (logits, feats) for images.

        It shares projector and head with the method: its eval mode has to be taken back before training goes on.
        """
        return DeployedStudent(student, self.projector, self.head)


class CATKD(Method):
    """Class attention transfer: Guo et al., CVPR 2023; the student's live classifier makes its maps.

    The published weight differs per pair from .7 to 600; the default is that of ResNet32x4 to ResNet8x4.

    Args:
        size: Height and width to which the class maps are pooled; 4 for ShuffleNet students.
    """

    wants, weight = "last", 15.0

    def __init__(self, probe: Probe, *, size: Annotated[int, Ge(1)] = 2):
        super().__init__()
        s, _ = pair_maps(probe.student.feats, probe.teacher.feats)[-1]
        _check_teacher(probe.teacher)
        head_weight(probe.student.head, s, "student")
        self.size = size

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        s, t = pair(student.feats, teacher.feats)[-1]
        with torch.no_grad():
            goal = class_maps(t, head_weight(teacher.head, t, "teacher"), self.size)
        return {"catkd": cat_loss(class_maps(s, head_weight(student.head, s, "student"), self.size), goal)}
