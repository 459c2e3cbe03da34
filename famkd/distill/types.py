"""The types that methods, tasks, data sets and the distiller share."""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from famkd.features.taps import Tapped
from famkd.ranges import check_options

Engine = Literal["auto", "eager", "compile", "graph"]  # how a training step runs


class Mixed(NamedTuple):
    """The second image in each image of a batch that was mixed of two (mixup, cutmix)."""

    targets: Tensor  # (B,) its class
    share: Tensor  # () of the first image, whose class is in `Batch.targets`: 0.5 or more


class Batch(NamedTuple):
    """One step of data. Images and targets are what the task takes."""

    images: Any  # Tensor (B, C, H, W) of normalised floats; detection: a list of (3, H, W)
    # Tensor (B,) of class indices; (B, labels) of several labels or numbers; (B, 0) of none. Detection: a list of dicts
    # of boxes and labels.
    targets: Any
    index: Tensor  # (B,) position of each image in the training set
    mixed: Mixed | None = None
    class_weights: Tensor | None = None  # (classes,) of each class in the student's own loss; None where all are 1
    teacher: tuple[Tensor, ...] = ()  # the teacher's logits and features at its taps, where they were stored

    def over_labels(self, loss: Callable[[Tensor], Tensor]) -> Tensor:
        """A loss of class indices (B,). Of mixed images it is the losses of both classes, weighted by their shares."""
        if self.mixed is None:
            return loss(self.targets)
        share = self.mixed.share
        return share * loss(self.targets) + (1 - share) * loss(self.mixed.targets)


class Pictures(NamedTuple):
    """Test images of a data set, for looking at: as the networks see them and as people do."""

    images: Tensor  # (B, C, H, W) normalised floats
    labels: Tensor  # (B,) class indices
    pixels: Tensor  # (B, H, W, 3) uint8


class View(NamedTuple):
    """What one network returned for one batch."""

    logits: Tensor | None  # (B, classes)
    feats: list[Tensor]  # in tap order, shallow to deep: (B, C, H, W) maps, (B, C) embeddings
    head: nn.Module | None = None  # the live classifier that made the logits, where one was found


class Probe(NamedTuple):
    """What a method may know before training: both views of one real batch, and the training labels."""

    student: View
    teacher: View
    labels: Tensor | None  # (N,) class of every training image, in `Batch.index` order


class StoredTeacher(NamedTuple):
    """What is known of a teacher whose outputs were stored: they come with each batch."""

    taps: tuple[str, ...]  # names of the features in `Batch.teacher`, in their order
    kinds: Mapping[str, Sequence[str]]  # stages, preact, embed or last to taps
    head: nn.Module | None  # the classifier that made the logits, where it is one linear layer


class Method(nn.Module):
    """A distillation method: built from a probe; called with both views of a batch, it returns named losses.

    The keyword-only arguments of a subclass's `__init__` are its section of a recipe and its help. The class
    attributes below are its published defaults, which a recipe may override per pair.
    """

    wants: ClassVar[str] = "logits"  # "logits", or several of stages, preact, embed and last, joined by +
    teacher_wants: ClassVar[str] = ""  # what it wants of the teacher, where that is different
    uses_classifier: ClassVar[bool] = False  # whether it uses the teacher's classifier, as all that want logits do
    weight: ClassVar[float] = 1.0  # weight of the method's losses
    task_weight: ClassVar[float] = 1.0  # weight of the student's own loss
    warmup: ClassVar[int] = 0  # epochs over which the method's weight rises linearly
    takes_mixed: ClassVar[bool] = True  # whether it can learn from images that are mixed of two (mixup, cutmix)
    # Whether the loss of an image depends on the other images of a step. Such a method sees the images of all processes
    # (it passes what it compares through `famkd.distributed.gather`), and its steps cannot be cut into parts.
    relates_images: ClassVar[bool] = False
    needs_classes: ClassVar[bool] = False  # whether it needs the one class of each training image
    binary: ClassVar[bool] = False  # whether its loss of logits also compares two classes, so that it fits each label
    reads: ClassVar[tuple[str, ...]] = ()  # what its loss reads of a batch besides the images: targets, index

    def __new__(cls, *args: Any, **options: Any):
        """Check the options against the ranges in the annotations of `__init__`; ValueError names the wrong one."""
        check_options(cls, options)
        return super().__new__(cls)

    def __init__(self, probe: Probe | None = None):
        super().__init__()

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        raise NotImplementedError

    def compared(self) -> list[nn.Module]:
        """Modules whose outputs are compared with the teacher's feature maps, shallow to deep; [] if there are none."""
        return []

    def deploy_as(self, student: nn.Module) -> nn.Module | None:
        """The network to measure and export instead of the student, which has this method's taps; None for itself."""
        return None

    def idle_options(self) -> dict[str, str]:
        """Options without effect on these networks and data or next to the other options, each with its reason."""
        return {}

    def describe(self) -> dict[str, object]:
        """Notes for readers of the saved method: one JSON value per key, such as the shape of a filter."""
        return {}


class Dataset(Protocol):
    """Training and test images of one data set, batched for one process of a training.

    The order and the augmentation of an epoch follow from (seed, epoch) alone, so that a resumed run sees the same
    images. `epoch` yields pieces of a plan, which `take` turns into a `Batch` inside the training step: a step that
    is captured as a CUDA graph then includes the augmentation.
    """

    task: ClassVar[str]  # the task that its targets are for, a name from `famkd.tasks.TASKS`
    classes: list[str]
    mean: tuple[float, ...]  # of each channel, for pixels in 0..1
    std: tuple[float, ...]
    device: torch.device
    streamed: bool  # whether worker processes read the images from files during training

    @property
    def labels(self) -> Tensor | None:
        """(N,) class of every training image; None where an image has no single class."""
        ...

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of an image; None where images differ."""
        ...

    @property
    def batch_size(self) -> int:
        """Images in a step of all processes."""
        ...

    @property
    def n_train(self) -> int:
        """Number of training images, without those that are held out."""
        ...

    @property
    def n_test(self) -> int:
        """Number of test images."""
        ...

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        ...

    def epoch(self, number: int, done: int = 0) -> Iterator[Any]:
        """This process's pieces of an epoch, counted from 1, without the first `done` steps."""
        ...

    def take(self, piece: Any) -> Batch:
        """The batch of a piece, on the device."""
        ...

    def probe(self) -> Batch:
        """One real training batch without augmentation, for shapes and first statistics."""
        ...

    def test(self, batch_size: int = 0) -> Iterator[Batch]:
        """This process's share of the test images, in order; 0 for a batch size that suits the device."""
        ...

    def hold_out(self, val: str, seed: int = 0) -> None:
        """Keep a held-out split out of training: a fraction such as "0.1", drawn by a seed, or a split by name.

        Called once, before anything else. Errors: UserError where there is no such split.
        """
        ...

    @property
    def n_val(self) -> int:
        """Number of held-out images; 0 before `hold_out`."""
        ...

    def val(self, batch_size: int = 0) -> Iterator[Batch]:
        """This process's share of the held-out images, as `test` yields test images."""
        ...

    def balance(self, how: Literal["none", "sample", "loss"]) -> None:
        """Show each class equally often, or set `Batch.class_weights`, by the classes' numbers of training images.

        Called once, after `hold_out`.
        """
        ...

    def repeat_views(self, count: int, seed: int = 0) -> None:
        """Augment each image in `count` ways, drawn by a seed of their own: epoch e shows view (e - 1) % count + 1."""
        ...

    def view(self, number: int, positions: Iterable[int], batch_size: int = 0) -> Iterator[Batch]:
        """Training images at some positions under a view, all of them in each process; view 0 is not augmented."""
        ...

    def pictures(self, index: Iterable[int]) -> Pictures:
        """Test images at some positions, without those that cannot be read."""
        ...


class Scores(NamedTuple):
    """Figures of a network on held-out data, in percent; the first one ranks epochs."""

    figures: dict[str, float]
    by_class: list[float] | None = None  # the leading figure of each class; -1 where a class has no test object


class Task(Protocol):
    """What a network does with an image: its loss, what its teacher runs, and how it is scored."""

    name: str
    usual_data: str  # data set of a bare checkpoint, unless another one is named
    outputs: str  # what a network returns a number for, as a reader would call them: classes, labels or numbers
    models: Mapping[str, Callable[..., nn.Module]] | None  # None: `MODELS` and those of timm and torchvision
    engine: Engine  # the only engine that a step can run on; auto for any
    folds_teacher: bool  # whether the teacher's batch norms can be merged into its convolutions
    measures_teacher: bool  # whether the teacher is evaluated on the student's test set before training
    returns_logits: bool  # whether a network returns logits (B, classes), as exports and activation maps need
    judged_by_teacher: bool  # whether the class that the teacher sees in a test image stands in for its label
    has_single_class: bool  # whether an image has one class, so that answers are right or wrong and can be confused

    def refuses(self, method: type[Method]) -> str:
        """Why a method cannot teach this task, or ""."""
        ...

    def option_defaults(self, options: Container[str]) -> dict[str, Any]:
        """New defaults for some of a method's options, by name."""
        ...

    def prepare(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Make the two networks fit each other before training."""
        ...

    def study(self, net: Tapped, batch: Batch) -> tuple[dict[str, Tensor], View]:
        """The student's own losses by name, and its view."""
        ...

    def teach(self, net: Tapped, batch: Batch) -> View:
        """The teacher's view."""
        ...

    def predicted(self, logits: Tensor) -> Tensor:
        """What a reader takes from logits (N, labels), where an image has no single class: probabilities or numbers."""
        ...

    def evaluate(self, model: nn.Module, batches: Iterable[Batch]) -> Scores:
        """Figures on held-out data, summed over all processes."""
        ...
