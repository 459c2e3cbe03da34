"""What networks predict on the same images: agreement, calibration and confusion. Arrays in, figures out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax
from torch import Tensor, nn

from famkd.features.taps import default_taps
from famviz.networks import logits_of, tapping
from famviz.tables import Rows

BINS = 10  # of confidence


class Answers:
    """Logits (N, classes) and embeddings (N, D) of one network, which are filled as images are shown to it."""

    def __init__(self, model: nn.Module, count: int):
        self.model = model
        self.known = np.zeros(count, bool)
        self.logits = np.zeros((count, 0), np.float32)
        self.embeddings = np.zeros((count, 0), np.float32)
        self._taps: list[str] | None = None

    def show(self, positions: Sequence[int], images: Tensor) -> None:
        """Show normalised images (B, 3, H, W) at their positions to the network; it is left as it was."""
        if self._taps is None:
            self._taps = default_taps(self.model, "embed", images[:2])[-1:]
        with tapping(self.model, self._taps) as tapped:
            out, embeddings = tapped(images)
        logits = logits_of(out)
        self.logits = _placed(self.logits, positions, logits)
        self.embeddings = _placed(self.embeddings, positions, _flat(embeddings[0]) if embeddings else logits)
        self.known[list(positions)] = True

    @property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits, (N, classes)."""
        return softmax(self.logits, axis=-1)


def _flat(embeddings: Tensor) -> Tensor:
    """(N, D): of maps their mean over pixels."""
    return embeddings.mean((2, 3)) if embeddings.ndim == 4 else embeddings.flatten(1)


def _placed(values: np.ndarray, positions: Sequence[int], found: Tensor) -> np.ndarray:
    """The array with rows in place, which has the width of the rows from the first time on."""
    rows = found.float().cpu().numpy()
    if not values.shape[1]:
        values = np.zeros((len(values), rows.shape[1]), np.float32)
    values[list(positions)] = rows
    return values


def agreement(
    one: np.ndarray, other: np.ndarray, labels: np.ndarray | None = None, names: tuple[str, str] = ("one", "other")
) -> dict[str, float]:
    """How far two networks agree, from their probabilities (N, classes): shares 0..1 of the images.

    `distance` is the mean total variation distance of the probabilities: 0 for equal ones, 1 for disjoint ones.
    """
    a, b = one.argmax(1), other.argmax(1)
    found = {"same class": np.mean(a == b), "distance": np.mean(np.abs(one - other).sum(1) / 2)}
    if labels is not None:
        right_a, right_b = a == labels, b == labels
        found["both right"] = np.mean(right_a & right_b)
        found[f"only {names[0]} right"] = np.mean(right_a & ~right_b)
        found[f"only {names[1]} right"] = np.mean(~right_a & right_b)
        found["both wrong"] = np.mean(~right_a & ~right_b)
    return {key: float(value) for key, value in found.items()}


@dataclass(frozen=True, eq=False)
class Calibration(Rows):
    """How often a network is right when it says that it is so sure, in bins of equal width."""

    network: str
    edges: np.ndarray  # (bins + 1,) of the confidence
    counts: np.ndarray  # (bins,) images
    confidence: np.ndarray  # (bins,) mean; NaN where there is no image
    accuracy: np.ndarray  # (bins,)

    @property
    def error(self) -> float:
        """Expected calibration error: mean of |accuracy - confidence| over images. Guo et al., ICML 2017."""
        filled = self.counts > 0
        gaps = np.abs(self.accuracy - self.confidence)[filled]
        return float((gaps * self.counts[filled]).sum() / self.counts.sum())

    def rows(self) -> list[dict[str, object]]:
        columns = zip(self.edges[:-1], self.edges[1:], self.counts, self.confidence, self.accuracy)
        return [
            {"network": self.network, "from": float(low), "to": float(high), "images": int(count),
             "confidence": float(sure), "accuracy": float(right)}
            for low, high, count, sure, right in columns
        ]  # fmt: skip

    def __repr__(self) -> str:
        return f"Calibration({self.network}: expected calibration error {self.error:.3f} of {self.counts.sum()} images)"


def calibration(network: str, probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> Calibration:
    """Calibration of the highest probability, from probabilities (N, classes) and labels (N,)."""
    edges = np.linspace(0, 1, bins + 1)
    sure, right = probabilities.max(1), probabilities.argmax(1) == labels
    at = np.clip(np.digitize(sure, edges) - 1, 0, bins - 1)
    counts = np.bincount(at, minlength=bins)
    filled = np.where(counts > 0, counts, np.nan)
    confidence = np.bincount(at, sure, bins) / filled
    accuracy = np.bincount(at, right.astype(float), bins) / filled
    return Calibration(network, edges, counts, confidence, accuracy)


@dataclass(frozen=True, eq=False)
class Confusion(Rows):
    """How often each class of one side meets each class of the other: labels or the predictions of a network."""

    down: str  # what the rows of the counts are: "true class" or a network
    across: str
    counts: np.ndarray  # (classes, classes)
    classes: list[str]

    def rows(self) -> list[dict[str, object]]:
        """The pairs of unlike classes that occur, the most frequent first."""
        unlike = self.counts.copy()
        np.fill_diagonal(unlike, 0)
        order = np.argsort(-unlike, axis=None, kind="stable")[: np.count_nonzero(unlike)]
        pairs = zip(*np.unravel_index(order, unlike.shape))
        return [
            {self.down: called(self.classes, int(i)), self.across: called(self.classes, int(j)),
             "images": int(unlike[i, j])}
            for i, j in pairs
        ]  # fmt: skip

    def __repr__(self) -> str:
        same = int(np.trace(self.counts))
        return f"Confusion({self.down} and {self.across}: {same} of {int(self.counts.sum())} images the same)"


def confusion(
    down: str, rows: np.ndarray, across: str, columns: np.ndarray, count: int, classes: Sequence[str] = ()
) -> Confusion:
    """Counts (count, count) of the pairs of classes in two arrays (N,)."""
    counts = np.zeros((count, count), int)
    np.add.at(counts, (rows, columns), 1)
    return Confusion(down, across, counts, list(classes))


def called(classes: Sequence[str], index: int) -> str:
    """The name of a class, or "class 3" where it has none."""
    return str(classes[index]) if index < len(classes) else f"class {index}"
