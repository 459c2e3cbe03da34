"""A data set whose batches bring the stored outputs of a teacher."""

import hashlib
from collections import namedtuple
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from famkd.data.views import Views
from famkd.distill.types import Batch, Dataset, StoredTeacher
from famkd.errors import UserError
from famkd.store.columns import decode_features, decode_logits, feature_column, logits_columns
from famkd.store.shards import Store

CLOSE = 0.1  # of normalised pixels: decoders of JPEGs and rounding differ by less, another image by more
COMPARED = 8  # images whose pixels are stored to compare with


class TaughtData:
    """A data set, with the teacher's logits and features in every training batch. All else is the data set's own.

    The store must be of these images, classes and augmentations.

    Args:
        wants: what each method wants of the teacher, by the method's name.

    Errors: UserError where the store is of something else, or lacks what a method wants.
    """

    def __init__(self, data: Dataset, store: Store, wants: dict[str, str]):
        self.data, self.store = data, store
        header = store.header
        taps = dict.fromkeys(tap for name, want in wants.items() for tap in header.taps(want, name))
        self._reference = store.reference()
        _must_be_same_data(data, store, self._reference)
        self.teacher = StoredTeacher(tuple(taps), header.kinds, _head(self._reference, data.device))
        self._columns = [*logits_columns(header.topk), *map(feature_column, taps)]
        self._views = Views(header.views, header.views_seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.data, name)

    def epoch(self, number: int, done: int = 0) -> Iterator[Any]:
        """This process's pieces of an epoch, with the columns that the store holds of their images."""
        view, device = self._views.of_epoch(number), self.data.device
        for piece, rows in self._with_rows(self.data.epoch(number, done)):
            columns = self.store.read(view, rows, self._columns, pin=device.type == "cuda")
            yield _joined(piece, [column.to(device, non_blocking=True) for column in columns])

    def _with_rows(self, pieces: Iterator[Any]) -> Iterator[tuple[Any, Tensor]]:
        """Each piece with its images' positions on the CPU, for which a step on a GPU should not wait."""
        if self.data.streamed:
            for piece in pieces:
                yield piece, piece.index.cpu()
            return
        held = list(pieces)  # of a data set in memory a piece is a few numbers for each image
        if held:
            rows = torch.cat([piece.index for piece in held]).cpu()
            yield from zip(held, rows.split([len(piece.index) for piece in held]))

    def take(self, piece: Any) -> Batch:
        """The batch of a piece, with the teacher's outputs."""
        inner, columns = _parted(piece, len(self._columns))
        return self._taught(self.data.take(inner), columns)

    def probe(self) -> Batch:
        """The first training images without augmentation, as many as the store holds the teacher's outputs of."""
        batch = self.data.probe()
        columns = [self._reference[f"probe/{name}"].to(self.data.device) for name in self._columns]
        count = min(len(batch.index), len(columns[0]))
        shorter = Batch(batch.images[:count], batch.targets[:count], batch.index[:count])
        return self._taught(shorter, [column[:count] for column in columns])

    def _taught(self, batch: Batch, columns: Sequence[Tensor]) -> Batch:
        first = len(self._columns) - len(self.teacher.taps)
        logits = decode_logits(columns[:first], len(self.data.classes))
        return batch._replace(teacher=(logits, *map(decode_features, columns[first:])))


def taught(data: Dataset, store: Store, wants: dict[str, str]) -> Dataset:
    """A data set with the outputs of a stored teacher in its batches."""
    return cast(Dataset, TaughtData(data, store, wants))


def labels_digest(labels: Tensor | None) -> str:
    """SHA-256 of the class of every image."""
    return hashlib.sha256(b"" if labels is None else labels.cpu().numpy().tobytes()).hexdigest()


def reference_images(data: Dataset) -> dict[str, Tensor]:
    """A few training images as they are and under the first view, rounded: enough to know them again."""
    count = data.labels.numel() if data.labels is not None else 0
    positions = torch.linspace(0, count - 1, min(COMPARED, count)).long().unique()
    images = {"positions": positions}
    for name, view in (("plain", 0), ("augmented", 1)):
        batches = list(data.view(view, positions.tolist()))
        images[name] = torch.cat([batch.images for batch in batches]).half().cpu().contiguous()
    return images


def _must_be_same_data(data: Dataset, store: Store, reference: dict[str, Tensor]) -> None:
    """UserError, one sentence, where a store is of other images, classes or augmentations."""
    header, folder = store.header, store.folder
    labels = data.labels
    if list(data.classes) != header.classes:
        other = "in another order" if sorted(data.classes) == sorted(header.classes) else "not these"
        raise UserError(f"{folder} is of {len(header.classes)} classes, {other}: store the teacher for this data set.")
    if labels is None or len(labels) != header.images or labels_digest(labels) != header.labels_sha256:
        raise UserError(
            f"{folder} is of {header.images:,} other training images: pass the --data options that it was made with, "
            "--data.val among them."
        )
    images = reference_images(data)
    for name, what in (("plain", "images"), ("augmented", "augmentations")):
        if not _alike(images[name], reference[name]):
            raise UserError(f"{folder} is of other {what} than these: pass the --data options that it was made with.")


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool((one.float() - other.float()).abs().max() < CLOSE)


def _head(reference: dict[str, Tensor], device: torch.device) -> nn.Module | None:
    """The teacher's classifier, where it is one linear layer."""
    if "head.weight" not in reference:
        return None
    weight = reference["head.weight"]
    with torch.device("meta"):  # it draws no random numbers there, so that a seed starts as with a live teacher
        head = nn.Linear(weight.shape[1], weight.shape[0], bias="head.bias" in reference)
    state = {name.removeprefix("head."): value for name, value in reference.items() if name.startswith("head.")}
    head.load_state_dict(state, assign=True)
    return head.requires_grad_(False).to(device)


def _joined(piece: Any, columns: Sequence[Tensor]) -> Any:
    """A piece with more columns: a flat named tuple, which a step cuts into parts and a CUDA graph copies."""
    return _piece_type(type(piece), len(columns))(*piece, *columns)


@cache
def _piece_type(inner: Any, count: int) -> Any:
    joined: Any = namedtuple("StoredPiece", (*inner._fields, *(f"stored{n}" for n in range(count))))
    joined.inner = inner
    return joined


def _parted(piece: Any, count: int) -> tuple[Any, Sequence[Tensor]]:
    """The data set's own piece, and the stored columns."""
    return type(piece).inner(*piece[:-count]), piece[-count:]
