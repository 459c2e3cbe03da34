"""A fixed number of augmentations of each training image, which the epochs use in turn."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Views(NamedTuple):
    """Which augmentations there are: view v of image i follows from (seed, v, i) alone."""

    count: int
    seed: int

    def of_epoch(self, epoch: int) -> int:
        """The view that an epoch, counted from 1, shows; views are counted from 1 too."""
        return (epoch - 1) % self.count + 1


def batches_of(positions: Iterable[int], batch_size: int) -> Iterator[list[int]]:
    """Positions in groups of `batch_size`; the last may be shorter."""
    rows = list(positions)
    for start in range(0, len(rows), batch_size):
        yield rows[start : start + batch_size]
