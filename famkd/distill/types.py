"""The words that methods, distiller and data share: Batch, View, Probe, Method."""

from collections.abc import Iterable
from typing import ClassVar, NamedTuple, Protocol

from torch import Tensor, nn


class Batch(NamedTuple):
    """One step of data."""

    images: Tensor | list[Tensor]  # (B, 3, H, W) normalised floats; detection: a list of (3, H, W)
    targets: Tensor | list[dict[str, Tensor]]  # (B,) class indices; detection: boxes and labels
    index: Tensor  # (B,) position of each image in the training set


class View(NamedTuple):
    """What one network showed for one batch."""

    logits: Tensor | None  # (B, classes)
    feats: list[Tensor]  # in tap order, shallow to deep: (B, C, H, W) maps, (B, C) embeddings
    head: nn.Module | None = None  # the live classifier that made the logits, where one was found


class Probe(NamedTuple):
    """What a method may know before training: both views of one real batch, and the training labels."""

    student: View
    teacher: View
    labels: Tensor | None  # (N,) class of every training image, in `Batch.index` order


class Method(nn.Module):
    """A way to teach: built from a probe, called with both views of a batch, answers named losses.

    The keyword-only arguments of a subclass's `__init__` are its section of a recipe and its help;
    the class attributes below are its published defaults, which a recipe may override per pair.
    """

    wants: ClassVar[str] = "logits"  # "logits", or stages, preact, embed and last joined by +
    teacher_wants: ClassVar[str] = ""  # of the teacher, where that is something else
    weight: ClassVar[float] = 1.0  # of the method's losses
    task_weight: ClassVar[float] = 1.0  # of the student's own loss beside it
    warmup: ClassVar[int] = 0  # epochs over which the method's weight rises linearly

    def __init__(self, probe: Probe | None = None):
        super().__init__()

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        raise NotImplementedError

    def deploy_as(self, student: nn.Module) -> nn.Module | None:
        """The network to measure and export in place of the student (given with this method's taps), if not itself."""
        return None

    def describe(self) -> dict[str, object]:
        """Notes for readers of the saved method, one JSON value per key (taps and shapes of filters, say)."""
        return {}


class Task(Protocol):
    """The two lines in which classification and detection differ, and how each is scored."""

    def study(self, net: nn.Module, batch: Batch) -> tuple[dict[str, Tensor], View]:
        """The student's own losses by name, and what it showed."""

    def teach(self, net: nn.Module, batch: Batch) -> View:
        """What the teacher showed."""

    def evaluate(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
        """Figures on held-out data; the first one ranks epochs."""
