"""CRD: contrast each sample's student and teacher embeddings against a memory of the whole training set."""

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from torch import Tensor, nn

from famkd import distributed
from famkd.distill.types import Batch, Method, Probe, View
from famkd.methods.common import flat, pair, precise


@precise
def nce_loss(scores: Tensor, constant: Tensor, size: int, eps: float = 1e-7) -> Tensor:
    """Noise-contrastive loss of one anchor network, mean over the batch.

    Scores (B, 1 + K) are similarities over the temperature, the positive first; `constant` is the
    normaliser Z, `size` the number of training images. Tian et al., ICLR 2020, equation 18.
    """
    noise = (scores.shape[1] - 1) / size
    log_p, floor = scores - constant.log(), math.log(noise + eps)
    log_sum = floor + F.softplus(log_p - floor)  # log(p + noise + eps)
    positive = log_p[:, 0] - log_sum[:, 0]
    negatives = math.log(noise) - log_sum[:, 1:]
    return -(positive + negatives.sum(1)).mean()


class CRD(Method):
    """Contrastive representation distillation: Tian et al., ICLR 2020.

    Negatives are drawn on the device, with replacement (the published code: without). The published sum with KD,
    `crd+kd`, gives each weight: pass --kd.weight 1 --kd.task_weight 1.

    Args:
        dim: Width of the common embedding.
        negatives: How many negatives per sample (K).
        temperature: Divides the similarities.
        momentum: How much of the old memory an update keeps.
        mode: The positive is the image itself ("exact"), or another of its class ("relax"); negatives are of other
            classes.
    """

    wants, weight = "embed", 0.8

    def __init__(
        self,
        probe: Probe,
        *,
        dim: Annotated[int, Ge(1)] = 128,
        negatives: Annotated[int, Ge(1)] = 16384,
        temperature: Annotated[float, Gt(0)] = 0.07,
        momentum: Annotated[float, Ge(0)] = 0.5,
        mode: Literal["exact", "relax"] = "exact",
    ):
        super().__init__()
        if probe.labels is None:
            raise ValueError("CRD needs the class of every training image: use a data set that tells its labels")
        if bool((probe.labels == probe.labels[0]).all()):
            raise ValueError("CRD needs at least two classes in the training set: there would be no negatives")
        self.negatives, self.temperature, self.momentum, self.mode = negatives, temperature, momentum, mode
        s, t = (flat(feat) for feat in pair(probe.student.feats, probe.teacher.feats)[-1])
        self.student, self.teacher = nn.Linear(s.shape[1], dim), nn.Linear(t.shape[1], dim)
        size, spread = len(probe.labels), 1 / math.sqrt(dim / 3)
        # Scored by one product with all of it and then gathered: far fewer bytes than to gather K vectors a sample.
        # Of several processes each writes what all of them saw, so these stay alike as long as nobody broadcasts them.
        for name in ("memory_student", "memory_teacher"):
            self.register_buffer(name, torch.empty(size, dim).uniform_(-spread, spread))
        for name in ("constant_student", "constant_teacher"):  # -1 until the first batch has measured them
            self.register_buffer(name, torch.tensor(-1.0))
        labels = probe.labels.long().cpu()
        counts = torch.bincount(labels)
        self.register_buffer("labels", labels, persistent=False)
        self.register_buffer("counts", counts, persistent=False)
        self.register_buffer("starts", counts.cumsum(0) - counts, persistent=False)
        self.register_buffer("by_class", labels.argsort(stable=True), persistent=False)

    def draw(self, index: Tensor) -> Tensor:
        """Positions (B, 1 + K) of a positive for each of `index`, then of negatives of other classes."""
        label = self.labels[index][:, None]
        start, count = self.starts[label], self.counts[label]
        same = index[:, None] if self.mode == "exact" else self.by_class[start + _below(count, 1)]
        place = _below(len(self.labels) - count, self.negatives)  # in a row of all images by class, without this class
        return torch.cat([same, self.by_class[place + count * (place >= start)]], 1)

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        s, t = pair(student.feats, teacher.feats)[-1]
        chosen = self.draw(batch.index)
        return {"crd": self._contrast(self.student(flat(s)), self.teacher(flat(t)), batch.index, chosen)}

    def _contrast(self, s: Tensor, t: Tensor, index: Tensor, chosen: Tensor) -> Tensor:
        with torch.autocast(s.device.type, enabled=False):
            s, t = F.normalize(s.float()), F.normalize(t.float())
            loss = self._side(s, self.memory_teacher, self.constant_student, chosen)
            loss = loss + self._side(t, self.memory_student, self.constant_teacher, chosen)
            index = distributed.all_gather(index)
            self._remember(self.memory_student, index, distributed.all_gather(s.detach()))
            self._remember(self.memory_teacher, index, distributed.all_gather(t.detach()))
        return loss

    def _side(self, anchor: Tensor, memory: Tensor, constant: Tensor, chosen: Tensor) -> Tensor:
        size = len(memory)
        # a copy, because the memory is overwritten below before backward needs it
        scores = (anchor @ memory.clone().T).gather(1, chosen) / self.temperature
        with torch.no_grad():
            fresh = distributed.all_reduce_mean(scores.exp().mean()) * size
            constant.copy_(torch.where(constant < 0, fresh, constant))
        return nce_loss(scores, constant.clone(), size)

    @torch.no_grad()
    def _remember(self, memory: Tensor, index: Tensor, fresh: Tensor) -> None:
        blended = self.momentum * memory[index] + (1 - self.momentum) * fresh
        memory.index_copy_(0, index, F.normalize(blended))


def _below(room: Tensor, count: int) -> Tensor:
    """Uniform integers (B, count) from 0 to below each of `room` (B, 1)."""
    return (torch.rand(len(room), count, device=room.device) * room).long().minimum(room - 1)
