"""What a classifier answered for each image, and what follows: accuracy by class, confusion, calibration, agreement."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from famkd.distill.types import Batch

BINS = 10  # of confidence, of equal width
ABSENT = -1.0  # accuracy of a class without images


@dataclass(frozen=True, eq=False)
class Answers:
    """Logits and labels of all images that were measured, on the CPU."""

    classes: list[str]
    logits: Tensor  # (N, classes) float32
    labels: Tensor  # (N,) class indices
    index: Tensor  # (N,) position of each image in its split
    teacher: Tensor | None = None  # (N, classes) the teacher's logits
    files: Sequence[str] = ()  # path of each image, where it is known

    @property
    def predicted(self) -> Tensor:
        """(N,) the class with the largest logit."""
        return self.logits.argmax(1)

    @property
    def confidence(self) -> Tensor:
        """(N,) the largest probability, 0..1."""
        return self.logits.softmax(1).amax(1)

    def confusion(self) -> Tensor:
        """(classes, classes) number of images, by label (row) and predicted class (column)."""
        count = self.logits.shape[1]
        return self._pairs().bincount(minlength=count * count).reshape(count, count)

    def _pairs(self) -> Tensor:
        """(N,) label and predicted class as one number."""
        return self.labels * self.logits.shape[1] + self.predicted

    def accuracy_by_class(self) -> list[float]:
        """Percent of right images of each class; -1 for a class without images."""
        count = self.logits.shape[1]
        images = self.labels.bincount(minlength=count)
        right = self.labels[self.predicted == self.labels].bincount(minlength=count)
        return torch.where(images > 0, 100 * right / images, ABSENT).tolist()

    def confusions(self) -> list[tuple[int, int, int]]:
        """Label, predicted class and number of images of each confusion that occurs, the most frequent first."""
        wrong = self._pairs()[self.predicted != self.labels]
        pairs, images = wrong.unique(return_counts=True)
        order = images.sort(descending=True, stable=True).indices
        count = self.logits.shape[1]
        found = zip(pairs[order].tolist(), images[order].tolist())
        return [(pair // count, pair % count, number) for pair, number in found]

    def calibration_error(self) -> float:
        """Expected calibration error (ECE) in percent, over 10 bins of equal width.

        It is the mean over images of |accuracy - confidence| of their bin. Source: Guo et al., On Calibration of Modern
        Neural Networks, ICML 2017.
        """
        sure, right = self.confidence.double(), (self.predicted == self.labels).double()
        bins = (sure * BINS).long().clamp(max=BINS - 1)
        gaps = torch.zeros(BINS, dtype=torch.float64).index_add_(0, bins, right - sure)
        return 100 * float(gaps.abs().sum()) / max(1, len(sure))

    def agreement(self) -> dict[str, float]:
        """How often student and teacher agree, in percent of the images; {} without a teacher.

        `teacher_top1` is the teacher's accuracy; `same_class` counts equal predictions, right or wrong.
        """
        if self.teacher is None or not len(self.labels):
            return {}
        theirs = self.teacher.argmax(1)
        student, teacher = self.predicted == self.labels, theirs == self.labels
        parts = {
            "teacher_top1": teacher,
            "same_class": self.predicted == theirs,
            "both_right": student & teacher,
            "only_student_right": student & ~teacher,
            "only_teacher_right": ~student & teacher,
            "both_wrong": ~student & ~teacher,
        }
        return {name: 100 * float(part.float().mean()) for name, part in parts.items()}


class Recorder:
    """Keeps what a network returns for batches that pass by, while something else measures it.

    Args:
        teacher: a network that is shown the same images.
    """

    def __init__(self, network: nn.Module, teacher: nn.Module | None = None):
        self._network, self._teacher = network, teacher
        self._logits: list[Tensor] = []
        self._shown: list[tuple[Tensor, Tensor]] = []
        self._theirs: list[Tensor] = []

    def watch(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches. The network must be called once for each."""
        handle = self._network.register_forward_hook(lambda _, __, logits: self._logits.append(_kept(logits)))
        try:
            for batch in batches:
                self._shown.append((batch.targets.cpu(), batch.index.cpu()))
                if self._teacher is not None:
                    self._theirs.append(_kept(self._teacher(batch.images)))
                yield batch
        finally:
            handle.remove()

    def answers(self, classes: list[str]) -> Answers:
        """What was recorded."""
        labels, index = (torch.cat(parts) for parts in zip(*self._shown, strict=True))
        theirs = torch.cat(self._theirs) if self._theirs else None
        return Answers(classes, torch.cat(self._logits), labels, index, theirs)


def _kept(logits: Tensor) -> Tensor:
    return logits.detach().float().cpu()
