"""Methods that compare logits only: KD, DKD, DIST, NKD and WTTM, each with or without logit standardisation."""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Gt
from torch import Tensor

from famkd.distill.types import Batch, Method, Probe, View
from famkd.distributed import gather
from famkd.methods.common import count_classes, precise


@precise
def standardized(logits: Tensor) -> Tensor:
    """Z-score of each sample's logits (B, classes): (z - mean) / (1e-7 + std), std unbiased; 0 where all are equal.

    Source: Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024.
    """
    std, mean = torch.std_mean(logits, dim=1, keepdim=True, correction=min(1, logits.shape[1] - 1))
    return (logits - mean) / (1e-7 + std)


def logits_of(student: View, teacher: View, standardize: bool) -> tuple[Tensor, Tensor]:
    """Both logits (B, classes), standardised on request. Raises ValueError if a network returns none."""
    if student.logits is None or teacher.logits is None:
        raise ValueError("this method compares logits, but a network returns none: choose a method that compares feats")
    if standardize:
        return standardized(student.logits), standardized(teacher.logits)
    return student.logits, teacher.logits


@precise
def kd_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 4.0) -> Tensor:
    """T^2 KL(teacher || student) of the softened classes, mean over the batch.

    Args:
        student_logits, teacher_logits: (B, classes).
        temperature: T, which divides the logits.

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015.
    """
    log_p = F.log_softmax(student_logits / temperature, 1)
    log_q = F.log_softmax(teacher_logits / temperature, 1)
    return F.kl_div(log_p, log_q, reduction="batchmean", log_target=True) * temperature**2


def _is_target(logits: Tensor, targets: Tensor) -> Tensor:
    return torch.arange(logits.shape[1], device=logits.device) == targets[:, None]


def _others(logits: Tensor, target: Tensor) -> Tensor:
    """Log-probabilities (B, classes) among the classes other than the target. The target's entry is -inf."""
    return F.log_softmax(logits.masked_fill(target, -torch.inf), 1)


@precise
def dkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    targets: Tensor,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
) -> Tensor:
    """alpha TCKD + beta NCKD, times T^2, mean over the batch.

    TCKD is the KL of (target, rest), NCKD the KL among the rest, which is 0 for two classes.

    Args:
        student_logits, teacher_logits: (B, classes).
        targets: class indices (B,).
        alpha, beta: weights of TCKD and NCKD.
        temperature: T, which divides the logits.

    Source: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022.
    """
    target = _is_target(student_logits, targets)
    s, t = student_logits / temperature, teacher_logits / temperature
    s_binary, t_binary = _target_or_rest(s, target), _target_or_rest(t, target)
    tckd = F.kl_div(s_binary, t_binary, reduction="batchmean", log_target=True)
    log_p, log_q = _others(s, target).masked_fill(target, 0), _others(t, target)  # saturated logits give no NaN
    nckd = (log_q.exp() * (log_q.masked_fill(target, 0) - log_p)).sum(1).mean()
    return (alpha * tckd + beta * nckd) * temperature**2


def _target_or_rest(logits: Tensor, target: Tensor) -> Tensor:
    """Log-probabilities (B, 2) of the target and of all other classes together."""
    return torch.stack([_log_mass(logits, target), _log_mass(logits, ~target)], 1)


def _log_mass(logits: Tensor, chosen: Tensor) -> Tensor:
    """Log of the total probability (B,) of the chosen classes."""
    return logits.masked_fill(~chosen, -torch.inf).logsumexp(1) - logits.logsumexp(1)


@precise
def pearson(a: Tensor, b: Tensor, dim: int, eps: float = 1e-8) -> Tensor:
    """Pearson correlation of two tensors of equal shape along `dim`; 0 where either is constant."""
    a, b = a - a.mean(dim, keepdim=True), b - b.mean(dim, keepdim=True)
    norms = torch.linalg.vector_norm(a, dim=dim) * torch.linalg.vector_norm(b, dim=dim)
    return (a * b).sum(dim) / (norms + eps)


@precise
def dist_loss(
    student_logits: Tensor, teacher_logits: Tensor, beta: float = 1.0, gamma: float = 1.0, temperature: float = 4.0
) -> Tensor:
    """T^2 (beta (1 - correlation of classes per sample) + gamma (1 - correlation of samples per class)).

    Args:
        student_logits, teacher_logits: (B, classes).
        beta, gamma, temperature: weights of the two relations (of one sample the second is constant), and T.

    Source: Huang et al., "Knowledge Distillation from a Stronger Teacher", NeurIPS 2022.
    """
    p, q = F.softmax(student_logits / temperature, 1), F.softmax(teacher_logits / temperature, 1)
    inter, intra = 1 - pearson(p, q, dim=1).mean(), 1 - pearson(p, q, dim=0).mean()
    return (beta * inter + gamma * intra) * temperature**2


@precise
def nkd_loss(
    student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, gamma: float = 1.5, temperature: float = 1.0
) -> Tensor:
    """-q_target log p_target, plus gamma T^2 times the cross-entropy among the other classes, mean over the batch.

    Args:
        student_logits, teacher_logits: (B, classes).
        targets: class indices (B,).
        gamma: weight of the part of the other classes.
        temperature: T, which divides the logits in that part. The part of the target has temperature 1.

    Source: Yang et al., "From Knowledge Distillation to Self-Knowledge Distillation", ICCV 2023.
    """
    target = _is_target(student_logits, targets)
    matched = _log_mass(teacher_logits, target).exp() * _log_mass(student_logits, target)
    log_p = _others(student_logits / temperature, target).masked_fill(target, 0)
    others = (_others(teacher_logits / temperature, target).exp() * log_p).sum(1)
    return -(matched + gamma * temperature**2 * others).mean()


@precise
def wttm_loss(student_logits: Tensor, teacher_logits: Tensor, power: float = 0.2) -> Tensor:
    """U KL(q^power / U || p), U = sum of q^power, mean over the batch; only the teacher is softened.

    Args:
        student_logits, teacher_logits: (B, classes), of the probabilities p and q.
        power: exponent on the teacher's probabilities, the inverse of a temperature.

    Source: Zheng and Yang, "Knowledge Distillation Based on Transformed Teacher Matching", ICLR 2024.
    """
    powered = F.log_softmax(teacher_logits, 1) * power
    log_u = powered.logsumexp(1, keepdim=True)
    kl = F.kl_div(F.log_softmax(student_logits, 1), powered - log_u, reduction="none", log_target=True).sum(1)
    return (log_u[:, 0].exp() * kl).mean()


class KD(Method):
    """Softened classes: Hinton et al., 2015. `standardize` was published as KD+LS with temperature 2 and weight 9.

    Args:
        temperature: Divides the logits of both networks.
        standardize: Z-score each sample's logits first (LSKD, CVPR 2024).
    """

    wants, weight, task_weight, binary = "logits", 0.9, 0.1, True

    def __init__(self, probe: Probe, *, temperature: Annotated[float, Gt(0)] = 4.0, standardize: bool = False):
        super().__init__()
        count_classes(probe)
        self.temperature, self.standardize = temperature, standardize

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        s, t = logits_of(student, teacher, self.standardize)
        return {"kd": kd_loss(s, t, self.temperature)}


class DKD(Method):
    """Decoupled KD: Zhao et al., CVPR 2022.

    Args:
        alpha: Weight of the target-class part.
        beta: Weight of the non-target part; published values are between 2 and 8, depending on the pair.
        temperature: Divides the logits of both networks.
        standardize: Z-score each sample's logits first (LSKD, CVPR 2024).
    """

    wants, warmup, reads, needs_classes = "logits", 20, ("targets",), True

    def __init__(
        self,
        probe: Probe,
        *,
        alpha: float = 1.0,
        beta: float = 8.0,
        temperature: Annotated[float, Gt(0)] = 4.0,
        standardize: bool = False,
    ):
        super().__init__()
        self.classes = count_classes(probe)
        self.alpha, self.beta, self.temperature, self.standardize = alpha, beta, temperature, standardize

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        s, t = logits_of(student, teacher, self.standardize)
        options = (self.alpha, self.beta, self.temperature)
        return {"dkd": batch.over_labels(lambda targets: dkd_loss(s, t, targets, *options))}

    def idle_options(self) -> dict[str, str]:
        return {"beta": "of two classes only one is not the target"} if self.classes == 2 else {}


class DIST(Method):
    """Correlations instead of the KL divergence: Huang et al., NeurIPS 2022.

    Args:
        beta: Weight of the relation between classes.
        gamma: Weight of the relation between samples.
        temperature: Divides the logits of both networks; 1 on ImageNet.
        standardize: Z-score each sample's logits first (LSKD, CVPR 2024).
    """

    wants, weight = "logits", 2.0
    relates_images = True

    def __init__(
        self,
        probe: Probe,
        *,
        beta: float = 1.0,
        gamma: float = 1.0,
        temperature: Annotated[float, Gt(0)] = 4.0,
        standardize: bool = False,
    ):
        super().__init__()
        self.classes = count_classes(probe)
        self.images = 0 if probe.student.logits is None else len(probe.student.logits)
        self.beta, self.gamma, self.temperature, self.standardize = beta, gamma, temperature, standardize

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        s, t = map(gather, logits_of(student, teacher, self.standardize))
        return {"dist": dist_loss(s, t, self.beta, self.gamma, self.temperature)}

    def idle_options(self) -> dict[str, str]:
        return {"gamma": f"{self.images} images of a step always correlate"} if self.images < 3 else {}


class NKD(Method):
    """Normalised KD: Yang et al., ICCV 2023.

    Args:
        gamma: Weight of the non-target part.
        temperature: Divides the logits in the non-target part.
        standardize: Z-score each sample's logits first (LSKD, CVPR 2024).
    """

    wants, reads, needs_classes = "logits", ("targets",), True

    def __init__(
        self,
        probe: Probe,
        *,
        gamma: float = 1.5,
        temperature: Annotated[float, Gt(0)] = 1.0,
        standardize: bool = False,
    ):
        super().__init__()
        self.classes = count_classes(probe)
        self.gamma, self.temperature, self.standardize = gamma, temperature, standardize

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        s, t = logits_of(student, teacher, self.standardize)
        options = (self.gamma, self.temperature)
        return {"nkd": batch.over_labels(lambda targets: nkd_loss(s, t, targets, *options))}

    def idle_options(self) -> dict[str, str]:
        return {"gamma": "of two classes only one is not the target"} if self.classes == 2 else {}


class WTTM(Method):
    """Weighted transformed-teacher matching: Zheng and Yang, ICLR 2024.

    The paper tunes the weight for each pair. The defaults are those of the public example for VGG13 to VGG8.

    Args:
        power: Exponent on the teacher's probabilities, the inverse of a temperature.
        standardize: Z-score each sample's logits first (LSKD, CVPR 2024).
    """

    wants, weight, binary = "logits", 4.0, True

    def __init__(self, probe: Probe, *, power: Annotated[float, Gt(0)] = 0.2, standardize: bool = False):
        super().__init__()
        count_classes(probe)
        self.power, self.standardize = power, standardize

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        s, t = logits_of(student, teacher, self.standardize)
        return {"wttm": wttm_loss(s, t, self.power)}
