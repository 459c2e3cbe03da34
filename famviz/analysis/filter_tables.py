"""Figures of all filters of a level, so that a few chosen pictures cannot mislead."""

from collections.abc import Sequence

import numpy as np
import torch

from famkd.layers.fourier import FourierFilter
from famviz import spectra
from famviz.analysis.filters import filter_figures, strongest
from famviz.filter import Filter
from famviz.load import LoadedRun


def strongest_rows(each: Filter, count: int = 8) -> list[dict[str, object]]:
    """A row for each of the strongest filters of a level: channels, energy, frequencies that it passes, direction."""
    figures = filter_figures(each)
    pairs = strongest(each, count)
    rows: list[dict[str, object]] = []
    for c_out, c_in in pairs:
        row: dict[str, object] = {"out": c_out, "in": c_in}
        rows.append(row | {name: float(values[c_out, c_in]) for name, values in figures.items()})
    return rows


def against_noise(filters: Sequence[Filter]) -> list[dict[str, object]]:
    """Two rows for each level: its trained filters, and noise of the same size, as filters that prefer nothing.

    Centroids are fractions of Nyquist, a coherence is 0 (all directions) to 1 (one direction). Means and spreads are
    over all filters of the level.
    """
    rows = []
    for each in filters:
        for name, response in (("trained", each.response), ("noise", noise_like(each))):
            centroid = spectra.centroid_frequency(response, each.size[1])
            coherence = spectra.orientation(response, each.size[1])[1]
            row: dict[str, object] = {"level": each.title, "filters": name}
            row |= {"centroid, mean": float(centroid.mean()), "centroid, spread": float(centroid.std())}
            row |= {"coherence, mean": float(coherence.mean()), "coherence, spread": float(coherence.std())}
            rows.append(row)
    return rows


def noise_like(each: Filter) -> np.ndarray:
    """The response of a filter of random weights, of the same channels, size and high-pass."""
    highpass = {name: value for name, value in each.options.items() if name in ("highpass", "cutoff", "order")}
    c_out, c_in = each.channels
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        module = FourierFilter(c_in, c_out, each.size, init="balanced", **highpass)
    return module.response().detach().numpy()


def formation(run: LoadedRun, most: int = 5) -> list[dict[str, object]]:
    """A row for each level and epoch: energy, and how alike its amplitude is to that after the last epoch.

    `likeness` is the cosine between the two pictures of amplitude, less their means: 1 where they differ only in
    strength. `energy` is relative to that of the last epoch. [] if the run saved no summaries.

    Args:
        most: number of epochs at most, evenly spaced from the first to the last; 0 for all.
    """
    rows = []
    for each in run.filters:
        epochs, summaries = run.history(each, most)
        pictures = [summary["amplitude"] for summary in summaries]
        for epoch, picture in zip(epochs, pictures):
            row: dict[str, object] = {"level": each.title, "epoch": epoch, "likeness": _cosine(picture, pictures[-1])}
            rows.append(row | {"energy": float(np.square(picture).sum() / np.square(pictures[-1]).sum())})
    return rows


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    a, b = one - one.mean(), other - other.mean()
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float((a * b).sum()) / scale if scale else float("nan")
