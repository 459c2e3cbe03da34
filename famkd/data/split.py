"""The held-out split: training images that are kept aside, on which the best epoch is chosen."""

from typing import NamedTuple

import numpy as np

from famkd.errors import UserError


class Split(NamedTuple):
    """Which images are held out: a fraction of the training images, or a further split of the data set, by name."""

    fraction: float = 0.0
    name: str = ""
    seed: int = 0  # of the draw of a fraction

    def draw(self, labels: np.ndarray) -> np.ndarray:
        """Positions of the held-out images among training images with these classes (N,), in ascending order.

        Each class gives its share, rounded so that the shares add up to the fraction of all images, and keeps one
        image at least. Images with labels (N, several) are all of one class here. The same labels and seed give the
        same images on every machine and with every version.

        Errors: UserError where no image would be held out.
        """
        if labels.ndim > 1:
            labels = np.zeros(len(labels), np.int64)
        counts = np.bincount(labels)
        quota = _quotas(counts, self.fraction)
        if not quota.sum():
            raise UserError(f"--data.val {self.fraction:g} of {len(labels)} images holds none out: pass a larger part.")
        order = np.random.RandomState(self.seed).permutation(len(labels))  # its stream is promised never to change
        by_class = order[np.argsort(labels[order], kind="stable")]
        first = np.cumsum(counts) - counts
        rank = np.arange(len(labels)) - np.repeat(first, counts)  # of each image within its class
        return np.sort(by_class[rank < np.repeat(quota, counts)])


def read_split(val: str, seed: int = 0) -> Split:
    """The split that the option `--data.val` asks for: a fraction such as "0.1", or a name.

    Errors: UserError for a number that is no fraction.
    """
    try:
        fraction = float(val)
    except ValueError:
        if val.endswith("%"):
            raise UserError(f"--data.val is {val}: write it as a fraction, such as 0.1 for 10 %.") from None
        return Split(name=val)
    if not 0 < fraction < 1:
        raise UserError(f"--data.val is {val}: pass a fraction between 0 and 1, or the name of a split.")
    return Split(fraction, seed=seed)


def _quotas(counts: np.ndarray, fraction: float) -> np.ndarray:
    """How many images each class gives: its share, rounded by the largest remainders."""
    share = counts * fraction
    quota = np.floor(share).astype(np.int64)
    missing = round(float(share.sum())) - int(quota.sum())
    largest = np.argsort(quota - share, kind="stable")[:missing]
    quota[largest] += 1
    return np.minimum(quota, np.maximum(counts - 1, 0))
