"""Methods that compare maps stage by stage: FitNet, Mimic, AT, NST, VID and OFD."""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Gt
from torch import Tensor, nn

from famkd.distill.types import Batch, Method, Probe, View
from famkd.methods.common import add_up, connector, match_size, pair, pair_maps, precise


@precise
def mse_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of two maps with equal channels. The larger one is pooled down.

    Args:
        student, teacher: (B, C, H, W), each with a height and width of its own.

    Source: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015.
    """
    return F.mse_loss(*match_size(student, teacher))


@precise
def at_loss(student: Tensor, teacher: Tensor, p: float = 2.0) -> Tensor:
    """Mean squared difference of the unit-norm attention maps, the channel mean of |x|^p.

    Args:
        student, teacher: maps (B, C, H, W) with any channels each. The larger one is pooled down first.
        p: power of the activations.

    Source: Zagoruyko and Komodakis, "Paying More Attention to Attention", ICLR 2017.
    """

    def attention(feat: Tensor) -> Tensor:
        return F.normalize(feat.abs().pow(p).mean(1).flatten(1))

    student, teacher = match_size(student, teacher)
    return F.mse_loss(attention(student), attention(teacher))


@precise
def nst_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared maximum mean discrepancy between channels, with the kernel (cosine of two channel maps)^2.

    Args:
        student, teacher: maps (B, C, H, W) with any channels each. The larger one is pooled down first.

    Source: Huang and Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer", 2017.
    """
    student, teacher = match_size(student, teacher)
    s, t = F.normalize(student.flatten(2), dim=2), F.normalize(teacher.flatten(2), dim=2)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return torch.bmm(a, b.mT).square().mean()

    return kernel(t, t).detach() + kernel(s, s) - 2 * kernel(s, t)


@precise
def vid_loss(mean: Tensor, teacher: Tensor, log_scale: Tensor, eps: float = 1e-5) -> Tensor:
    """Gaussian negative log-likelihood of the teacher's map, without its constant, mean over all values.

    Args:
        mean: what a trained regressor makes of the student's map, (B, C, H, W).
        teacher: (B, C, H, W).
        log_scale: trained, (C,): the variance of a channel is softplus(log_scale) + eps.

    Source: Ahn et al., "Variational Information Distillation for Knowledge Transfer", CVPR 2019.
    """
    variance = (F.softplus(log_scale) + eps)[:, None, None]
    return 0.5 * ((mean - teacher).square() / variance + variance.log()).mean()


@precise
def ofd_loss(student: Tensor, teacher: Tensor, margin: Tensor) -> Tensor:
    """Partial squared distance to max(teacher, margin), summed over C, H, W and averaged over the batch.

    There is no loss where the teacher is not positive and the student is below the target.

    Args:
        student, teacher: maps (B, C, H, W) before the activation, with equal channels. The larger one is pooled down.
        margin: (C, 1, 1), negative, from `ofd_margins`.

    Source: Heo et al., "A Comprehensive Overhaul of Feature Distillation", ICCV 2019.
    """
    student, teacher = match_size(student, teacher)
    goal = torch.maximum(teacher, margin)
    counts = (student > goal) | (teacher > 0)
    return ((student - goal).square() * counts).mean(0).sum()


@precise
def margins(preact: Tensor) -> Tensor:
    """E[x | x < 0] of a Gaussian with each channel's mean and deviation: (B, C, H, W) to (C, 1, 1).

    A channel that is negative with a probability below 0.001 gets -3 deviations, as published.

    Source: Heo et al., "A Comprehensive Overhaul of Feature Distillation", ICCV 2019.
    """
    std, mean = torch.std_mean(preact, dim=(0, 2, 3), correction=0)
    std = std.clamp_min(1e-6)
    ratio = mean / std
    log_negative = torch.special.log_ndtr(-ratio)
    log_density = -0.5 * ratio.square() - 0.5 * math.log(2 * math.pi)
    hazard = torch.exp(log_density - log_negative)
    margin = torch.where(log_negative > math.log(0.001), mean - std * hazard, -3 * std)
    return margin[:, None, None]


class FitNet(Method):
    """Hints: Romero et al., ICLR 2015, trained jointly as in RepDistiller and mdistiller.

    A 1x1 convolution and batch norm bring the student's map to the teacher's channels. A ReLU follows if the teacher's
    tap is never negative. If sizes differ, the larger map is average-pooled (mdistiller uses a strided or a transposed
    convolution).

    Args:
        stage: Index of the pair of taps: 0 is the shallowest, -1 the deepest. 1 is the published "hint layer 2", which
            counts the stem.
    """

    wants, weight = "stages", 100.0

    def __init__(self, probe: Probe, *, stage: int = 1):
        super().__init__()
        pairs = pair_maps(probe.student.feats, probe.teacher.feats)
        if not -len(pairs) <= stage < len(pairs):
            raise ValueError(f"stage {stage} does not exist: the pairs of taps are 0 to {len(pairs) - 1}")
        s, t = pairs[stage]
        self.stage, self.regressor = stage, connector(s, t, relu=bool(t.min() >= 0))

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        s, t = pair(student.feats, teacher.feats)[self.stage]
        return {"fitnet": mse_loss(self.regressor(s), t)}


class Mimic(Method):
    """Each stage after a 1x1 convolution is compared with the teacher's by MSE, mean over stages. It has no options.

    This is the plain baseline for detectors, whose pyramids have equal sizes in student and teacher.

    Source: Li et al., "Mimicking Very Efficient Network for Object Detection", CVPR 2017; here on whole maps.
    """

    wants = "stages"

    def __init__(self, probe: Probe):
        super().__init__()
        pairs = pair_maps(probe.student.feats, probe.teacher.feats)
        self.connectors = nn.ModuleList(nn.Conv2d(s.shape[1], t.shape[1], 1) for s, t in pairs)

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        pairs = pair_maps(student.feats, teacher.feats)
        losses = [mse_loss(conv(s), t) for conv, (s, t) in zip(self.connectors, pairs, strict=True)]
        return {"mimic": add_up(losses) / len(losses)}


class AT(Method):
    """Attention transfer: Zagoruyko and Komodakis, ICLR 2017.

    Args:
        p: Power of the activations in the attention map.
    """

    wants, weight = "stages", 1000.0

    def __init__(self, probe: Probe, *, p: Annotated[float, Gt(0)] = 2.0):
        super().__init__()
        pair_maps(probe.student.feats, probe.teacher.feats)
        self.p = p

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        return {"at": add_up(at_loss(s, t, self.p) for s, t in pair(student.feats, teacher.feats))}


class NST(Method):
    """Neuron selectivity transfer: Huang and Wang, 2017. It has no options."""

    wants, weight = "stages", 50.0

    def __init__(self, probe: Probe):
        super().__init__()
        pair_maps(probe.student.feats, probe.teacher.feats)

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        return {"nst": add_up(nst_loss(s, t) for s, t in pair(student.feats, teacher.feats))}


class VID(Method):
    """Variational information distillation: Ahn et al., CVPR 2019. Its log-scales are trained parameters.

    Args:
        init_variance: Initial variance of every channel.
        eps: Smallest variance.
    """

    wants = "stages"

    def __init__(
        self, probe: Probe, *, init_variance: Annotated[float, Gt(0)] = 5.0, eps: Annotated[float, Gt(0)] = 1e-5
    ):
        super().__init__()
        if init_variance <= eps:
            raise ValueError(f"init_variance is {init_variance}, it must be more than eps, {eps}")
        pairs = pair_maps(probe.student.feats, probe.teacher.feats)
        start = math.log(math.expm1(init_variance - eps))
        self.eps = eps
        self.regressors = nn.ModuleList(_vid_regressor(s.shape[1], t.shape[1]) for s, t in pairs)
        self.log_scales = nn.ParameterList(nn.Parameter(torch.full((t.shape[1],), start)) for _, t in pairs)

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        losses = []
        pairs = pair(student.feats, teacher.feats)
        for regressor, log_scale, feats in zip(self.regressors, self.log_scales, pairs):
            s, t = match_size(*feats)
            losses.append(vid_loss(regressor(s), t, log_scale, self.eps))
        return {"vid": add_up(losses)}


def _vid_regressor(student: int, teacher: int) -> nn.Sequential:
    widths = [(student, teacher), (teacher, teacher), (teacher, teacher)]
    convs = [nn.Conv2d(a, b, 1, bias=False) for a, b in widths]
    return nn.Sequential(convs[0], nn.ReLU(), convs[1], nn.ReLU(), convs[2])


class OFD(Method):
    """Overhaul of feature distillation: Heo et al., ICCV 2019. Stage i of L has the weight 1 / 2^(L - 1 - i).

    The published margin takes each channel's mean and deviation from the batch norm before the ReLU. Here they are
    measured on the pre-activations of the probe batch and then kept, so that any teacher can be tapped: after a
    residual sum the input of the ReLU is not the output of a batch norm. It has no options.
    """

    wants, weight = "preact", 1e-3

    def __init__(self, probe: Probe):
        super().__init__()
        pairs = pair_maps(probe.student.feats, probe.teacher.feats)
        self.connectors = nn.ModuleList(connector(s, t) for s, t in pairs)
        for i, (_, t) in enumerate(pairs):
            self.register_buffer(f"margin{i}", margins(t.detach()))

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        losses = []
        deepest = len(self.connectors) - 1
        for i, (s, t) in enumerate(pair(student.feats, teacher.feats)):
            loss = ofd_loss(self.connectors[i](s), t, getattr(self, f"margin{i}"))
            losses.append(loss / 2 ** (deepest - i))
        return {"ofd": add_up(losses)}
