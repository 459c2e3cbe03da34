"""Methods that use the classifier: SimKD reuses the teacher's, CAT-KD compares class activation maps."""

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from famkd.distill.types import Batch, Method, Probe, View
from famkd.methods.common import fit, pair, pair_maps, precise
from famkd.methods.maps import mse_loss


def linear_head(head: nn.Module | None, feat: Tensor, who: str) -> tuple[Tensor, Tensor | None]:
    """Weight (classes, C) and bias (classes,) of a classifier that reads the map `feat` (B, C, H, W).

    Errors: ValueError unless it is one linear layer or 1x1 convolution with the channels of the map.
    """
    is_pointwise = isinstance(head, nn.Conv2d) and head.kernel_size == (1, 1) and head.groups == 1
    if not isinstance(head, nn.Linear | nn.Conv2d) or not (is_pointwise or isinstance(head, nn.Linear)):
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
    return weight, head.bias


def _check_teacher(view: View) -> None:
    """Raise ValueError unless pooling the last tap and applying the head gives the teacher's own logits."""
    feat = view.feats[-1].float()
    weight, bias = linear_head(view.head, feat, "teacher")
    logits = F.linear(feat.mean((2, 3)), weight.float(), bias)
    if view.logits is None or (logits - view.logits).abs().max() > 0.05 * view.logits.abs().max() + 1e-3:
        raise ValueError(
            "the teacher's classifier does not follow its last tap by global average pooling alone (a norm, an "
            "activation or a layer lies between): tap the map that enters the pooling"
        )


@precise
def cat_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of class activation maps, each map scaled to unit norm.

    Args:
        student, teacher: (B, classes, H, W), from `class_maps`.

    Source: Guo et al., "Class Attention Transfer Based Knowledge Distillation", CVPR 2023.
    """
    over_map: Any = (2, 3)  # torch's annotation allows one dimension only
    return F.mse_loss(F.normalize(student, dim=over_map), F.normalize(teacher, dim=over_map))


@precise
def class_maps(feat: Tensor, weight: Tensor, size: int = 2) -> Tensor:
    """Class activation maps pooled to (B, classes, size, size).

    As published, there is no bias. Pooling and head are both linear, so that pooling first, which is cheaper, is exact.

    Args:
        feat: the map that enters the global pooling, (B, C, H, W).
        weight: of the classifier, (classes, C).

    Source: Guo et al., "Class Attention Transfer Based Knowledge Distillation", CVPR 2023.
    """
    return F.conv2d(F.adaptive_avg_pool2d(feat, size), weight[:, :, None, None])


class Projector(nn.Module):
    """SimKD's bottleneck, 1x1 - 3x3 - 1x1, from the student's channels to the teacher's.

    If the student's map is larger than the teacher's on the probe, it is first pooled by that ratio, for images of any
    size.
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
    """The network that SimKD trains: the student's body, a projector, the teacher's classifier."""

    def __init__(self, student: nn.Module, projector: nn.Module, head: nn.Module):
        super().__init__()
        self.student, self.projector, self.head = student, projector, head

    def forward(self, images: Tensor) -> Tensor:
        _, feats, *_ = self.student(images)
        return self.head(self.projector(feats[-1]).mean((2, 3)))


class SimKD(Method):
    """The teacher's classifier reused on a projected student: Chen et al., CVPR 2022.

    The loss is the mean squared difference of the projected map and the teacher's last map; the larger one is pooled.

    The student's own classifier is not trained: student, projector and the teacher's classifier together are evaluated
    and exported. The projector ends in a ReLU, so the teacher's last tap should not be negative.

    Args:
        factor: Ratio of the teacher's channels to those of the bottleneck.
    """

    wants, weight, task_weight = "last", 1.0, 0.0
    uses_classifier = True

    def __init__(self, probe: Probe, *, factor: Annotated[int, Ge(1)] = 2):
        super().__init__()
        s, t = pair_maps(probe.student.feats, probe.teacher.feats)[-1]
        _check_teacher(probe.teacher)
        self.projector = Projector(s, t, factor)
        weight, bias = linear_head(probe.teacher.head, t, "teacher")
        self.head = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None).requires_grad_(False)
        state = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
        self.head.load_state_dict(state)

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        s, t = pair(student.feats, teacher.feats)[-1]
        return {"simkd": mse_loss(self.projector(s), t)}

    def deploy_as(self, student: nn.Module) -> nn.Module:
        """The trained network, images to logits. `student` returns (logits, feats).

        Projector and head are those of the method, so that eval mode must be undone before training continues.
        """
        return DeployedStudent(student, self.projector, self.head)


class CATKD(Method):
    """Class attention transfer: Guo et al., CVPR 2023. The student's current classifier computes its maps.

    The published weight is between 0.7 and 600, depending on the pair. The default is that of ResNet32x4 to ResNet8x4.

    Args:
        size: Height and width to which the class maps are pooled; 4 for ShuffleNet students.
    """

    wants, weight = "last", 15.0
    uses_classifier = True

    def __init__(self, probe: Probe, *, size: Annotated[int, Ge(1)] = 2):
        super().__init__()
        s, _ = pair_maps(probe.student.feats, probe.teacher.feats)[-1]
        _check_teacher(probe.teacher)
        linear_head(probe.student.head, s, "student")
        self.size = size

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        s, t = pair(student.feats, teacher.feats)[-1]
        with torch.no_grad():
            weight, _ = linear_head(teacher.head, t, "teacher")
            target = class_maps(t, weight, self.size)
        weight, _ = linear_head(student.head, s, "student")
        return {"catkd": cat_loss(class_maps(s, weight, self.size), target)}
