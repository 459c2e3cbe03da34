"""CRD: contrast the student and teacher embeddings of a sample with a memory of the whole training set."""

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

    Args:
        scores: similarities over the temperature, (B, 1 + K), the positive first.
        constant: the normaliser Z.
        size: number of training images.
        eps: added to probabilities.

    Source: Tian et al., "Contrastive Representation Distillation", ICLR 2020, equation 18.
    """
    noise = (scores.shape[1] - 1) / size
    log_p = scores - constant.log()
    floor = math.log(noise + eps)
    log_sum = floor + F.softplus(log_p - floor)  # log(p + noise + eps)
    positive = log_p[:, 0] - log_sum[:, 0]
    negatives = math.log(noise) - log_sum[:, 1:]
    return -(positive + negatives.sum(1)).mean()


class CRD(Method):
    """Contrastive representation distillation: Tian et al., ICLR 2020.

    Negatives are drawn on the device with replacement; the published code draws without. For the published sum with KD
    pass --method crd+kd --kd.weight 1 --kd.task_weight 1.

    Args:
        dim: Width of the common embedding.
        negatives: Number of negatives per sample (K).
        temperature: Divides the similarities.
        momentum: Share of the old memory that an update keeps.
        mode: The positive is the image itself ("exact") or another image of its class ("relax"). Negatives are images
            of other classes.
    """

    wants, weight, reads = "embed", 0.8, ("index",)
    needs_classes = True
    takes_mixed = False  # the memory has one entry for each training image
    relates_images = True  # the memory that an image is compared with changes with each part of a step
    memory_student: Tensor
    memory_teacher: Tensor
    constant_student: Tensor
    constant_teacher: Tensor
    labels: Tensor  # class of each training image
    counts: Tensor  # images of each class
    starts: Tensor  # position of each class in `by_class`
    by_class: Tensor  # training images sorted by class

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
            raise ValueError("CRD needs the class of every training image: use a data set with labels")
        if bool((probe.labels == probe.labels[0]).all()):
            raise ValueError("CRD needs at least two classes in the training set: there would be no negatives")
        self.negatives, self.temperature, self.momentum, self.mode = negatives, temperature, momentum, mode
        s, t = pair(probe.student.feats, probe.teacher.feats)[-1]
        self.student, self.teacher = nn.Linear(flat(s).shape[1], dim), nn.Linear(flat(t).shape[1], dim)
        spread = 1 / math.sqrt(dim / 3)
        # Every process writes the samples of all processes, so that the memories stay equal without a broadcast.
        for name in ("memory_student", "memory_teacher"):
            self.register_buffer(name, torch.empty(len(probe.labels), dim).uniform_(-spread, spread))
        for name in ("constant_student", "constant_teacher"):
            self.register_buffer(name, torch.tensor(-1.0))  # until the first batch has measured it
        self._index_classes(probe.labels.long().cpu())

    def _index_classes(self, labels: Tensor) -> None:
        counts = torch.bincount(labels)
        self.register_buffer("labels", labels, persistent=False)
        self.register_buffer("counts", counts, persistent=False)
        self.register_buffer("starts", counts.cumsum(0) - counts, persistent=False)
        self.register_buffer("by_class", labels.argsort(stable=True), persistent=False)

    def draw(self, index: Tensor) -> Tensor:
        """Positions (B, 1 + K) in the memory: a positive for each of `index`, then negatives of other classes."""
        label = self.labels[index][:, None]
        start, count = self.starts[label], self.counts[label]
        same = index[:, None] if self.mode == "exact" else self.by_class[start + _below(count, 1)]
        # Draw a place among the images sorted by class as if this class were left out, then skip over this class.
        place = _below(len(self.labels) - count, self.negatives)
        place = place + count * (place >= start)
        return torch.cat([same, self.by_class[place]], 1)

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
        """Loss of one network's embeddings (B, dim) against the other network's memory."""
        size = len(memory)
        # One product with the whole memory moves far fewer bytes than gathering K vectors per sample. The memory is
        # copied, because it is overwritten before the backward pass reads it.
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
