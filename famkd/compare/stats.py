"""The statistics of a comparison: a paired test, and its correction for the number of tests."""

import statistics
from collections.abc import Mapping, Sequence
from math import isnan, nan
from typing import NamedTuple

from scipy.stats import ttest_rel

CONSTANT = 1e-9  # differences that vary less than this are identical but for rounding


class Paired(NamedTuple):
    """Mean difference over common seeds, its 95 % confidence interval and the p of a two-sided paired t-test.

    With a single seed interval and p are NaN. Where the difference is the same for every seed, p is NaN.
    """

    difference: float
    low: float
    high: float
    p: float
    n: int


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation, in words; the mean alone of a single value."""
    mean = f"{statistics.mean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def paired(one: Mapping[int, float], other: Mapping[int, float]) -> Paired | None:
    """Test one group of runs against another, paired by seed; None without a common seed."""
    seeds = sorted(one.keys() & other.keys())
    if not seeds:
        return None
    differences = [one[seed] - other[seed] for seed in seeds]
    mean = statistics.mean(differences)
    if len(seeds) == 1:
        return Paired(mean, nan, nan, nan, 1)
    if max(differences) - min(differences) < CONSTANT:  # a t-test would report p = 0
        return Paired(mean, mean, mean, nan, len(seeds))
    test = ttest_rel([one[seed] for seed in seeds], [other[seed] for seed in seeds])
    low, high = test.confidence_interval(0.95)
    return Paired(mean, float(low), float(high), float(test.pvalue), len(seeds))


def holm(p_values: list[float]) -> list[float]:
    """Adjust p values for the number of tests by Holm's method; a NaN is no test and stays NaN.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics, 1979.
    """
    adjusted = [nan] * len(p_values)
    tested = sorted((p, place) for place, p in enumerate(p_values) if not isnan(p))
    largest = 0.0
    for rank, (p, place) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(tested) - rank)))
        adjusted[place] = largest
    return adjusted
