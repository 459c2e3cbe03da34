"""Methods that compare relations between the samples of a batch: SP, CC, RKD and PKT."""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from famkd.distill.types import Batch, Method, Probe, View
from famkd.distributed import gather
from famkd.methods.common import flat, must_have_images, pair, precise


@precise
def sp_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference of the row-normalised Gram matrices of the samples, over B^2.

    Args:
        student, teacher: features of any shapes (B, ...).

    Source: Tung and Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019.
    """
    s, t = student.flatten(1), teacher.flatten(1)
    return F.mse_loss(F.normalize(s @ s.T), F.normalize(t @ t.T))


@precise
def cc_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Product of the differences |student - teacher| of neighbouring samples, mean over neighbours.

    A batch of one gives 0.

    Args:
        student, teacher: embeddings (B, D), each through a trained linear layer of its own.

    Source: Peng et al., "Correlation Congruence for Knowledge Distillation", ICCV 2019, as in the public code.
    """
    delta = (student - teacher).abs()
    return (delta[:-1] * delta[1:]).sum() / max(len(delta) - 1, 1)


def _relations(embed: Tensor, eps: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Distances (B, B) over their mean, and cosines (B, B, B) of the angles at the first sample of each triple."""
    lines = embed[None] - embed[:, None]
    n = len(embed)
    others = ~torch.eye(n, dtype=torch.bool, device=embed.device)
    distance = lines.square().sum(2).clamp_min(eps**2).sqrt() * others
    mean = distance.sum() / max(n * (n - 1), 1)
    unit = F.normalize(lines, dim=2, eps=eps)
    return distance / mean.clamp_min(eps), unit @ unit.mT


@precise
def rkd_loss(student: Tensor, teacher: Tensor, distance: float = 25.0, angle: float = 50.0) -> Tensor:
    """Huber loss of all relative distances and of all angles between samples.

    It needs memory for B^2 D and B^3 values.

    Args:
        student, teacher: embeddings (B, D), with any D each.
        distance, angle: weights of the two parts.

    Source: Park et al., "Relational Knowledge Distillation", CVPR 2019.
    """
    (s_far, s_angle), (t_far, t_angle) = _relations(student), _relations(teacher)
    return distance * F.smooth_l1_loss(s_far, t_far) + angle * F.smooth_l1_loss(s_angle, t_angle)


@precise
def pkt_loss(student: Tensor, teacher: Tensor, eps: float = 1e-7) -> Tensor:
    """KL between conditional probabilities of samples, computed from shifted cosines, mean over B^2 entries.

    Args:
        student, teacher: embeddings (B, D), with any D each.
        eps: added to norms and probabilities.

    Source: Passalis and Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", ECCV 2018.
    """

    def neighbours(embed: Tensor) -> Tensor:
        unit = embed / (torch.linalg.vector_norm(embed, dim=1, keepdim=True) + eps)
        similarity = (unit @ unit.T + 1) / 2
        return similarity / similarity.sum(1, keepdim=True)

    p, q = neighbours(student), neighbours(teacher)
    return (q * ((q + eps) / (p + eps)).log()).mean()


def _embeddings(student: View, teacher: View) -> tuple[Tensor, Tensor]:
    s, t = pair(student.feats, teacher.feats)[-1]
    return flat(s), flat(t)


class SP(Method):
    """Similarity-preserving distillation of the deepest stage: Tung and Mori, ICCV 2019. It has no options."""

    wants, weight = "stages", 3000.0
    relates_images = True

    def __init__(self, probe: Probe):
        super().__init__()
        pair(probe.student.feats, probe.teacher.feats)
        must_have_images(probe)

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        s, t = pair(student.feats, teacher.feats)[-1]
        return {"sp": sp_loss(gather(s), gather(t))}


class CC(Method):
    """Correlation congruence: Peng et al., ICCV 2019, with a trained linear embedding of each network.

    As published, both embeddings are trained. Only weight decay and the small weight of the loss keep them from the
    trivial solution in which both shrink to zero.

    Args:
        dim: Width of the common embedding.
    """

    wants, weight = "embed", 0.02
    relates_images = True

    def __init__(self, probe: Probe, *, dim: Annotated[int, Ge(1)] = 128):
        super().__init__()
        s, t = _embeddings(probe.student, probe.teacher)
        must_have_images(probe)
        self.student, self.teacher = nn.Linear(s.shape[1], dim), nn.Linear(t.shape[1], dim)

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        s, t = _embeddings(student, teacher)
        return {"cc": cc_loss(gather(self.student(s)), gather(self.teacher(t)))}


class RKD(Method):
    """Relational distillation: Park et al., CVPR 2019.

    Args:
        distance: Weight of the distances.
        angle: Weight of the angles.
    """

    wants = "embed"
    relates_images = True

    def __init__(self, probe: Probe, *, distance: float = 25.0, angle: float = 50.0):
        super().__init__()
        _embeddings(probe.student, probe.teacher)
        must_have_images(probe, least=3)  # the distance of two images is the mean distance, whatever it is
        self.distance, self.angle = distance, angle

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        s, t = _embeddings(student, teacher)
        return {"rkd": rkd_loss(gather(s), gather(t), self.distance, self.angle)}


class PKT(Method):
    """Probabilistic knowledge transfer: Passalis and Tefas, ECCV 2018. It has no options."""

    wants, weight = "embed", 30000.0
    relates_images = True

    def __init__(self, probe: Probe):
        super().__init__()
        _embeddings(probe.student, probe.teacher)
        must_have_images(probe)

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        s, t = _embeddings(student, teacher)
        return {"pkt": pkt_loss(gather(s), gather(t))}
